// One query against a long cache, split over slices of its keys: partial o, maximum and sum for each (slice, query head).
// q [heads][d] f32; k, v [kvHeads][capacity][d] in the cache's type; positions[0].w is the slot of the query, so keys 0..slot count.
// partial [slices][heads][d + 4] f32: o not yet divided, then maximum and sum.
// One workgroup of 128 threads for a slice and HEADS query heads of one kv head, which share the slice's keys and values; slices beyond
// the slot leave. A slice takes steps of KEYS keys, as many as keep the slices within SLICES. A thread has an eighth of every 16th key of a
// step, the same part of its value, and of the queries and the results: registers are all that a key meets.
// Sums in f32.  Grid: (slices, heads / HEADS).

struct Params {
  heads: u32,
  group: u32,     // query heads of a kv head, a multiple of HEADS
  d: u32,         // a multiple of 4, at most 128
  capacity: u32,
  scale: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> q: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> kCache: array<CacheVec>;
@group(0) @binding(3) var<storage, read> vCache: array<CacheVec>;
@group(0) @binding(4) var<storage, read> positions: array<vec4<u32>>;
@group(0) @binding(5) var<storage, read_write> partialOut: array<vec4<f32>>;

const NEVER = -1e30;
const STRIDE = KEYS + 1u;  // keeps the eight parts of a key in different banks

// A component for each head: parts of the scores [8][KEYS]. In the end the results of one head [16 shares][8 parts' columns].
var<workgroup> sums: array<vec4<f32>, 8u * STRIDE>;
var<workgroup> scores: array<vec4<f32>, KEYS>;
var<workgroup> tops: array<vec4<f32>, 8>;

fn query(head: u32, c: u32) -> vec4<f32> {
  let vecs = p.d / 4u;
  return select(vec4<f32>(), q[head * vecs + min(c, vecs - 1u)] * p.scale, c < vecs);
}

fn query_part(head: u32, part: u32) -> mat4x4<f32> {
  return mat4x4<f32>(
    query(head, part_vec(part, 0u)), query(head, part_vec(part, 1u)),
    query(head, part_vec(part, 2u)), query(head, part_vec(part, 3u)));
}

fn dot_part(a: mat4x4<f32>, b: mat4x4<f32>) -> f32 {
  return dot(a[0], b[0]) + dot(a[1], b[1]) + dot(a[2], b[2]) + dot(a[3], b[3]);
}

// Adds up the 16 shares of a head and writes them out.
fn fold(lid: u32, row: u32, a: mat4x4<f32>, top: f32, sum: f32) {
  let vecs = p.d / 4u;
  let at = lid / 8u * 32u + lid % 8u;
  sums[at] = a[0];
  sums[at + 8u] = a[1];
  sums[at + 16u] = a[2];
  sums[at + 24u] = a[3];
  workgroupBarrier();
  if (lid < 32u) {
    var all = vec4<f32>();
    for (var i = lid; i < 512u; i += 32u) {
      all += sums[i];
    }
    let column = part_vec(lid % 8u, lid / 8u);
    if (column < vecs) {
      partialOut[row * (vecs + 1u) + column] = all;
    }
    if (lid == 0u) {
      partialOut[row * (vecs + 1u) + vecs] = vec4<f32>(top, sum, 0.0, 0.0);
    }
  }
  workgroupBarrier();
}

@compute @workgroup_size(128)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
  let head0 = wg.y * HEADS;
  let keys = positions[0].w + 1u;
  let span = (keys + KEYS * SLICES - 1u) / (KEYS * SLICES) * KEYS;
  let k0 = wg.x * span;
  if (k0 >= keys) {
    return;
  }
  let end = min(keys, k0 + span);
  let cache = head0 / p.group * p.capacity;
  let part = lid % 8u;
  let share = lid / 8u;
  let q0 = query_part(head0, part);
  var q1: mat4x4<f32>;
  var q2: mat4x4<f32>;
  var q3: mat4x4<f32>;
  if (HEADS > 1u) { q1 = query_part(head0 + 1u, part); }
  if (HEADS > 2u) { q2 = query_part(head0 + 2u, part); q3 = query_part(head0 + 3u, part); }
  var a0: mat4x4<f32>;
  var a1: mat4x4<f32>;
  var a2: mat4x4<f32>;
  var a3: mat4x4<f32>;
  var top = vec4<f32>(NEVER);
  var sum = vec4<f32>();
  for (var k = k0; k < end; k += KEYS) {
    for (var j = share; j < KEYS; j += 16u) {
      let key = key_part(cache + min(k + j, end - 1u), part);
      var dots = vec4<f32>(dot_part(q0, key), 0.0, 0.0, 0.0);
      if (HEADS > 1u) { dots.y = dot_part(q1, key); }
      if (HEADS > 2u) { dots.z = dot_part(q2, key); dots.w = dot_part(q3, key); }
      sums[part * STRIDE + j] = dots;
    }
    workgroupBarrier();
    if (lid < KEYS) {
      var all = vec4<f32>();
      for (var i = lid; i < 8u * STRIDE; i += STRIDE) {
        all += sums[i];
      }
      scores[lid] = select(vec4<f32>(NEVER), all, k + lid < end);
    }
    workgroupBarrier();
    var next = vec4<f32>(NEVER);
    for (var j = part; j < KEYS; j += 8u) {
      next = max(next, scores[j]);
    }
    if (lid < 8u) {
      tops[lid] = next;
    }
    workgroupBarrier();
    next = top;
    for (var i = 0u; i < 8u; i++) {
      next = max(next, tops[i]);
    }
    let keep = exp(top - next);
    top = next;
    sum *= keep;
    a0 *= keep.x;
    if (HEADS > 1u) { a1 *= keep.y; }
    if (HEADS > 2u) { a2 *= keep.z; a3 *= keep.w; }
    for (var j = share; j < KEYS; j += 16u) {
      let e = select(vec4<f32>(), exp(scores[j] - top), k + j < end);
      let value = value_part(cache + min(k + j, end - 1u), part);
      sum += e;
      a0 += value * e.x;
      if (HEADS > 1u) { a1 += value * e.y; }
      if (HEADS > 2u) { a2 += value * e.z; a3 += value * e.w; }
    }
  }
  workgroupBarrier();
  if (part == 0u) {
    scores[share] = sum;
  }
  workgroupBarrier();
  sum = vec4<f32>();
  for (var i = 0u; i < 16u; i++) {
    sum += scores[i];
  }
  let row = wg.x * p.heads + head0;
  fold(lid, row, a0, top.x, sum.x);
  if (HEADS > 1u) { fold(lid, row + 1u, a1, top.y, sum.y); }
  if (HEADS > 2u) {
    fold(lid, row + 2u, a2, top.z, sum.z);
    fold(lid, row + 3u, a3, top.w, sum.w);
  }
}
