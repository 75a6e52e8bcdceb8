// The products of matmul_tile.wgsl on the device's matrix units: Y = act(X · Wᵀ + bias), or Y += …; with BACKWARD dX = dY · W.
// Operands are rounded to f16 on their way into shared memory, sums stay f32. Gradients, which are small, are multiplied by a power of two
// first and divided by it at the end. One workgroup is SG_ROWS × SG_COLS subgroups of SUBGROUP threads, each of which makes 4 × 2
// fragments of FM × FN outputs: written out one by one, since an array of them would lie in memory. What comes next is under way while the units compute. Grid: (ceil(N / BN), ceil(M / BM)).
// Source of the operations: the subgroup matrix proposal for WGSL.

const FM = 16u;  // rows, columns and steps of a fragment
const FN = 16u;
const FK = 16u;
alias Left = subgroup_matrix_left<f16, FK, FM>;
alias Right = subgroup_matrix_right<f16, FN, FK>;
alias Result = subgroup_matrix_result<f32, FN, FM>;

const THREADS = SG_ROWS * SG_COLS * SUBGROUP;
const BM = SG_ROWS * 4u * FM;
const BN = SG_COLS * 2u * FN;
// Rows in shared memory are 16 bytes longer than they need to be, so that a fragment's rows lie in different banks.
const X_STRIDE = BK + 8u;
const W_STRIDE = select(BK, BN, BACKWARD) + 8u;
const W_ROWS = select(BN, BK, BACKWARD);
const SCALE = select(1.0, 4096.0, BACKWARD);
const LARGEST = vec4<f32>(65504.0);

// Four elements each; offsets and strides of fragments are counted in them, too.
var<workgroup> xTile: array<vec4<f16>, BM * X_STRIDE / 4u>;
var<workgroup> wTile: array<vec4<f16>, W_ROWS * W_STRIDE / 4u>;
var<workgroup> fragments: array<f32, SG_ROWS * SG_COLS * FM * FN>;

// Loading is cut into runs of 8 elements as they lie in memory. A thread has at most four of X and four of W.
const X_LOADS = BM * BK / 8u / THREADS;
const W_LOADS = BN * BK / 8u / THREADS;

struct Run {
  low: vec4<u32>,
  high: vec4<u32>,
}

fn load_x(r: u32, row0: u32, k0: u32) -> Run {
  let row = row0 + r / (BK / 8u);
  let k = k0 + (r % (BK / 8u)) * 8u;
  return Run(x4(row, k), x4(row, k + 4u));
}

const W_RUNS = select(BK, BN, BACKWARD) / 8u;  // of a row

fn load_w(r: u32, col0: u32, k0: u32) -> Run {
  let row = select(col0, k0, BACKWARD) + r / W_RUNS;
  let column = select(k0, col0, BACKWARD) + (r % W_RUNS) * 8u;
  return Run(w4(row, column), w4(row, column + 4u));
}

fn half4(v: vec4<u32>) -> vec4<f16> {
  return vec4<f16>(clamp(bitcast<vec4<f32>>(v) * SCALE, -LARGEST, LARGEST));
}

fn place_x(r: u32, v: Run) {
  let at = (r / (BK / 8u)) * (X_STRIDE / 4u) + (r % (BK / 8u)) * 2u;
  xTile[at] = half4(v.low);
  xTile[at + 1u] = half4(v.high);
}

fn place_w(r: u32, v: Run) {
  let at = (r / W_RUNS) * (W_STRIDE / 4u) + (r % W_RUNS) * 2u;
  wTile[at] = vec4<f16>(open4(v.low));
  wTile[at + 1u] = vec4<f16>(open4(v.high));
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
  subgroupMatrixStore<row_major>(&fragments, own, fragment, FN);
  workgroupBarrier();
  for (var e = lane; e < FM * FN; e += SUBGROUP) {
    store(row + e / FN, col + e % FN, fragments[own + e]);
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
  let row0 = wg.y * BM;
  let col0 = wg.x * BN;
  let ownRow = (subgroup / SG_COLS) * 4u * FM;
  let ownCol = (subgroup % SG_COLS) * 2u * FN;
  var a0: Result; var b0: Result;
  var a1: Result; var b1: Result;
  var a2: Result; var b2: Result;
  var a3: Result; var b3: Result;
  // One by one for the same reason as the fragments.
  var x0 = load_x(t, row0, 0u);
  var w0 = load_w(t, col0, 0u);
  var x1: Run; var x2: Run; var x3: Run;
  var w1: Run; var w2: Run; var w3: Run;
  if (X_LOADS > 1u) { x1 = load_x(THREADS + t, row0, 0u); }
  if (X_LOADS > 2u) { x2 = load_x(2u * THREADS + t, row0, 0u); x3 = load_x(3u * THREADS + t, row0, 0u); }
  if (W_LOADS > 1u) { w1 = load_w(THREADS + t, col0, 0u); }
  if (W_LOADS > 2u) { w2 = load_w(2u * THREADS + t, col0, 0u); w3 = load_w(3u * THREADS + t, col0, 0u); }
  for (var k0 = 0u; k0 < p.k; k0 += BK) {
    workgroupBarrier();
    place_x(t, x0);
    place_w(t, w0);
    if (X_LOADS > 1u) { place_x(THREADS + t, x1); }
    if (X_LOADS > 2u) { place_x(2u * THREADS + t, x2); place_x(3u * THREADS + t, x3); }
    if (W_LOADS > 1u) { place_w(THREADS + t, w1); }
    if (W_LOADS > 2u) { place_w(2u * THREADS + t, w2); place_w(3u * THREADS + t, w3); }
    workgroupBarrier();
    // Beyond the end of K everything loads as zero; weights of zero scale and offset are zero too.
    let k1 = k0 + BK;
    x0 = load_x(t, row0, k1);
    w0 = load_w(t, col0, k1);
    if (X_LOADS > 1u) { x1 = load_x(THREADS + t, row0, k1); }
    if (X_LOADS > 2u) { x2 = load_x(2u * THREADS + t, row0, k1); x3 = load_x(3u * THREADS + t, row0, k1); }
    if (W_LOADS > 1u) { w1 = load_w(THREADS + t, col0, k1); }
    if (W_LOADS > 2u) { w2 = load_w(2u * THREADS + t, col0, k1); w3 = load_w(3u * THREADS + t, col0, k1); }
    for (var k = 0u; k < BK; k += FK) {
      let x = (ownRow * X_STRIDE + k) / 4u;
      let f0 = subgroupMatrixLoad<Left, row_major>(&xTile, x, X_STRIDE / 4u);
      let f1 = subgroupMatrixLoad<Left, row_major>(&xTile, x + FM * X_STRIDE / 4u, X_STRIDE / 4u);
      let f2 = subgroupMatrixLoad<Left, row_major>(&xTile, x + 2u * FM * X_STRIDE / 4u, X_STRIDE / 4u);
      let f3 = subgroupMatrixLoad<Left, row_major>(&xTile, x + 3u * FM * X_STRIDE / 4u, X_STRIDE / 4u);
      var wa: Right;
      var wb: Right;
      if (BACKWARD) {
        let w = (k * W_STRIDE + ownCol) / 4u;
        wa = subgroupMatrixLoad<Right, row_major>(&wTile, w, W_STRIDE / 4u);
        wb = subgroupMatrixLoad<Right, row_major>(&wTile, w + FN / 4u, W_STRIDE / 4u);
      } else {
        let w = (ownCol * W_STRIDE + k) / 4u;
        wa = subgroupMatrixLoad<Right, col_major>(&wTile, w, W_STRIDE / 4u);
        wb = subgroupMatrixLoad<Right, col_major>(&wTile, w + FN * W_STRIDE / 4u, W_STRIDE / 4u);
      }
      a0 = subgroupMatrixMultiplyAccumulate(f0, wa, a0);
      a1 = subgroupMatrixMultiplyAccumulate(f1, wa, a1);
      a2 = subgroupMatrixMultiplyAccumulate(f2, wa, a2);
      a3 = subgroupMatrixMultiplyAccumulate(f3, wa, a3);
      b0 = subgroupMatrixMultiplyAccumulate(f0, wb, b0);
      b1 = subgroupMatrixMultiplyAccumulate(f1, wb, b1);
      b2 = subgroupMatrixMultiplyAccumulate(f2, wb, b2);
      b3 = subgroupMatrixMultiplyAccumulate(f3, wb, b3);
    }
  }
  let row = row0 + ownRow;
  let col = col0 + ownCol;
  let own = subgroup * FM * FN;
  finish(a0, row, col, own, lane); finish(b0, row, col + FN, own, lane);
  finish(a1, row + FM, col, own, lane); finish(b1, row + FM, col + FN, own, lane);
  finish(a2, row + 2u * FM, col, own, lane); finish(b2, row + 2u * FM, col + FN, own, lane);
  finish(a3, row + 3u * FM, col, own, lane); finish(b3, row + 3u * FM, col + FN, own, lane);
}
