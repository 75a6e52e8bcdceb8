// y = act(W x + bias) for one or a few rows of X: decoding. X [M][K] f32, W [N][K] through lib/unit_*, Y [M][ldy] f32.
// NORM: x is replaced by gain ⊙ x · (mean(x²) + eps)^-½, whose sum of squares is taken in the same loop.
// GLU: row j of the result is silu(W_j x) · (W_{j+N/2} x), so that gate and up never go through memory.
// PAIRS LoRA pairs of the rows are added before the gated unit (lib/lora_*); x has one row then.
// One workgroup of W threads makes ROWS rows of W: each thread takes units of 16 along K (unit, unit + W, …) and all ROWS rows of
// it, so that many loads are under way at one time and x is loaded once for all rows. Sums in f32: a thread's own, then over the
// workgroup in shared memory. AHEAD: the first units are loaded before anything else. Grid: RANK + ceil(N / ROWS), folded over y when wide; rows of X along z.

struct Pair {
  row0: u32,      // rows that the pair owns, and no other
  rows: u32,
  r: u32,
  aRow: u32,      // its first element of u
  b: u32,         // where its B begins
  scale: f32,
  pad0: u32,
  pad1: u32,
}

struct Params {
  n: u32,
  k: u32,         // a multiple of 4
  rowWords: u32,  // words of a weight row
  ldx: u32,       // row strides of X and Y in elements
  ldy: u32,
  column: u32,    // first column of Y
  eps: f32,
  most: u32,      // words of a half of `handover`
  half: u32,      // where the half begins whose turn it is: 0 or `most`
  pad0: u32,
  pad1: u32,
  pad2: u32,
  pairs: array<Pair, 3>,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(4) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> y: array<f32>;
@group(0) @binding(6) var<storage, read> gain: array<vec4<f32>>;  // another buffer when there is no norm

const OUTPUTS = select(ROWS, ROWS / 2u, GLU);
// Sums of a workgroup: one a row, and the sum of squares.
const VALUES = ROWS + 1u;
const PARTS = 8u;
const STRIDE = W + PARTS;  // the padding keeps the parts of different values in different banks

var<workgroup> partial: array<f32, VALUES * STRIDE>;
var<workgroup> tail: array<f32, VALUES * PARTS>;

fn x4(base: u32, k: u32) -> vec4<f32> {
  if (k < p.k) {
    return x[(base + k) / 4u];
  }
  return vec4<f32>();
}

fn gain4(k: u32) -> vec4<f32> {
  if (k < p.k) {
    return gain[k / 4u];
  }
  return vec4<f32>();
}

// Row of W that is the r-th of the workgroup whose first output is `first`.
fn weight_row(first: u32, r: u32) -> u32 {
  if (GLU) {
    return min(first + r % OUTPUTS, p.n / 2u - 1u) + select(0u, p.n / 2u, r >= OUTPUTS);
  }
  return min(first + r, p.n - 1u);
}

fn total(value: u32) -> f32 {
  var sum = 0.0;
  for (var i = 0u; i < PARTS; i++) {
    sum += tail[value * PARTS + i];
  }
  return sum;
}

@compute @workgroup_size(W)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>,
        @builtin(local_invocation_index) lid: u32) {
  prepare(lid);
  let group = wg.y * grid.x + wg.x;
  if (group < RANK) {
    make_low(group, lid);
    return;
  }
  let first = (group - RANK) * OUTPUTS;
  let outputs = select(p.n, p.n / 2u, GLU);
  let units = (p.k + 15u) / 16u;
  let i = wg.z;  // row of X
  var w: array<Unit, ROWS>;
  if (AHEAD) {
    for (var r = 0u; r < ROWS; r++) {
      w[r] = load_unit(weight_row(first, r), min(lid, units - 1u), p.rowWords);
    }
  }
  // What is needed last: its load is under way while the weight is read.
  let ahead = lora_ahead(first, lid);
  let at = i * p.ldy + p.column + first + lid;
  let isMine = lid < OUTPUTS && first + lid < outputs;
  var before = 0.0;
  if (ACCUMULATE) {
    before = y[min(at, i * p.ldy + p.column + outputs - 1u)];
  }
  if (BIAS) {
    before += bias[min(first + lid, outputs - 1u)];
  }
  var acc: array<f32, ROWS>;
  var square = 0.0;
  for (var u = lid; u < units; u += W) {
    if (!AHEAD || u > lid) {
      for (var r = 0u; r < ROWS; r++) {
        w[r] = load_unit(weight_row(first, r), u, p.rowWords);
      }
    }
    let k = u * 16u;
    var x0 = x4(i * p.ldx, k);
    var x1 = x4(i * p.ldx, k + 4u);
    var x2 = x4(i * p.ldx, k + 8u);
    var x3 = x4(i * p.ldx, k + 12u);
    if (NORM) {
      square += dot(x0, x0) + dot(x1, x1) + dot(x2, x2) + dot(x3, x3);
      x0 *= gain4(k);
      x1 *= gain4(k + 4u);
      x2 *= gain4(k + 8u);
      x3 *= gain4(k + 12u);
    }
    let all = x0 + x1 + x2 + x3;
    let xSum = all.x + all.y + all.z + all.w;
    for (var r = 0u; r < ROWS; r++) {
      acc[r] += unit_dot(w[r], x0, x1, x2, x3, xSum);
    }
  }
  let asked = ask_low(lid);
  for (var r = 0u; r < ROWS; r++) {
    partial[r * STRIDE + lid] = acc[r];
  }
  partial[ROWS * STRIDE + lid] = square;
  take_low(lid, asked);
  workgroupBarrier();
  for (var t = lid; t < VALUES * PARTS; t += W) {
    var sum = 0.0;
    for (var j = t % PARTS; j < W; j += PARTS) {
      sum += partial[(t / PARTS) * STRIDE + j];
    }
    tail[t] = sum + lora_part(first, t, t == lid, ahead);
  }
  workgroupBarrier();
  if (isMine) {
    let scale = select(1.0, inverseSqrt(total(ROWS) / f32(p.k) + p.eps), NORM);
    var v = total(lid) * scale;
    if (GLU) {
      v = silu(v) * total(lid + OUTPUTS) * scale;
    }
    y[at] = activate(v + before);
  }
}
