// y = act(x · Wᵀ + bias) for one or a few rows of X: each weight is read once for all M rows (M ≤ MAX_M).  X [M][K] f32, W [N][K], Y [M][ldy].
// A workgroup of 128 threads is 8 teams of 16 lanes; a team makes ROWS outputs, its lanes stride along K in chunks of 32.
// Sums in f32: in registers along K, then a tree over the 16 lanes in shared memory.  Grid: (ceil(N / (8·ROWS)), 1), folded over y when wide.

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

const LANES = 16u;
const ROWS = 2u;

var<workgroup> partial: array<vec2<f32>, 128>;

@compute @workgroup_size(128)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>,
        @builtin(local_invocation_index) lid: u32) {
  let team = lid / LANES;
  let lane = lid % LANES;
  let row = ((wg.y * grid.x + wg.x) * 8u + team) * ROWS;
  let chunks = (p.k + 31u) / 32u;
  for (var i = 0u; i < p.m; i++) {
    var sum = vec2<f32>();
    if (row < p.n) {
      let second = min(row + 1u, p.n - 1u);
      for (var c = lane; c < chunks; c += LANES) {
        var xs: array<vec4<f32>, 8>;
        var total = vec4<f32>();
        for (var j = 0u; j < 8u; j++) {
          let k = c * 32u + j * 4u;
          if (k < p.k) {
            xs[j] = x[(i * p.ldx + k) / 4u];
          }
          total += xs[j];
        }
        let xSum = total.x + total.y + total.z + total.w;
        sum += vec2<f32>(chunk_dot(row, c, p.rowWords, &xs, xSum), chunk_dot(second, c, p.rowWords, &xs, xSum));
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
    if (lane < ROWS && row + lane < p.n) {
      let at = i * p.ldy + p.column + row + lane;
      var v = partial[team * LANES][lane];
      if (BIAS) {
        v += bias[row + lane];
      }
      if (ACCUMULATE) {
        v += y[at];
      }
      y[at] = activate(v);
    }
  }
}
