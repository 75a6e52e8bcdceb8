// One new token's attention over a long cache that takes in its key and value on the way, split over slices of the keys: partial o,
// maximum and sum for each (slice, query head).
// qkv [(heads + 2·kvHeads)·d] f32, normed and rotated as in lib/rotary.wgsl; positions[0] is t, h, w and the slot, so keys 0..slot count;
// k, v [kvHeads][capacity][d] in the cache's type. partial [slices][heads][d + 4] f32: o not yet divided, then maximum and sum.
// One workgroup of 128 threads for a slice and HEADS query heads of one kv head, which share the slice's keys and values; workgroups beyond
// the slices leave. The first one takes the last slice, which has most to do: it stores the new key and value before it reads them.
// (Where a kv head has more query heads than HEADS, several store the same.) A slice takes steps of KEYS keys, as many as keep the slices
// within SLICES. A thread has an eighth of every 16th key of a step, the same part of its value, and of the queries and the results:
// registers are all that a key meets.
// Sums in f32.  Grid: (slices, heads / HEADS).

struct Params {
  tokens: u32,    // one
  heads: u32,
  kvHeads: u32,
  d: u32,         // a multiple of 4, at most 128
  capacity: u32,
  sectionH: u32,  // as in lib/rotary.wgsl
  sectionW: u32,
  eps: f32,
  scale: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> qkv: array<f32>;
@group(0) @binding(2) var<storage, read> norms: array<f32>;  // q's weights, then k's
@group(0) @binding(3) var<storage, read> table: array<vec2<f32>>;
@group(0) @binding(4) var<storage, read> positions: array<vec4<u32>>;
@group(0) @binding(5) var<storage, read_write> kCache: array<CacheVec>;
@group(0) @binding(6) var<storage, read_write> vCache: array<CacheVec>;
@group(0) @binding(7) var<storage, read_write> partialOut: array<vec4<f32>>;

const NEVER = -1e30;
const STRIDE = KEYS + 1u;  // keeps the eight parts of a key in different banks
const MAX_D = 128u;
const QUERY = 36u;  // between the queries of two heads: 32 vec4, and a gap after each eight for the same reason

// A component for each head: parts of the scores [8][KEYS]. In the end the results of one head [16 shares][8 parts' columns].
var<workgroup> sums: array<vec4<f32>, 8u * STRIDE>;
var<workgroup> scores: array<vec4<f32>, KEYS>;
var<workgroup> tops: array<vec4<f32>, 8>;
var<workgroup> head: array<f32, 4u * MAX_D>;  // four rows of heads; what follows d stays zero
var<workgroup> squares: array<f32, 128>;
var<workgroup> queries: array<vec4<f32>, HEADS * QUERY>;

// Elements j and j + d/2 of a row; the last ones for a j that it does not have.
fn pair_of(row: u32, j: u32) -> vec2<f32> {
  let at = row * p.d + min(j, p.d / 2u - 1u);
  return vec2<f32>(qkv[at], qkv[at + p.d / 2u]);
}

fn norm_pair(first: u32, j: u32) -> vec2<f32> {
  let at = first + min(j, p.d / 2u - 1u);
  return vec2<f32>(norms[at], norms[at + p.d / 2u]);
}

fn put_pair(to: u32, j: u32, h: vec2<f32>) {
  if (j < p.d / 2u) {
    head[to + j] = h.x;
    head[to + j + p.d / 2u] = h.y;
  }
}

// Lays four rows of qkv into `head`, each by 32 threads with up to two pairs of elements: as they are, or normed by the weights from
// `weights` on and rotated.
fn lay_rows(lid: u32, row: u32, weights: u32, asItIs: bool, pos: vec4<u32>) {
  let halfD = p.d / 2u;
  let lane = lid % 32u;
  let j = vec2<u32>(lane, lane + 32u);
  let a = pair_of(row, j.x);
  let b = pair_of(row, j.y);
  let normA = norm_pair(weights, j.x);
  let normB = norm_pair(weights, j.y);
  let angleA = angle(min(j.x, halfD - 1u), pos);
  let angleB = angle(min(j.y, halfD - 1u), pos);
  squares[lid] = select(0.0, dot(a, a), j.x < halfD) + select(0.0, dot(b, b), j.y < halfD);
  workgroupBarrier();
  var sum = 0.0;
  for (var i = 0u; i < 32u; i++) {
    sum += squares[lid - lane + i];
  }
  let r = norm_factor(sum);
  let to = lid / 32u * MAX_D;
  put_pair(to, j.x, select(turn(normA * (a * r), angleA), a, asItIs));
  put_pair(to, j.y, select(turn(normB * (b * r), angleB), b, asItIs));
  workgroupBarrier();
}

fn store_new(lid: u32, kvHead: u32, pos: vec4<u32>) {
  let isV = lid >= 32u;
  lay_rows(lid, p.heads + select(0u, p.kvHeads, isV) + kvHead, p.d, isV, pos);
  let at = (kvHead * p.capacity + pos.w) * ROW_VECS;
  for (var i = lid % 64u; i < ROW_VECS; i += 64u) {
    let vec = cache_vec(lid / 64u * MAX_D, i);
    if (lid < 64u) {
      kCache[at + i] = vec;
    } else {
      vCache[at + i] = vec;
    }
  }
  storageBarrier();
  workgroupBarrier();
}

fn lay_queries(lid: u32, head0: u32, pos: vec4<u32>) {
  let h = lid / 32u;
  lay_rows(lid, head0 + min(h, HEADS - 1u), 0u, false, pos);
  if (h < HEADS) {
    let v = lid % 32u;
    let at = h * MAX_D + 4u * v;
    queries[h * QUERY + v + v / 8u] = vec4<f32>(head[at], head[at + 1u], head[at + 2u], head[at + 3u]) * p.scale;
  }
  workgroupBarrier();
}

fn query(h: u32, v: u32) -> vec4<f32> {
  return queries[h * QUERY + v + v / 8u];
}

fn query_part(h: u32, part: u32) -> mat4x4<f32> {
  return mat4x4<f32>(
    query(h, part_vec(part, 0u)), query(h, part_vec(part, 1u)), query(h, part_vec(part, 2u)), query(h, part_vec(part, 3u)));
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
  let pos = positions[0];
  let keys = pos.w + 1u;
  let span = (keys + KEYS * SLICES - 1u) / (KEYS * SLICES) * KEYS;
  let slices = (keys + span - 1u) / span;
  if (wg.x >= slices) {
    return;
  }
  let slice = slices - 1u - wg.x;
  let k0 = slice * span;
  let end = min(keys, k0 + span);
  let kvHead = head0 / (p.heads / p.kvHeads);
  let cache = kvHead * p.capacity;
  let part = lid % 8u;
  let share = lid / 8u;
  if (wg.x == 0u) {
    store_new(lid, kvHead, pos);
  }
  lay_queries(lid, head0, pos);
  let q0 = query_part(0u, part);
  var q1: mat4x4<f32>;
  var q2: mat4x4<f32>;
  var q3: mat4x4<f32>;
  if (HEADS > 1u) { q1 = query_part(1u, part); }
  if (HEADS > 2u) { q2 = query_part(2u, part); q3 = query_part(3u, part); }
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
  let row = slice * p.heads + head0;
  fold(lid, row, a0, top.x, sum.x);
  if (HEADS > 1u) { fold(lid, row + 1u, a1, top.y, sum.y); }
  if (HEADS > 2u) {
    fold(lid, row + 2u, a2, top.z, sum.z);
    fold(lid, row + 3u, a3, top.w, sum.w);
  }
}
