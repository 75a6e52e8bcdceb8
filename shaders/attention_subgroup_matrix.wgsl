// attention.wgsl (FORWARD) and attention_backward.wgsl on the device's matrix units, as one shader: sums of columns, weighed by what their
// products with the rows make of them.
//   FORWARD  o = P v    rows are queries, columns keys; A: q and k, B: v; log-sum-exps are made first, in a round of their own, since the
//                       units' sums can't be rescaled on the way
//   dq = dS k           rows are queries, columns keys; A: q and k, B: dO and v
//   dk = dSᵀ q          BY_KEY: rows are keys, columns queries; A: k and q, B: v and dO
//   dv = Pᵀ dO          BY_KEY and VALUE
// P = exp(scale · q kᵀ − lse), dS = scale · P ⊙ (dO vᵀ − D). Operands are rounded to f16 on their way into shared memory, sums stay f32; dO, which is small, is
// multiplied by a power of two first and results are divided by it. Four subgroups of SUBGROUP threads for 64 rows of a query head, 16
// each; 32 columns a step. Fragments are written out one by one: an array of them would lie in memory.
// Grid: (ceil(rows/64), heads). Source of the operations: the subgroup matrix proposal for WGSL.

alias Left = subgroup_matrix_left<f16, 16, 16>;
alias Right = subgroup_matrix_right<f16, 16, 16>;
alias Result = subgroup_matrix_result<f32, 16, 16>;

@group(0) @binding(2) var<storage, read> kCache: array<CacheVec>;  // columns of A and of B, by the names that a cache goes by
@group(0) @binding(3) var<storage, read> rowB: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> vCache: array<CacheVec>;
@group(0) @binding(5) var<storage, read> spans: array<vec2<u32>>;
@group(0) @binding(6) var<storage, read> stats: array<vec2<f32>>;  // (lse, D) of each query, not read by FORWARD
@group(0) @binding(7) var<storage, read_write> out: array<vec4<f32>>;

const ROWS = 64u;
const COLS = 32u;
const THREADS = 4u * SUBGROUP;
const PARTS = THREADS / ROWS;
const NEVER = -1e30;
const SCALE = select(4096.0, 1.0, FORWARD);
const LARGEST = vec4<f32>(65504.0);
// Lines in shared memory are 16 bytes longer than they need to be, so that a fragment's rows lie in different banks. In vec4.
const LINE = DEPTH / 4u + 2u;
const WEIGHT_LINE = COLS / 4u + 2u;
const SCORE_LINE = COLS / 4u + 1u;
const B_AT = COLS * LINE;

// Columns of A, then of B, [column][channel]; at first the rows themselves, to be taken into fragments.
var<workgroup> tile: array<vec4<f16>, 2u * COLS * LINE>;
var<workgroup> scores: array<vec4<f32>, ROWS * SCORE_LINE>;
var<workgroup> slopes: array<vec4<f32>, select(ROWS * SCORE_LINE, 16u * SCORE_LINE, VALUE || FORWARD)>;  // of no use to VALUE and FORWARD
var<workgroup> weights: array<vec4<f16>, ROWS * WEIGHT_LINE>;
var<workgroup> colStats: array<vec2<f32>, COLS>;

fn half4(v: vec4<f32>) -> vec4<f16> {
  return vec4<f16>(clamp(v, -LARGEST, LARGEST));
}

fn row_at(isB: bool, row: u32, head: u32, c: u32) -> vec4<f16> {
  if (row >= p.rows || c >= p.vecs) {
    return vec4<f16>();
  }
  let at = row * p.rowStride + head * p.rowHead + c;
  if (isB) {
    return half4(rowB[at] * select(SCALE, 1.0, BY_KEY));
  }
  return half4(rowA[at]);
}

fn col_at(isB: bool, col: u32, end: u32, head: u32, c: u32) -> vec4<f16> {
  if (col >= end || c >= p.vecs) {
    return vec4<f16>();
  }
  let at = col * (p.colStride / p.vecs) + head * (p.colHead / p.vecs);
  if (isB) {
    return half4(value4(at, c) * select(1.0, SCALE, BY_KEY));
  }
  return half4(key4(at, c));
}

// Lays 64 rows into the tile.
fn place_rows(isB: bool, r0: u32, head: u32, t: u32) {
  workgroupBarrier();
  for (var i = t; i < ROWS * DEPTH / 4u; i += THREADS) {
    let row = i / (DEPTH / 4u);
    let c = i % (DEPTH / 4u);
    tile[row * LINE + c] = row_at(isB, r0 + row, head, c);
  }
  workgroupBarrier();
}

// Lays 32 columns into their half of the tile. Four loads are under way at a time.
fn place_columns(isB: bool, c0: u32, end: u32, head: u32, t: u32) {
  const VECS = DEPTH / 4u;
  let base = select(0u, B_AT, isB);
  for (var i = t; i < COLS * VECS; i += 4u * THREADS) {
    let i1 = i + THREADS;
    let i2 = i + 2u * THREADS;
    let i3 = i + 3u * THREADS;
    let v0 = col_at(isB, c0 + i / VECS, end, head, i % VECS);
    let v1 = col_at(isB, c0 + i1 / VECS, end, head, i1 % VECS);
    let v2 = col_at(isB, c0 + i2 / VECS, end, head, i2 % VECS);
    let v3 = col_at(isB, c0 + i3 / VECS, end, head, i3 % VECS);
    tile[base + (i / VECS) * LINE + i % VECS] = v0;
    if (i1 < COLS * VECS) { tile[base + (i1 / VECS) * LINE + i1 % VECS] = v1; }
    if (i2 < COLS * VECS) { tile[base + (i2 / VECS) * LINE + i2 % VECS] = v2; }
    if (i3 < COLS * VECS) { tile[base + (i3 / VECS) * LINE + i3 % VECS] = v3; }
  }
}

// `sum` with the product of 16 rows and the 16 columns that begin at `at`, over 16 channels.
fn dots(rows: Left, at: u32, sum: Result) -> Result {
  return subgroupMatrixMultiplyAccumulate(rows, subgroupMatrixLoad<Right, col_major>(&tile, at, LINE), sum);
}

// `sum` with 16 channels of the columns in the tile weighed for the subgroup's 16 rows.
fn weighed(first: Left, second: Left, at: u32, sum: Result) -> Result {
  let half = subgroupMatrixMultiplyAccumulate(first, subgroupMatrixLoad<Right, row_major>(&tile, at, LINE), sum);
  return subgroupMatrixMultiplyAccumulate(second, subgroupMatrixLoad<Right, row_major>(&tile, at + 16u * LINE, LINE), half);
}

// 16 channels of the subgroup's rows go through shared memory, since only there the place of an element is known.
fn finish(sum: Result, channel: u32, r0: u32, head: u32, own: u32, lane: u32) {
  subgroupMatrixStore<row_major>(&scores, own * SCORE_LINE, sum, SCORE_LINE);
  workgroupBarrier();
  for (var e = lane; e < 64u; e += SUBGROUP) {
    let row = own + e / 4u;
    let c = channel / 4u + e % 4u;
    if (r0 + row < p.rows && c < p.vecs) {
      out[(r0 + row) * p.rowStride + head * p.rowHead + c] = scores[row * SCORE_LINE + e % 4u] / SCALE;
    }
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
  let r0 = p.row0 + wg.x * ROWS;
  let queryHead = wg.y;
  let kvHead = queryHead / p.group;
  let rowHead = select(queryHead, kvHead, BY_KEY);
  let colHead = select(kvHead, queryHead, BY_KEY);
  let met = span_of(t, select(vec2<u32>(0xffffffffu, 0u), spans[min(r0 + t, p.rows - 1u)], r0 + t < p.rows));
  // Rows of the tile that the subgroup multiplies, and what the thread looks after between products: a part of a row's columns.
  let own = subgroup * 16u;
  let row = t % ROWS;
  const VECS = COLS / 4u / PARTS;
  let part = (t / ROWS) * VECS;
  let range = span[row];

  place_rows(false, r0, rowHead, t);
  let a0 = subgroupMatrixLoad<Left, row_major>(&tile, own * LINE, LINE);
  var a1: Left; var a2: Left; var a3: Left; var a4: Left; var a5: Left; var a6: Left; var a7: Left;
  if (DEPTH > 16u) { a1 = subgroupMatrixLoad<Left, row_major>(&tile, own * LINE + 4u, LINE); }
  if (DEPTH > 32u) { a2 = subgroupMatrixLoad<Left, row_major>(&tile, own * LINE + 8u, LINE); }
  if (DEPTH > 48u) { a3 = subgroupMatrixLoad<Left, row_major>(&tile, own * LINE + 12u, LINE); }
  if (DEPTH > 64u) { a4 = subgroupMatrixLoad<Left, row_major>(&tile, own * LINE + 16u, LINE); }
  if (DEPTH > 80u) { a5 = subgroupMatrixLoad<Left, row_major>(&tile, own * LINE + 20u, LINE); }
  if (DEPTH > 96u) { a6 = subgroupMatrixLoad<Left, row_major>(&tile, own * LINE + 24u, LINE); }
  if (DEPTH > 112u) { a7 = subgroupMatrixLoad<Left, row_major>(&tile, own * LINE + 28u, LINE); }
  var b0: Left; var b1: Left; var b2: Left; var b3: Left; var b4: Left; var b5: Left; var b6: Left; var b7: Left;
  if (!VALUE && !FORWARD) {
    place_rows(true, r0, rowHead, t);
    b0 = subgroupMatrixLoad<Left, row_major>(&tile, own * LINE, LINE);
    if (DEPTH > 16u) { b1 = subgroupMatrixLoad<Left, row_major>(&tile, own * LINE + 4u, LINE); }
    if (DEPTH > 32u) { b2 = subgroupMatrixLoad<Left, row_major>(&tile, own * LINE + 8u, LINE); }
    if (DEPTH > 48u) { b3 = subgroupMatrixLoad<Left, row_major>(&tile, own * LINE + 12u, LINE); }
    if (DEPTH > 64u) { b4 = subgroupMatrixLoad<Left, row_major>(&tile, own * LINE + 16u, LINE); }
    if (DEPTH > 80u) { b5 = subgroupMatrixLoad<Left, row_major>(&tile, own * LINE + 20u, LINE); }
    if (DEPTH > 96u) { b6 = subgroupMatrixLoad<Left, row_major>(&tile, own * LINE + 24u, LINE); }
    if (DEPTH > 112u) { b7 = subgroupMatrixLoad<Left, row_major>(&tile, own * LINE + 28u, LINE); }
  }
  var rowStats = vec2<f32>();
  if (!FORWARD && !BY_KEY) {
    rowStats = stats[min(r0 + row, p.rows - 1u) * p.heads + queryHead];
  }
  var top = NEVER;
  var total = 0.0;
  var o0 = Result(); var o1 = Result(); var o2 = Result(); var o3 = Result();
  var o4 = Result(); var o5 = Result(); var o6 = Result(); var o7 = Result();
  for (var round = select(1u, 0u, FORWARD); round < 2u; round++) {
    for (var c0 = met.x; c0 < met.y; c0 += COLS) {
      workgroupBarrier();
      place_columns(false, c0, met.y, colHead, t);
      if (round == 1u) {
        place_columns(true, c0, met.y, colHead, t);
        if (BY_KEY && t < COLS) {
          colStats[t] = stats[min(c0 + t, met.y - 1u) * p.heads + queryHead];
        }
      }
      workgroupBarrier();
      // Written out, since a declaration alone was seen not to start from zero again.
      var s0 = Result();
      var s1 = Result();
      s0 = dots(a0, 0u, s0);
      s1 = dots(a0, 16u * LINE, s1);
      if (DEPTH > 16u) { s0 = dots(a1, 4u, s0); s1 = dots(a1, 16u * LINE + 4u, s1); }
      if (DEPTH > 32u) { s0 = dots(a2, 8u, s0); s1 = dots(a2, 16u * LINE + 8u, s1); }
      if (DEPTH > 48u) { s0 = dots(a3, 12u, s0); s1 = dots(a3, 16u * LINE + 12u, s1); }
      if (DEPTH > 64u) { s0 = dots(a4, 16u, s0); s1 = dots(a4, 16u * LINE + 16u, s1); }
      if (DEPTH > 80u) { s0 = dots(a5, 20u, s0); s1 = dots(a5, 16u * LINE + 20u, s1); }
      if (DEPTH > 96u) { s0 = dots(a6, 24u, s0); s1 = dots(a6, 16u * LINE + 24u, s1); }
      if (DEPTH > 112u) { s0 = dots(a7, 28u, s0); s1 = dots(a7, 16u * LINE + 28u, s1); }
      subgroupMatrixStore<row_major>(&scores, own * SCORE_LINE, s0, SCORE_LINE);
      subgroupMatrixStore<row_major>(&scores, own * SCORE_LINE + 4u, s1, SCORE_LINE);
      if (!VALUE && !FORWARD) {
        s0 = Result();
        s1 = Result();
        s0 = dots(b0, B_AT, s0);
        s1 = dots(b0, B_AT + 16u * LINE, s1);
        if (DEPTH > 16u) { s0 = dots(b1, B_AT + 4u, s0); s1 = dots(b1, B_AT + 16u * LINE + 4u, s1); }
        if (DEPTH > 32u) { s0 = dots(b2, B_AT + 8u, s0); s1 = dots(b2, B_AT + 16u * LINE + 8u, s1); }
        if (DEPTH > 48u) { s0 = dots(b3, B_AT + 12u, s0); s1 = dots(b3, B_AT + 16u * LINE + 12u, s1); }
        if (DEPTH > 64u) { s0 = dots(b4, B_AT + 16u, s0); s1 = dots(b4, B_AT + 16u * LINE + 16u, s1); }
        if (DEPTH > 80u) { s0 = dots(b5, B_AT + 20u, s0); s1 = dots(b5, B_AT + 16u * LINE + 20u, s1); }
        if (DEPTH > 96u) { s0 = dots(b6, B_AT + 24u, s0); s1 = dots(b6, B_AT + 16u * LINE + 24u, s1); }
        if (DEPTH > 112u) { s0 = dots(b7, B_AT + 28u, s0); s1 = dots(b7, B_AT + 16u * LINE + 28u, s1); }
        subgroupMatrixStore<row_major>(&slopes, own * SCORE_LINE, s0, SCORE_LINE);
        subgroupMatrixStore<row_major>(&slopes, own * SCORE_LINE + 4u, s1, SCORE_LINE);
      }
      workgroupBarrier();
      for (var i = part; i < part + VECS; i++) {
        let col = vec4<u32>(c0 + 4u * i) + vec4<u32>(0u, 1u, 2u, 3u);
        let seen = (col >= vec4<u32>(range.x)) & (col < vec4<u32>(range.y));
        let s = scores[row * SCORE_LINE + i] * p.scale;
        if (FORWARD && round == 0u) {
          let m = select(vec4<f32>(NEVER), s, seen);
          let next = max(top, max(max(m.x, m.y), max(m.z, m.w)));
          total = total * exp(top - next) + dot(vec4<f32>(1.0), select(vec4<f32>(), exp(s - next), seen));
          top = next;
        } else {
          var lse = vec4<f32>(rowStats.x);
          var d = vec4<f32>(rowStats.y);
          if (BY_KEY) {
            let x = transpose(mat4x2<f32>(colStats[4u * i], colStats[4u * i + 1u], colStats[4u * i + 2u], colStats[4u * i + 3u]));
            lse = x[0];
            d = x[1];
          }
          var w = exp(s - lse);
          if (!VALUE && !FORWARD) {
            w = p.scale * w * (slopes[row * SCORE_LINE + i] - SCALE * d);
          }
          weights[row * WEIGHT_LINE + i] = half4(select(vec4<f32>(), w, seen));
        }
      }
      workgroupBarrier();
      if (round == 1u) {
        let first = subgroupMatrixLoad<Left, row_major>(&weights, own * WEIGHT_LINE, WEIGHT_LINE);
        let second = subgroupMatrixLoad<Left, row_major>(&weights, own * WEIGHT_LINE + 4u, WEIGHT_LINE);
        const FROM = select(0u, B_AT, VALUE || FORWARD);
        o0 = weighed(first, second, FROM, o0);
        if (DEPTH > 16u) { o1 = weighed(first, second, FROM + 4u, o1); }
        if (DEPTH > 32u) { o2 = weighed(first, second, FROM + 8u, o2); }
        if (DEPTH > 48u) { o3 = weighed(first, second, FROM + 12u, o3); }
        if (DEPTH > 64u) { o4 = weighed(first, second, FROM + 16u, o4); }
        if (DEPTH > 80u) { o5 = weighed(first, second, FROM + 20u, o5); }
        if (DEPTH > 96u) { o6 = weighed(first, second, FROM + 24u, o6); }
        if (DEPTH > 112u) { o7 = weighed(first, second, FROM + 28u, o7); }
      }
    }
    if (FORWARD && round == 0u) {
      // The parts of a row come together.
      workgroupBarrier();
      scores[t] = vec4<f32>(top, total, 0.0, 0.0);
      workgroupBarrier();
      for (var i = row; i < THREADS; i += ROWS) {
        top = max(top, scores[i].x);
      }
      total = 0.0;
      for (var i = row; i < THREADS; i += ROWS) {
        total += scores[i].y * exp(scores[i].x - top);
      }
      rowStats.x = top + log(max(total, 1e-30));
    }
  }
  workgroupBarrier();
  finish(o0, 0u, r0, queryHead, own, lane);
  if (DEPTH > 16u) { finish(o1, 16u, r0, queryHead, own, lane); }
  if (DEPTH > 32u) { finish(o2, 32u, r0, queryHead, own, lane); }
  if (DEPTH > 48u) { finish(o3, 48u, r0, queryHead, own, lane); }
  if (DEPTH > 64u) { finish(o4, 64u, r0, queryHead, own, lane); }
  if (DEPTH > 80u) { finish(o5, 80u, r0, queryHead, own, lane); }
  if (DEPTH > 96u) { finish(o6, 96u, r0, queryHead, own, lane); }
  if (DEPTH > 112u) { finish(o7, 112u, r0, queryHead, own, lane); }
}
