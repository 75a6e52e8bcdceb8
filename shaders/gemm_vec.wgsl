// C = scale · A · Bᵀ, or C += when ACCUMULATE, for one or a few rows of A: the LoRA products of a decoded token.
// A [M][K], B [N][K], C [M][N], all f32, rows lda, ldb, ldc elements apart.
// A workgroup of 64 threads is 64/LANES teams; a team makes one column of C, its lanes stride along K.
// Sums in f32: in registers, then a tree over the lanes.  Grid: ceil(N / (64/LANES)), folded over y.

struct Params {
  m: u32,
  n: u32,
  k: u32,
  lda: u32,
  ldb: u32,
  ldc: u32,
  a0: u32,     // first elements
  b0: u32,
  c0: u32,
  scale: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read> b: array<f32>;
@group(0) @binding(3) var<storage, read_write> c: array<f32>;

var<workgroup> partial: array<f32, 64>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>,
        @builtin(local_invocation_index) lid: u32) {
  let lane = lid % LANES;
  let j = (wg.y * grid.x + wg.x) * (64u / LANES) + lid / LANES;
  for (var i = 0u; i < p.m; i++) {
    var sum = 0.0;
    if (j < p.n) {
      for (var k = lane; k < p.k; k += LANES) {
        sum += a[p.a0 + i * p.lda + k] * b[p.b0 + j * p.ldb + k];
      }
    }
    workgroupBarrier();
    partial[lid] = sum;
    workgroupBarrier();
    for (var stride = LANES / 2u; stride > 0u; stride >>= 1u) {
      if (lane < stride) {
        partial[lid] += partial[lid + stride];
      }
      workgroupBarrier();
    }
    if (lane == 0u && j < p.n) {
      let to = p.c0 + i * p.ldc + j;
      c[to] = p.scale * partial[lid] + select(0.0, c[to], ACCUMULATE);
    }
  }
}
