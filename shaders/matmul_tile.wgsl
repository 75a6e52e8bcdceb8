// Y = act(X · Wᵀ + bias), or Y += X · Wᵀ + bias when ACCUMULATE.  X [M][K] f32, W [N][K] in any scheme of lib/weight_*, Y [M][ldy] f32.
// One workgroup of 64 threads makes a tile of 64 × 64 outputs; each thread holds 8 × 8 of them. Sums in f32.
// Grid: (ceil(N/64), ceil(M/64)).

struct Params {
  m: u32,
  n: u32,
  k: u32,         // a multiple of 4
  rowWords: u32,  // words of a weight row
  ldx: u32,       // row strides of X and Y in elements
  ldy: u32,
  column: u32,    // first column of Y
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(4) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> y: array<f32>;

const TILE = 64u;
const BK = 16u;

// [k][row / 4]: four rows of the tile side by side.
var<workgroup> xs: array<vec4<f32>, 256>;
var<workgroup> ws: array<vec4<f32>, 256>;

fn x4(row: u32, k: u32) -> vec4<f32> {
  if (row < p.m && k < p.k) {
    return x[(row * p.ldx + k) / 4u];
  }
  return vec4<f32>();
}

fn w4(row: u32, k: u32) -> vec4<f32> {
  if (row < p.n && k < p.k) {
    return weight4(row, k, p.rowWords);
  }
  return vec4<f32>();
}

fn store(row: u32, col: u32, value: vec4<f32>) {
  if (row >= p.m) {
    return;
  }
  for (var i = 0u; i < 4u; i++) {
    if (col + i < p.n) {
      let at = row * p.ldy + p.column + col + i;
      var v = value[i];
      if (BIAS) {
        v += bias[col + i];
      }
      if (ACCUMULATE) {
        v += y[at];
      }
      y[at] = activate(v);
    }
  }
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
  let row0 = wg.y * TILE;
  let col0 = wg.x * TILE;
  // Loading: a block of 4 rows × 4 k for each thread, turned on its way into shared memory.
  let lr = (lid / 4u) * 4u;
  let lk = (lid % 4u) * 4u;
  // Computing: rows 8·ty.., columns 8·tx.. of the tile.
  let ty = lid / 8u;
  let tx = lid % 8u;
  var a0 = vec4<f32>(); var b0 = vec4<f32>();
  var a1 = vec4<f32>(); var b1 = vec4<f32>();
  var a2 = vec4<f32>(); var b2 = vec4<f32>();
  var a3 = vec4<f32>(); var b3 = vec4<f32>();
  var a4 = vec4<f32>(); var b4 = vec4<f32>();
  var a5 = vec4<f32>(); var b5 = vec4<f32>();
  var a6 = vec4<f32>(); var b6 = vec4<f32>();
  var a7 = vec4<f32>(); var b7 = vec4<f32>();
  for (var k0 = 0u; k0 < p.k; k0 += BK) {
    let xr = transpose(mat4x4<f32>(
      x4(row0 + lr, k0 + lk), x4(row0 + lr + 1u, k0 + lk), x4(row0 + lr + 2u, k0 + lk), x4(row0 + lr + 3u, k0 + lk)));
    let wr = transpose(mat4x4<f32>(
      w4(col0 + lr, k0 + lk), w4(col0 + lr + 1u, k0 + lk), w4(col0 + lr + 2u, k0 + lk), w4(col0 + lr + 3u, k0 + lk)));
    workgroupBarrier();
    let at = lk * 16u + lr / 4u;
    xs[at] = xr[0]; xs[at + 16u] = xr[1]; xs[at + 32u] = xr[2]; xs[at + 48u] = xr[3];
    ws[at] = wr[0]; ws[at + 16u] = wr[1]; ws[at + 32u] = wr[2]; ws[at + 48u] = wr[3];
    workgroupBarrier();
    for (var k = 0u; k < BK; k++) {
      let xa = xs[k * 16u + ty * 2u];
      let xb = xs[k * 16u + ty * 2u + 1u];
      let wa = ws[k * 16u + tx * 2u];
      let wb = ws[k * 16u + tx * 2u + 1u];
      a0 += xa.x * wa; b0 += xa.x * wb;
      a1 += xa.y * wa; b1 += xa.y * wb;
      a2 += xa.z * wa; b2 += xa.z * wb;
      a3 += xa.w * wa; b3 += xa.w * wb;
      a4 += xb.x * wa; b4 += xb.x * wb;
      a5 += xb.y * wa; b5 += xb.y * wb;
      a6 += xb.z * wa; b6 += xb.z * wb;
      a7 += xb.w * wa; b7 += xb.w * wb;
    }
  }
  let row = row0 + ty * 8u;
  let col = col0 + tx * 8u;
  store(row, col, a0); store(row, col + 4u, b0);
  store(row + 1u, col, a1); store(row + 1u, col + 4u, b1);
  store(row + 2u, col, a2); store(row + 2u, col + 4u, b2);
  store(row + 3u, col, a3); store(row + 3u, col + 4u, b3);
  store(row + 4u, col, a4); store(row + 4u, col + 4u, b4);
  store(row + 5u, col, a5); store(row + 5u, col + 4u, b5);
  store(row + 6u, col, a6); store(row + 6u, col + 4u, b6);
  store(row + 7u, col, a7); store(row + 7u, col + 4u, b7);
}
