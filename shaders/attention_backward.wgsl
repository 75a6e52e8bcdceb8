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

// P or dS of one row and column, from their two dot products.
fn weigh(row: u32, col: u32, queryHead: u32, s: f32, dp: f32, range: vec2<u32>) -> f32 {
  if (col < range.x || col >= range.y) {
    return 0.0;
  }
  let stat = stats[select(row, col, BY_KEY) * p.heads + queryHead];
  let probability = exp(s * p.scale - stat.x);
  if (VALUE) {
    return probability;
  }
  return p.scale * probability * (dp - stat.y);
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
  var acc: array<vec4<f32>, ACC>;  // 4 rows × CV columns of 4 channels
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
    for (var j = 0u; j < 4u; j++) {
      var w = vec4<f32>();
      let col = tx + 8u * j;
      for (var r = 0u; r < 4u; r++) {
        let line = ty + 8u * r;
        w[r] = weigh(r0 + line, c0 + col, queryHead, s[r][j], dp[r][j], span[line]);
      }
      ws[ty * 32u + col] = w;
    }
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
        for (var c = 0u; c < CV; c++) {
          let v = cs[min(j * vecs + tx + c * 8u, 255u)];
          acc[c] += w.x * v;
          acc[CV + c] += w.y * v;
          acc[2u * CV + c] += w.z * v;
          acc[3u * CV + c] += w.w * v;
        }
      }
    }
  }
  for (var r = 0u; r < 4u; r++) {
    let row = r0 + ty + 8u * r;
    if (row < p.rows) {
      for (var c = 0u; c < CV; c++) {
        let column = tx + c * 8u;
        if (column < vecs) {
          out[row * p.rowStride + queryHead * p.rowHead + column] = acc[r * CV + c];
        }
      }
    }
  }
}
