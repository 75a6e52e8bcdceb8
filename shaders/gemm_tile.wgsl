// C = scale · op(A) · op(B), or C += when ACCUMULATE, for the small f32 factors of LoRA.  op(A) [M][K], op(B) [K][N], C [M][N], all f32.
// A is stored [M][K], or [K][M] when TRANSPOSE_A; B is stored [K][N], or [N][K] when TRANSPOSE_B. Rows lie lda, ldb, ldc elements apart.
// With SPLIT, z takes the k from z·kSlice on and C receives plain partial products [z][M][N], to be added by gemm_reduce.wgsl.
// A workgroup makes a tile of TM × TN; each of its TM·TN/16 threads holds 4 × 4. Sums in f32.  Grid: (ceil(N/TN), ceil(M/TM), slices of k).

struct Params {
  m: u32,
  n: u32,
  k: u32,
  kSlice: u32,  // a multiple of 16
  lda: u32,
  ldb: u32,
  ldc: u32,
  a0: u32,      // first elements
  b0: u32,
  c0: u32,
  scale: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read> b: array<f32>;
@group(0) @binding(3) var<storage, read_write> c: array<f32>;

const BK = 16u;
const RM = TM / 4u;
const RN = TN / 4u;
const THREADS = RM * RN;

// [k][row / 4] and [k][column / 4]: four rows, or columns, of the tile side by side.
var<workgroup> at: array<vec4<f32>, BK * RM>;
var<workgroup> bt: array<vec4<f32>, BK * RN>;

fn a1(i: u32, k: u32, end: u32) -> f32 {
  if (i < p.m && k < end) {
    return a[p.a0 + select(i * p.lda + k, k * p.lda + i, TRANSPOSE_A)];
  }
  return 0.0;
}

fn b1(k: u32, j: u32, end: u32) -> f32 {
  if (j < p.n && k < end) {
    return b[p.b0 + select(k * p.ldb + j, j * p.ldb + k, TRANSPOSE_B)];
  }
  return 0.0;
}

fn store(i: u32, j0: u32, z: u32, value: vec4<f32>) {
  for (var e = 0u; e < 4u; e++) {
    let j = j0 + e;
    if (i < p.m && j < p.n) {
      if (SPLIT) {
        c[(z * p.m + i) * p.n + j] = value[e];
      } else {
        let to = p.c0 + i * p.ldc + j;
        c[to] = p.scale * value[e] + select(0.0, c[to], ACCUMULATE);
      }
    }
  }
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
  let row0 = wg.y * TM;
  let col0 = wg.x * TN;
  let end = min(p.k, (wg.z + 1u) * p.kSlice);
  let ty = lid / RN;
  let tx = lid % RN;
  var c0 = vec4<f32>(); var c1 = vec4<f32>(); var c2 = vec4<f32>(); var c3 = vec4<f32>();
  for (var k0 = wg.z * p.kSlice; k0 < end; k0 += BK) {
    workgroupBarrier();
    // Neighbouring threads read along the rows that memory holds.
    for (var i = lid; i < BK * RM; i += THREADS) {
      let k = select(i % BK, i / RM, TRANSPOSE_A);
      let r = select(i / BK, i % RM, TRANSPOSE_A);
      let row = row0 + 4u * r;
      at[k * RM + r] = vec4<f32>(
        a1(row, k0 + k, end), a1(row + 1u, k0 + k, end), a1(row + 2u, k0 + k, end), a1(row + 3u, k0 + k, end));
    }
    for (var i = lid; i < BK * RN; i += THREADS) {
      let k = select(i / RN, i % BK, TRANSPOSE_B);
      let r = select(i % RN, i / BK, TRANSPOSE_B);
      let col = col0 + 4u * r;
      bt[k * RN + r] = vec4<f32>(
        b1(k0 + k, col, end), b1(k0 + k, col + 1u, end), b1(k0 + k, col + 2u, end), b1(k0 + k, col + 3u, end));
    }
    workgroupBarrier();
    for (var k = 0u; k < BK; k++) {
      let av = at[k * RM + ty];
      let bv = bt[k * RN + tx];
      c0 += av.x * bv;
      c1 += av.y * bv;
      c2 += av.z * bv;
      c3 += av.w * bv;
    }
  }
  let row = row0 + ty * 4u;
  let col = col0 + tx * 4u;
  store(row, col, wg.z, c0);
  store(row + 1u, col, wg.z, c1);
  store(row + 2u, col, wg.z, c2);
  store(row + 3u, col, wg.z, c3);
}
