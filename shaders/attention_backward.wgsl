// One gradient of o = softmax(scale · q kᵀ) v. With P = exp(scale · q kᵀ − lse) and dS = scale · P ⊙ (dO vᵀ − D), neither of which leaves the workgroup:
//   dq = dS k                  rows are queries, columns keys
//   dk = dSᵀ q                 BY_KEY: rows are keys, columns queries
//   dv = Pᵀ dO                 BY_KEY and VALUE
// rowA, colA: q and k (k and q when BY_KEY); rowB, colB: dO and v (v and dO). q, dO [tokens][heads][d], k, v [kvHeads][capacity][d], all f32.
// spans [rows] (lo, hi): the columns that a row meets; stats [tokens][heads] (lse, D). out as q for dq; [heads][capacity][d] for dk and dv,
// the share of every query head: rope_backward.wgsl adds up the heads that read one kv head.
// No atomics: the same inputs give the same bits. One workgroup of 64 threads for 64 rows of a query head, 32 columns a step (lib/score_tile.wgsl);
// sums in f32.
// Grid: (ceil(rows/64), heads).

@group(0) @binding(2) var<storage, read> colA: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> rowB: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> colB: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read> spans: array<vec2<u32>>;
@group(0) @binding(6) var<storage, read> stats: array<vec2<f32>>;
@group(0) @binding(7) var<storage, read_write> out: array<vec4<f32>>;

// Where the vec4 of a row or a column lies, and the two halves of each dot product.
fn row_at(isB: bool, row: u32, head: u32, c: u32) -> vec4<f32> {
  if (row >= p.rows || c >= p.vecs) {
    return vec4<f32>();
  }
  let at = row * p.rowStride + head * p.rowHead + c;
  if (isB) {
    return rowB[at];
  }
  return rowA[at];
}

fn col_at(isB: bool, col: u32, end: u32, head: u32, c: u32) -> vec4<f32> {
  if (col >= end || c >= p.vecs) {
    return vec4<f32>();
  }
  let at = col * p.colStride + head * p.colHead + c;
  if (isB) {
    return colB[at];
  }
  return colA[at];
}

// The part of a chunk that thread `lid` lays down: four rows, and four columns unless others have them all.
fn rows_at(isB: bool, row: u32, head: u32, c: u32) -> mat4x4<f32> {
  return mat4x4<f32>(
    row_at(isB, row, head, c), row_at(isB, row + 1u, head, c), row_at(isB, row + 2u, head, c), row_at(isB, row + 3u, head, c));
}

fn columns_at(isB: bool, lid: u32, col: u32, end: u32, head: u32, c: u32) -> mat4x4<f32> {
  if (lid >= 8u * CHUNK) {
    return mat4x4<f32>();
  }
  return mat4x4<f32>(
    col_at(isB, col, end, head, c), col_at(isB, col + 8u, end, head, c),
    col_at(isB, col + 16u, end, head, c), col_at(isB, col + 24u, end, head, c));
}

// Dot products of the rows from r0 on with the columns from c0 on, of A or of B. What the next chunk needs is under way while one is
// computed; beyond d everything loads as zero.
fn dots(isB: bool, r0: u32, rowHead: u32, c0: u32, end: u32, colHead: u32, lid: u32) -> Tile {
  let lane = lid % CHUNK;
  let row = r0 + 4u * (lid / CHUNK);
  let col = c0 + lid / CHUNK;
  var t = Tile();
  var rows = rows_at(isB, row, rowHead, lane);
  var columns = columns_at(isB, lid, col, end, colHead, lane);
  for (var v0 = 0u; v0 < p.vecs; v0 += CHUNK) {
    place_chunk(lid, rows, columns);
    rows = rows_at(isB, row, rowHead, v0 + CHUNK + lane);
    columns = columns_at(isB, lid, col, end, colHead, v0 + CHUNK + lane);
    add_chunk(&t, lid / 8u, lid % 8u);
  }
  return t;
}

// Vec4 i of the eight columns from `col` on.
fn weighed_at(i: u32, col: u32, end: u32, head: u32) -> vec4<f32> {
  return col_at(VALUE, col + i / p.vecs, select(end, 0u, i >= 8u * p.vecs), head, i % p.vecs);
}

// (lse, D) of each row and of each column of a tile's part: those of the four rows, or of the four columns.
fn row_stats(row: u32, head: u32) -> mat4x2<f32> {
  let at = row * p.heads + head;
  return mat4x2<f32>(stats[at], stats[at + p.heads], stats[at + 2u * p.heads], stats[at + 3u * p.heads]);
}

fn col_stats(col: u32, head: u32) -> mat4x2<f32> {
  let at = col * p.heads + head;
  return mat4x2<f32>(stats[at], stats[at + 8u * p.heads], stats[at + 16u * p.heads], stats[at + 24u * p.heads]);
}

// One half of the stats (0: lse, 1: D) for four rows × four columns.
fn spread(m: mat4x2<f32>, half: u32) -> mat4x4<f32> {
  let v = transpose(m)[half];
  if (BY_KEY) {
    return mat4x4<f32>(v, v, v, v);
  }
  return mat4x4<f32>(vec4<f32>(v.x), vec4<f32>(v.y), vec4<f32>(v.z), vec4<f32>(v.w));
}

fn probability(s: vec4<f32>, lse: vec4<f32>, cols: vec4<u32>, range: vec2<u32>) -> vec4<f32> {
  return select(vec4<f32>(), exp(s * p.scale - lse), (cols >= vec4<u32>(range.x)) & (cols < vec4<u32>(range.y)));
}

fn probabilities(s: mat4x4<f32>, lse: mat4x4<f32>, cols: vec4<u32>, row: u32) -> mat4x4<f32> {
  return mat4x4<f32>(
    probability(s[0], lse[0], cols, span[row]), probability(s[1], lse[1], cols, span[row + 1u]),
    probability(s[2], lse[2], cols, span[row + 2u]), probability(s[3], lse[3], cols, span[row + 3u]));
}

// dS = scale · P ⊙ (dP − D).
fn slopes(probability: mat4x4<f32>, dp: mat4x4<f32>, d: mat4x4<f32>) -> mat4x4<f32> {
  return mat4x4<f32>(
    p.scale * probability[0] * (dp[0] - d[0]), p.scale * probability[1] * (dp[1] - d[1]),
    p.scale * probability[2] * (dp[2] - d[2]), p.scale * probability[3] * (dp[3] - d[3]));
}

fn store_row(row: u32, head: u32, tx: u32, o0: vec4<f32>, o1: vec4<f32>, o2: vec4<f32>, o3: vec4<f32>) {
  if (row >= p.rows) {
    return;
  }
  let at = row * p.rowStride + head * p.rowHead + tx;
  if (tx < p.vecs) { out[at] = o0; }
  if (CV > 1u && tx + 8u < p.vecs) { out[at + 8u] = o1; }
  if (CV > 2u && tx + 16u < p.vecs) { out[at + 16u] = o2; }
  if (CV > 3u && tx + 24u < p.vecs) { out[at + 24u] = o3; }
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
  let r0 = p.row0 + wg.x * ROWS;
  let queryHead = wg.y;
  let kvHead = queryHead / p.group;
  let rowHead = select(queryHead, kvHead, BY_KEY);
  let colHead = select(kvHead, queryHead, BY_KEY);
  let vecs = p.vecs;
  let ty = lid / 8u;
  let tx = lid % 8u;
  let met = span_of(lid, select(vec2<u32>(0xffffffffu, 0u), spans[min(r0 + lid, p.rows - 1u)], r0 + lid < p.rows));
  let lo = met.x;
  let hi = met.y;
  let a = 4u * ty;
  let b = 32u + 4u * ty;
  var acc = Sums();
  for (var c0 = lo; c0 < hi; c0 += COLS) {
    let cols = vec4<u32>(c0 + tx) + vec4<u32>(0u, 8u, 16u, 24u);
    var statsA: mat4x2<f32>;
    var statsB: mat4x2<f32>;
    if (BY_KEY) {
      statsA = col_stats(c0 + tx, queryHead);
      statsB = statsA;
    } else {
      statsA = row_stats(r0 + a, queryHead);
      statsB = row_stats(r0 + b, queryHead);
    }
    var t = dots(false, r0, rowHead, c0, hi, colHead, lid);
    t.a = probabilities(t.a, spread(statsA, 0u), cols, a);
    t.b = probabilities(t.b, spread(statsB, 0u), cols, b);
    if (!VALUE) {
      let dp = dots(true, r0, rowHead, c0, hi, colHead, lid);
      t.a = slopes(t.a, dp.a, spread(statsA, 1u));
      t.b = slopes(t.b, dp.b, spread(statsB, 1u));
    }
    put_weights(t, ty, tx);
    for (var j0 = 0u; j0 < COLS; j0 += 8u) {
      let v0 = weighed_at(lid, c0 + j0, hi, colHead);
      let v1 = weighed_at(lid + 64u, c0 + j0, hi, colHead);
      let v2 = weighed_at(lid + 128u, c0 + j0, hi, colHead);
      let v3 = weighed_at(lid + 192u, c0 + j0, hi, colHead);
      workgroupBarrier();
      stage[lid] = v0;
      if (CV > 1u) { stage[lid + 64u] = v1; }
      if (CV > 2u) { stage[lid + 128u] = v2; }
      if (CV > 3u) { stage[lid + 192u] = v3; }
      workgroupBarrier();
      add_columns(&acc, j0, vecs, ty, tx);
    }
  }
  store_row(r0 + a, queryHead, tx, acc.a0[0], acc.a1[0], acc.a2[0], acc.a3[0]);
  store_row(r0 + a + 1u, queryHead, tx, acc.a0[1], acc.a1[1], acc.a2[1], acc.a3[1]);
  store_row(r0 + a + 2u, queryHead, tx, acc.a0[2], acc.a1[2], acc.a2[2], acc.a3[2]);
  store_row(r0 + a + 3u, queryHead, tx, acc.a0[3], acc.a1[3], acc.a2[3], acc.a3[3]);
  store_row(r0 + b, queryHead, tx, acc.b0[0], acc.b1[0], acc.b2[0], acc.b3[0]);
  store_row(r0 + b + 1u, queryHead, tx, acc.b0[1], acc.b1[1], acc.b2[1], acc.b3[1]);
  store_row(r0 + b + 2u, queryHead, tx, acc.b0[2], acc.b1[2], acc.b2[2], acc.b3[2]);
  store_row(r0 + b + 3u, queryHead, tx, acc.b0[3], acc.b1[3], acc.b2[3], acc.b3[3]);
}
