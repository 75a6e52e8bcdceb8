// dX = dY · W, or dX += when ACCUMULATE: the gradient of Y = X · Wᵀ from the same packed rows, nothing transposed in memory.
// dY [M][ldy] f32 from column `column` on, W [N][K] in any scheme of lib/weight_*, dX [M][K] f32.
// One workgroup of 64 threads makes a tile of 64 × 64 of dX over all n; each thread holds 8 × 8. Sums in f32.  Grid: (ceil(K/64), ceil(M/64)).

struct Params {
  m: u32,
  n: u32,
  k: u32,         // a multiple of 4
  rowWords: u32,  // words of a weight row
  ldy: u32,       // row stride of dY in elements
  column: u32,    // first column of dY
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(3) var<storage, read> dy: array<f32>;
@group(0) @binding(4) var<storage, read_write> dx: array<vec4<f32>>;

const TILE = 64u;
const BN = 16u;

// [n][row / 4] and [n][k / 4]: four rows, or four columns, of the tile side by side.
var<workgroup> ys: array<vec4<f32>, 256>;
var<workgroup> ws: array<vec4<f32>, 256>;

fn y1(row: u32, n: u32) -> f32 {
  if (row < p.m && n < p.n) {
    return dy[row * p.ldy + p.column + n];
  }
  return 0.0;
}

fn store(row: u32, k: u32, value: vec4<f32>) {
  if (row >= p.m || k >= p.k) {
    return;
  }
  let at = (row * p.k + k) / 4u;
  if (ACCUMULATE) {
    dx[at] += value;
  } else {
    dx[at] = value;
  }
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
  let row0 = wg.y * TILE;
  let k0 = wg.x * TILE;
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
  for (var n0 = 0u; n0 < p.n; n0 += BN) {
    workgroupBarrier();
    for (var i = lid; i < 256u; i += 64u) {
      // Neighbouring threads read neighbouring n of a row of dY, and neighbouring words of a row of W.
      let n = i % BN;
      let row = row0 + (i / BN) * 4u;
      ys[n * 16u + i / BN] = vec4<f32>(y1(row, n0 + n), y1(row + 1u, n0 + n), y1(row + 2u, n0 + n), y1(row + 3u, n0 + n));
      let wn = n0 + i / 16u;
      let k = k0 + (i % 16u) * 4u;
      var w = vec4<f32>();
      if (wn < p.n && k < p.k) {
        w = weight4(wn, k, p.rowWords);
      }
      ws[i] = w;
    }
    workgroupBarrier();
    for (var n = 0u; n < BN; n++) {
      let ya = ys[n * 16u + ty * 2u];
      let yb = ys[n * 16u + ty * 2u + 1u];
      let wa = ws[n * 16u + tx * 2u];
      let wb = ws[n * 16u + tx * 2u + 1u];
      a0 += ya.x * wa; b0 += ya.x * wb;
      a1 += ya.y * wa; b1 += ya.y * wb;
      a2 += ya.z * wa; b2 += ya.z * wb;
      a3 += ya.w * wa; b3 += ya.w * wb;
      a4 += yb.x * wa; b4 += yb.x * wb;
      a5 += yb.y * wa; b5 += yb.y * wb;
      a6 += yb.z * wa; b6 += yb.z * wb;
      a7 += yb.w * wa; b7 += yb.w * wb;
    }
  }
  let row = row0 + ty * 8u;
  let col = k0 + tx * 8u;
  store(row, col, a0); store(row, col + 4u, b0);
  store(row + 1u, col, a1); store(row + 1u, col + 4u, b1);
  store(row + 2u, col, a2); store(row + 2u, col + 4u, b2);
  store(row + 3u, col, a3); store(row + 3u, col + 4u, b3);
  store(row + 4u, col, a4); store(row + 4u, col + 4u, b4);
  store(row + 5u, col, a5); store(row + 5u, col + 4u, b5);
  store(row + 6u, col, a6); store(row + 6u, col + 4u, b6);
  store(row + 7u, col, a7); store(row + 7u, col + 4u, b7);
}
