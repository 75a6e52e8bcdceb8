// One gradient of o = softmax(scale · q kᵀ) v. With P = exp(scale · q kᵀ − lse) and dS = scale · P ⊙ (dO vᵀ − D), neither of which leaves the workgroup:
//   dq = dS k                  rows are queries, columns keys
//   dk = dSᵀ q                 BY_KEY: rows are keys, columns queries
//   dv = Pᵀ dO                 BY_KEY and VALUE
// rowA, colA: q and k (k and q when BY_KEY); rowB, colB: dO and v (v and dO). q, dO [tokens][heads][d], k, v [kvHeads][capacity][d], all f32.
// spans [rows] (lo, hi): the columns that a row meets; stats [tokens][heads] (lse, D). out as q for dq; [heads][capacity][d] for dk and dv,
// the share of every query head: rope_backward.wgsl adds up the heads that read one kv head.
// No atomics: the same inputs give the same bits. One workgroup of 64 threads for 32 rows of a query head, 32 columns a step (lib/dot_tile.wgsl);
// sums in f32.
// Grid: (ceil(rows/32), heads).

struct Params {
  row0: u32,       // first row of this dispatch
  rows: u32,       // end of the rows
  heads: u32,      // query heads
  group: u32,      // query heads of a kv head
  vecs: u32,       // d / 4, at most 32
  scale: f32,
  rowStride: u32,  // in vec4: between rows, and between heads
  rowHead: u32,
  colStride: u32,
  colHead: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> rowA: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> colA: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> rowB: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> colB: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read> spans: array<vec2<u32>>;
@group(0) @binding(6) var<storage, read> stats: array<vec2<f32>>;
@group(0) @binding(7) var<storage, read_write> out: array<vec4<f32>>;

const BR = 32u;
const BC = 32u;

var<workgroup> ws: array<vec4<f32>, 256>;          // P or dS [row % 8][column], of rows 8 apart
var<workgroup> span: array<vec2<u32>, 32>;

// (lse, D) of four rows or columns that are eight apart.
struct Stats {
  lse: vec4<f32>,
  d: vec4<f32>,
}

fn stats_of(first: u32, head: u32) -> Stats {
  let at = first * p.heads + head;
  let a = stats[at];
  let b = stats[at + 8u * p.heads];
  let c = stats[at + 16u * p.heads];
  let d = stats[at + 24u * p.heads];
  return Stats(vec4<f32>(a.x, b.x, c.x, d.x), vec4<f32>(a.y, b.y, c.y, d.y));
}

// P or dS of one row and four columns, from their dot products.
fn weigh(cols: vec4<u32>, range: vec2<u32>, s: vec4<f32>, dp: vec4<f32>, lse: vec4<f32>, d: vec4<f32>) -> vec4<f32> {
  var w = exp(s * p.scale - lse);
  if (!VALUE) {
    w = p.scale * w * (dp - d);
  }
  return select(vec4<f32>(), w, (cols >= vec4<u32>(range.x)) & (cols < vec4<u32>(range.y)));
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
  let r0 = p.row0 + wg.x * BR;
  let queryHead = wg.y;
  let kvHead = queryHead / p.group;
  let rowHead = select(queryHead, kvHead, BY_KEY);
  let colHead = select(kvHead, queryHead, BY_KEY);
  let vecs = p.vecs;
  // A thread holds rows ty, ty + 8, ty + 16, ty + 24 and columns tx, tx + 8, tx + 16, tx + 24 of a step.
  let ty = lid / 8u;
  let tx = lid % 8u;
  if (lid < BR) {
    let row = r0 + lid;
    span[lid] = select(vec2<u32>(0xffffffffu, 0u), spans[min(row, p.rows - 1u)], row < p.rows);
  }
  workgroupBarrier();
  var lo = 0xffffffffu;
  var hi = 0u;
  for (var i = 0u; i < BR; i++) {
    let s = workgroupUniformLoad(&span[i]);
    lo = min(lo, s.x);
    hi = max(hi, s.y);
  }
  var rowStats: Stats;
  if (!BY_KEY) {
    rowStats = stats_of(r0 + ty, queryHead);
  }
  // 4 rows × CV columns of 4 channels; no array, which compilers keep in memory.
  var a0: mat4x4<f32>;
  var a1: mat4x4<f32>;
  var a2: mat4x4<f32>;
  var a3: mat4x4<f32>;
  for (var c0 = lo; c0 < hi; c0 += BC) {
    // The two dot products, 4 rows × 4 columns a thread, over chunks of 32 channels: A first, then B where it is needed.
    var s: mat4x4<f32>;
    var dp: mat4x4<f32>;
    for (var which = 0u; which < select(2u, 1u, VALUE); which++) {
      var t = mat4x4<f32>();
      for (var v0 = 0u; v0 < vecs; v0 += 8u) {
        workgroupBarrier();
        for (var i = lid; i < 256u; i += 64u) {
          let line = i / 8u;
          let c = v0 + i % 8u;
          var rv = vec4<f32>();
          var cv = vec4<f32>();
          if (c < vecs) {
            if (r0 + line < p.rows) {
              let at = (r0 + line) * p.rowStride + rowHead * p.rowHead + c;
              if (which == 0u) { rv = rowA[at]; } else { rv = rowB[at]; }
            }
            if (c0 + line < hi) {
              let at = (c0 + line) * p.colStride + colHead * p.colHead + c;
              if (which == 0u) { cv = colA[at]; } else { cv = colB[at]; }
            }
          }
          rs[(i % 8u) * STRIDE + line] = rv;
          cs[(i % 8u) * STRIDE + line] = cv;
        }
        workgroupBarrier();
        t = add_dots(t, ty, tx);
      }
      if (which == 0u) {
        s = t;
      } else {
        dp = t;
      }
    }
    var colStats: Stats;
    if (BY_KEY) {
      colStats = stats_of(c0 + tx, queryHead);
    }
    let cols = vec4<u32>(c0 + tx) + vec4<u32>(0u, 8u, 16u, 24u);
    let lse = rowStats.lse;
    let d = rowStats.d;
    let w0 = weigh(cols, span[ty], s[0], dp[0], select(vec4<f32>(lse.x), colStats.lse, BY_KEY), select(vec4<f32>(d.x), colStats.d, BY_KEY));
    let w1 = weigh(cols, span[ty + 8u], s[1], dp[1], select(vec4<f32>(lse.y), colStats.lse, BY_KEY), select(vec4<f32>(d.y), colStats.d, BY_KEY));
    let w2 = weigh(cols, span[ty + 16u], s[2], dp[2], select(vec4<f32>(lse.z), colStats.lse, BY_KEY), select(vec4<f32>(d.z), colStats.d, BY_KEY));
    let w3 = weigh(cols, span[ty + 24u], s[3], dp[3], select(vec4<f32>(lse.w), colStats.lse, BY_KEY), select(vec4<f32>(d.w), colStats.d, BY_KEY));
    ws[ty * 32u + tx] = vec4<f32>(w0.x, w1.x, w2.x, w3.x);
    ws[ty * 32u + tx + 8u] = vec4<f32>(w0.y, w1.y, w2.y, w3.y);
    ws[ty * 32u + tx + 16u] = vec4<f32>(w0.z, w1.z, w2.z, w3.z);
    ws[ty * 32u + tx + 24u] = vec4<f32>(w0.w, w1.w, w2.w, w3.w);
    for (var j0 = 0u; j0 < BC; j0 += 8u) {
      workgroupBarrier();
      for (var i = lid; i < 8u * vecs; i += 64u) {
        let col = c0 + j0 + i / vecs;
        var v = vec4<f32>();
        if (col < hi) {
          let at = col * p.colStride + colHead * p.colHead + i % vecs;
          if (VALUE) { v = colB[at]; } else { v = colA[at]; }
        }
        cs[i] = v;
      }
      workgroupBarrier();
      for (var j = 0u; j < 8u; j++) {
        let w = ws[ty * 32u + j0 + j];
        let at = j * vecs + tx;
        a0 = add_outer(a0, cs[min(at, 255u)], w);
        if (CV > 1u) { a1 = add_outer(a1, cs[min(at + 8u, 255u)], w); }
        if (CV > 2u) { a2 = add_outer(a2, cs[min(at + 16u, 255u)], w); }
        if (CV > 3u) { a3 = add_outer(a3, cs[min(at + 24u, 255u)], w); }
      }
    }
  }
  let row = r0 + ty;
  store_row(row, queryHead, tx, a0[0], a1[0], a2[0], a3[0]);
  store_row(row + 8u, queryHead, tx, a0[1], a1[1], a2[1], a3[1]);
  store_row(row + 16u, queryHead, tx, a0[2], a1[2], a2[2], a3[2]);
  store_row(row + 24u, queryHead, tx, a0[3], a1[3], a2[3], a3[3]);
}
