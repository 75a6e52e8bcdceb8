// o = softmax(scale · q kᵀ) v for each query over the keys lo ≤ j < hi of its range; flash style, scores never leave the workgroup.
// q [tokens][heads][d] f32; k, v [kvHeads][capacity][d] in the cache's type; ranges [tokens] (lo, hi); o [tokens][heads][d] f32.
// Training also keeps the log-sum-exp of each row (lib/lse.wgsl).
// Query head h reads kv head h / (heads/kvHeads). Causal attention is the range (0, position + 1), a picture's patches are (start, end).
// One workgroup of 64 threads for 32 queries of a head; 32 keys a step (lib/dot_tile.wgsl); running maximum and sum in f32.  Grid: (ceil(tokens/32), heads).

struct Params {
  tokens: u32,
  heads: u32,
  group: u32,     // query heads of a kv head
  d: u32,         // a multiple of 4, at most 128
  capacity: u32,
  scale: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> q: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> kCache: array<CacheVec>;
@group(0) @binding(3) var<storage, read> vCache: array<CacheVec>;
@group(0) @binding(4) var<storage, read> ranges: array<vec2<u32>>;
@group(0) @binding(5) var<storage, read_write> o: array<vec4<f32>>;

const BQ = 32u;
const BK = 32u;
const NEVER = -1e30;

var<workgroup> ps: array<vec4<f32>, 256>;          // probabilities [query % 8][key], of queries 8 apart
var<workgroup> parts: array<vec4<f32>, 64>;        // maxima, in the end sums, of each thread's keys
var<workgroup> span: array<vec2<u32>, 32>;

fn largest(v: vec4<f32>) -> f32 {
  return max(max(v.x, v.y), max(v.z, v.w));
}

fn total(v: vec4<f32>) -> f32 {
  return v.x + v.y + v.z + v.w;
}

fn store_row(row: u32, h: u32, tx: u32, lse: f32, sum: f32, o0: vec4<f32>, o1: vec4<f32>, o2: vec4<f32>, o3: vec4<f32>) {
  if (row >= p.tokens) {
    return;
  }
  if (tx == 0u) {
    store_lse(row * p.heads + h, lse);
  }
  let vecs = p.d / 4u;
  let at = (row * p.heads + h) * vecs + tx;
  if (tx < vecs) { o[at] = o0 / sum; }
  if (CV > 1u && tx + 8u < vecs) { o[at + 8u] = o1 / sum; }
  if (CV > 2u && tx + 16u < vecs) { o[at + 16u] = o2 / sum; }
  if (CV > 3u && tx + 24u < vecs) { o[at + 24u] = o3 / sum; }
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
  let q0 = wg.x * BQ;
  let h = wg.y;
  let kvHead = h / p.group;
  let vecs = p.d / 4u;
  let ty = lid / 8u;
  let tx = lid % 8u;
  if (lid < BQ) {
    let row = q0 + lid;
    span[lid] = select(vec2<u32>(0xffffffffu, 0u), ranges[min(row, p.tokens - 1u)], row < p.tokens);
  }
  workgroupBarrier();
  var lo = 0xffffffffu;
  var hi = 0u;
  for (var i = 0u; i < BQ; i++) {
    let s = workgroupUniformLoad(&span[i]);
    lo = min(lo, s.x);
    hi = max(hi, s.y);
  }
  // A thread holds queries ty, ty + 8, ty + 16, ty + 24 and keys tx, tx + 8, tx + 16, tx + 24 of a step.
  let lower = vec4<u32>(span[ty].x, span[ty + 8u].x, span[ty + 16u].x, span[ty + 24u].x);
  let upper = vec4<u32>(span[ty].y, span[ty + 8u].y, span[ty + 16u].y, span[ty + 24u].y);
  var top = vec4<f32>(NEVER);
  var sum = vec4<f32>();
  // 4 queries × CV columns of 4 channels; no array, which compilers keep in memory.
  var a0: mat4x4<f32>;
  var a1: mat4x4<f32>;
  var a2: mat4x4<f32>;
  var a3: mat4x4<f32>;
  for (var k0 = lo; k0 < hi; k0 += BK) {
    // Scores: 4 queries × 4 keys a thread, over chunks of 32 channels.
    var s = mat4x4<f32>();
    for (var c0 = 0u; c0 < vecs; c0 += 8u) {
      workgroupBarrier();
      for (var i = lid; i < 256u; i += 64u) {
        let row = i / 8u;
        let c = c0 + i % 8u;
        var qv = vec4<f32>();
        var kvv = vec4<f32>();
        if (c < vecs) {
          if (q0 + row < p.tokens) {
            qv = q[((q0 + row) * p.heads + h) * vecs + c];
          }
          if (k0 + row < hi) {
            kvv = open_cache(kCache[(kvHead * p.capacity + k0 + row) * vecs + c]);
          }
        }
        rs[(i % 8u) * STRIDE + row] = qv;
        cs[(i % 8u) * STRIDE + row] = kvv;
      }
      workgroupBarrier();
      s = add_dots(s, ty, tx);
    }
    let key = vec4<u32>(k0 + tx) + vec4<u32>(0u, 8u, 16u, 24u);
    let in0 = (key >= vec4<u32>(lower.x)) & (key < vec4<u32>(upper.x));
    let in1 = (key >= vec4<u32>(lower.y)) & (key < vec4<u32>(upper.y));
    let in2 = (key >= vec4<u32>(lower.z)) & (key < vec4<u32>(upper.z));
    let in3 = (key >= vec4<u32>(lower.w)) & (key < vec4<u32>(upper.w));
    let never = vec4<f32>(NEVER);
    s[0] = select(never, s[0] * p.scale, in0);
    s[1] = select(never, s[1] * p.scale, in1);
    s[2] = select(never, s[2] * p.scale, in2);
    s[3] = select(never, s[3] * p.scale, in3);
    parts[ty * 8u + tx] = vec4<f32>(largest(s[0]), largest(s[1]), largest(s[2]), largest(s[3]));
    workgroupBarrier();
    var next = top;
    for (var t = 0u; t < 8u; t++) {
      next = max(next, parts[ty * 8u + t]);
    }
    let keep = exp(top - next);
    top = next;
    let none = vec4<f32>();
    let e0 = select(none, exp(s[0] - vec4<f32>(top.x)), in0);
    let e1 = select(none, exp(s[1] - vec4<f32>(top.y)), in1);
    let e2 = select(none, exp(s[2] - vec4<f32>(top.z)), in2);
    let e3 = select(none, exp(s[3] - vec4<f32>(top.w)), in3);
    sum = sum * keep + vec4<f32>(total(e0), total(e1), total(e2), total(e3));
    ps[ty * 32u + tx] = vec4<f32>(e0.x, e1.x, e2.x, e3.x);
    ps[ty * 32u + tx + 8u] = vec4<f32>(e0.y, e1.y, e2.y, e3.y);
    ps[ty * 32u + tx + 16u] = vec4<f32>(e0.z, e1.z, e2.z, e3.z);
    ps[ty * 32u + tx + 24u] = vec4<f32>(e0.w, e1.w, e2.w, e3.w);
    a0 = scale_columns(a0, keep);
    if (CV > 1u) { a1 = scale_columns(a1, keep); }
    if (CV > 2u) { a2 = scale_columns(a2, keep); }
    if (CV > 3u) { a3 = scale_columns(a3, keep); }
    for (var j0 = 0u; j0 < BK; j0 += 8u) {
      workgroupBarrier();
      for (var i = lid; i < 8u * vecs; i += 64u) {
        let key = k0 + j0 + i / vecs;
        var v = vec4<f32>();
        if (key < hi) {
          v = open_cache(vCache[(kvHead * p.capacity + key) * vecs + i % vecs]);
        }
        cs[i] = v;
      }
      workgroupBarrier();
      for (var j = 0u; j < 8u; j++) {
        let e = ps[ty * 32u + j0 + j];
        let at = j * vecs + tx;
        a0 = add_outer(a0, cs[min(at, 255u)], e);
        if (CV > 1u) { a1 = add_outer(a1, cs[min(at + 8u, 255u)], e); }
        if (CV > 2u) { a2 = add_outer(a2, cs[min(at + 16u, 255u)], e); }
        if (CV > 3u) { a3 = add_outer(a3, cs[min(at + 24u, 255u)], e); }
      }
    }
  }
  workgroupBarrier();
  parts[ty * 8u + tx] = sum;
  workgroupBarrier();
  sum = vec4<f32>();
  for (var t = 0u; t < 8u; t++) {
    sum += parts[ty * 8u + t];
  }
  let least = max(sum, vec4<f32>(1e-30));
  let lse = top + log(least);
  let row = q0 + ty;
  store_row(row, h, tx, lse.x, least.x, a0[0], a1[0], a2[0], a3[0]);
  store_row(row + 8u, h, tx, lse.y, least.y, a0[1], a1[1], a2[1], a3[1]);
  store_row(row + 16u, h, tx, lse.z, least.z, a0[2], a1[2], a2[2], a3[2]);
  store_row(row + 24u, h, tx, lse.w, least.w, a0[3], a1[3], a2[3], a3[3]);
}
