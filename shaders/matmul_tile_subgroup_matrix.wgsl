// The products of matmul_tile.wgsl on the device's matrix units: Y = act(X · Wᵀ + bias), or Y += …; with BACKWARD dX = dY · W.
// X comes in f16, as matmul_tile_fragments.wgsl has laid it out, and goes from memory straight into the units, a fragment ahead of what
// they compute. W is opened into shared memory, a step of BK (32 or 64) into one half of it while the other half is computed with. Sums are f32.
// One workgroup is SG_ROWS × SG_COLS subgroups of SUBGROUP threads, each of which makes FR × FC (2 or 4) fragments of 16 × 16 outputs.
// Fragments go by name and both halves are written out, where lib/matrix_step.wgsl stands for 32 along K each time: loops around the products,
// arrays of fragments, functions that return them and a half that is a variable all cost 10 to 90 % (DECISIONS.md, 2026-11-28).
// Grid: (ceil(N / BN), ceil(M / BM)). Source of the operations: the subgroup matrix proposal for WGSL.

alias Left = subgroup_matrix_left<f16, 16, 16>;
alias Right = subgroup_matrix_right<f16, 16, 16>;
alias Result = subgroup_matrix_result<f32, 16, 16>;

@group(0) @binding(4) var<storage, read> x: array<vec4<f16>>;

const THREADS = SG_ROWS * SG_COLS * SUBGROUP;
const FR = BM / 16u / SG_ROWS;
const FC = BN / 16u / SG_COLS;
const SCALE = select(1.0, 4096.0, BACKWARD);  // that X came with

// Octets of W in a step, along K, or BACKWARD along N. A thread has at most four of them on their way.
const RUNS = select(BK, BN, BACKWARD) / 8u;  // of a row
const OCTETS = BN * BK / 8u;
const LOADS = OCTETS / THREADS;
// Rows in shared memory are 16 bytes longer than they need to be, so that a fragment's rows lie in different banks. In vec4.
const LINE = RUNS * 2u + 2u;
const HALF = OCTETS / RUNS * LINE;

var<workgroup> tile: array<vec4<f16>, 2u * HALF>;
var<workgroup> fragments: array<f32, SG_ROWS * SG_COLS * 256u>;

// Octet o of the step at k0. Rows beyond the end may be any: their outputs are not stored, or BACKWARD, X is zero there.
fn load(o: u32, col0: u32, k0: u32) -> Raw8 {
  let row = min(select(col0, k0, BACKWARD) + o / RUNS, select(p.n, p.k, BACKWARD) - 1u);
  return raw8(row, select(k0, col0, BACKWARD) + (o % RUNS) * 8u, p.rowWords);
}

// Along K octets keep their order, which is that of X; along N their elements go to their places.
fn place(at: u32, raw: Raw8) {
  let w = open8(raw);
  let low = bitcast<vec4<f16>>(w.xy);
  let high = bitcast<vec4<f16>>(w.zw);
  tile[at] = select(low, low.xzyw, BACKWARD);
  tile[at + 1u] = select(high, high.xzyw, BACKWARD);
}

fn place_of(o: u32) -> u32 {
  return o / RUNS * LINE + o % RUNS * 2u;
}

fn store(row: u32, col: u32, value: f32) {
  if (row < p.m && col < p.n) {
    let at = row * p.ldy + p.yColumn + col;
    var v = value / SCALE;
    if (BIAS) {
      v += bias[col];
    }
    if (ACCUMULATE) {
      v += y[at];
    }
    y[at] = activate(v);
  }
}

// A fragment at (row, col) of Y goes through shared memory, since only there the place of an element is known.
fn finish(fragment: Result, row: u32, col: u32, own: u32, lane: u32) {
  subgroupMatrixStore<row_major>(&fragments, own, fragment, 16u);
  workgroupBarrier();
  for (var e = lane; e < 256u; e += SUBGROUP) {
    store(row + e / 16u, col + e % 16u, fragments[own + e]);
  }
  workgroupBarrier();
}

@compute @workgroup_size(THREADS)
fn main(
  @builtin(workgroup_id) wg: vec3<u32>,
  @builtin(local_invocation_index) t: u32,
  @builtin(subgroup_id) subgroup: u32,
  @builtin(subgroup_invocation_id) lane: u32,
) {
  let row = wg.y * BM + (subgroup / SG_COLS) * FR * 16u;
  let col0 = wg.x * BN;
  let column = (subgroup % SG_COLS) * FC * 16u;
  // Rows of fragments of X, whole steps of both halves long, in vec4.
  let line = (p.k + 2u * BK - 1u) / (2u * BK) * (BK * 8u);
  var at = row / 16u * line;
  // Sums: a letter for each column of fragments, a number for each row. Fragments of X: f and, 16 further along K, g.
  var a0: Result; var a1: Result; var a2: Result; var a3: Result;
  var b0: Result; var b1: Result; var b2: Result; var b3: Result;
  var c0: Result; var c1: Result; var c2: Result; var c3: Result;
  var d0: Result; var d1: Result; var d2: Result; var d3: Result;
  var f0 = subgroupMatrixLoad<Left, row_major>(&x, at, 4u);
  var f1 = subgroupMatrixLoad<Left, row_major>(&x, at + line, 4u);
  var f2: Left; var f3: Left;
  if (FR > 2u) {
    f2 = subgroupMatrixLoad<Left, row_major>(&x, at + 2u * line, 4u);
    f3 = subgroupMatrixLoad<Left, row_major>(&x, at + 3u * line, 4u);
  }
  var g0: Left; var g1: Left; var g2: Left; var g3: Left;
  var w: Right;
  var w0 = load(t, col0, 0u);
  var w1: Raw8; var w2: Raw8; var w3: Raw8;
  if (LOADS > 1u) { w1 = load(THREADS + t, col0, 0u); }
  if (LOADS > 2u) { w2 = load(2u * THREADS + t, col0, 0u); w3 = load(3u * THREADS + t, col0, 0u); }
  place(place_of(t), w0);
  if (LOADS > 1u) { place(place_of(THREADS + t), w1); }
  if (LOADS > 2u) { place(place_of(2u * THREADS + t), w2); place(place_of(3u * THREADS + t), w3); }
  w0 = load(t, col0, BK);
  if (LOADS > 1u) { w1 = load(THREADS + t, col0, BK); }
  if (LOADS > 2u) { w2 = load(2u * THREADS + t, col0, BK); w3 = load(3u * THREADS + t, col0, BK); }
  for (var k0 = 0u; k0 < p.k; k0 += 2u * BK) {
    workgroupBarrier();
    place(HALF + place_of(t), w0);
    if (LOADS > 1u) { place(HALF + place_of(THREADS + t), w1); }
    if (LOADS > 2u) { place(HALF + place_of(2u * THREADS + t), w2); place(HALF + place_of(3u * THREADS + t), w3); }
    let k2 = k0 + 2u * BK;
    w0 = load(t, col0, k2);
    if (LOADS > 1u) { w1 = load(THREADS + t, col0, k2); }
    if (LOADS > 2u) { w2 = load(2u * THREADS + t, col0, k2); w3 = load(3u * THREADS + t, col0, k2); }
    // STEPS OF THE FIRST HALF
    at += BK * 4u;
    workgroupBarrier();
    place(place_of(t), w0);
    if (LOADS > 1u) { place(place_of(THREADS + t), w1); }
    if (LOADS > 2u) { place(place_of(2u * THREADS + t), w2); place(place_of(3u * THREADS + t), w3); }
    let k3 = k0 + 3u * BK;
    w0 = load(t, col0, k3);
    if (LOADS > 1u) { w1 = load(THREADS + t, col0, k3); }
    if (LOADS > 2u) { w2 = load(2u * THREADS + t, col0, k3); w3 = load(3u * THREADS + t, col0, k3); }
    // STEPS OF THE SECOND HALF
    at += BK * 4u;
  }
  workgroupBarrier();
  let own = subgroup * 256u;
  let col = col0 + column;
  finish(a0, row, col, own, lane); finish(a1, row + 16u, col, own, lane);
  finish(b0, row, col + 16u, own, lane); finish(b1, row + 16u, col + 16u, own, lane);
  if (FR > 2u) {
    finish(a2, row + 32u, col, own, lane); finish(a3, row + 48u, col, own, lane);
    finish(b2, row + 32u, col + 16u, own, lane); finish(b3, row + 48u, col + 16u, own, lane);
  }
  if (FC > 2u) {
    finish(c0, row, col + 32u, own, lane); finish(c1, row + 16u, col + 32u, own, lane);
    finish(d0, row, col + 48u, own, lane); finish(d1, row + 16u, col + 48u, own, lane);
  }
  if (FR > 2u && FC > 2u) {
    finish(c2, row + 32u, col + 32u, own, lane); finish(c3, row + 48u, col + 32u, own, lane);
    finish(d2, row + 32u, col + 48u, own, lane); finish(d3, row + 48u, col + 48u, own, lane);
  }
}
