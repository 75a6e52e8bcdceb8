// One new token's attention over a long cache that takes in its key and value on the way, split over slices of the keys: partial o,
// maximum and sum for each (slice, query head).
// qkv [(heads + 2·kvHeads)·d] f32, normed and rotated as in lib/rotary.wgsl; positions[0] is t, h, w and the slot, so keys 0..slot count;
// k, v [kvHeads][capacity][d] in the cache's type. partial [slices][heads][d + 4] f32: o not yet divided, then maximum and sum.
// One workgroup of 128 threads for a slice and HEADS query heads of one kv head, which share the slice's keys and values; workgroups beyond
// the slices leave. The first one takes the last slice, which has most to do: it stores the new key and value before it reads them.
// (Where a kv head has more query heads than HEADS, several store the same.) A slice takes steps of KEYS keys, as many as keep the slices
// within SLICES. Of the keys a thread has an eighth of every 16th key of a step, of the softmax every 32nd key of a head, of the values
// four channels of every fourth. Whatever a step loads is asked for before anything waits.
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
const MAX_D = 128u;
const QUERY = 36u;  // between the queries of two heads: 32 vec4, and a gap after each eight that keeps the parts in different banks
const STRIDE = KEYS + 1u;  // the same
const SHARES = 4u;  // of the values

// Parts of the scores [8 parts][HEADS][KEYS]; in the end the results [SHARES][HEADS][4][32 columns].
var<workgroup> sums: array<f32, 8u * HEADS * STRIDE>;
var<workgroup> weights: array<f32, HEADS * KEYS>;  // [KEYS][HEADS]
var<workgroup> each: array<f32, 128>;  // a number of each thread
var<workgroup> keeps: array<f32, 4>;  // of each head, what is left of earlier steps
var<workgroup> head: array<f32, 4u * MAX_D>;  // four rows of heads; what follows d stays zero
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
  each[lid] = select(0.0, dot(a, a), j.x < halfD) + select(0.0, dot(b, b), j.y < halfD);
  workgroupBarrier();
  var sum = 0.0;
  for (var i = 0u; i < 32u; i++) {
    sum += each[lid - lane + i];
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

// Parts of the scores of every 16th key.
fn score_parts(keys: array<RawPart, KEYS / 16u>, part: u32, share: u32) {
  var dots = array<vec4<f32>, KEYS / 16u>();
  for (var s = 0u; s < 4u; s++) {
    let v = part_vec(part, s);
    let q0 = query(0u, v);
    var q1: vec4<f32>;
    var q2: vec4<f32>;
    var q3: vec4<f32>;
    if (HEADS > 1u) { q1 = query(1u, v); }
    if (HEADS > 2u) { q2 = query(2u, v); q3 = query(3u, v); }
    for (var i = 0u; i < KEYS / 16u; i++) {
      let key = open_part(keys[i], part, s);
      dots[i].x += dot(q0, key);
      if (HEADS > 1u) { dots[i].y += dot(q1, key); }
      if (HEADS > 2u) { dots[i].z += dot(q2, key); dots[i].w += dot(q3, key); }
    }
  }
  for (var i = 0u; i < KEYS / 16u; i++) {
    for (var h = 0u; h < HEADS; h++) {
      sums[(part * HEADS + h) * STRIDE + share + 16u * i] = dots[i][h];
    }
  }
}

fn score(h: u32, key: u32) -> f32 {
  var all = 0.0;
  for (var i = 0u; i < 8u; i++) {
    all += sums[(i * HEADS + h) * STRIDE + key];
  }
  return all;
}

fn load_keys(first: u32, last: u32, part: u32) -> array<RawPart, KEYS / 16u> {
  var keys: array<RawPart, KEYS / 16u>;
  for (var i = 0u; i < KEYS / 16u; i++) {
    keys[i] = raw_key_part(min(first + 16u * i, last), part);
  }
  return keys;
}

fn put_result(share: u32, h: u32, column: u32, a: vec4<f32>) {
  let at = (share * HEADS + h) * 128u + column;
  sums[at] = a.x;
  sums[at + 32u] = a.y;
  sums[at + 64u] = a.z;
  sums[at + 96u] = a.w;
}

@compute @workgroup_size(128)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
  let head0 = wg.y * HEADS;
  let pos = positions[0];
  let count = pos.w + 1u;
  let span = (count + KEYS * SLICES - 1u) / (KEYS * SLICES) * KEYS;
  let slices = (count + span - 1u) / span;
  if (wg.x >= slices) {
    return;
  }
  let slice = slices - 1u - wg.x;
  let k0 = slice * span;
  let end = min(count, k0 + span);
  let vecs = p.d / 4u;
  let kvHead = head0 / (p.heads / p.kvHeads);
  let cache = kvHead * p.capacity;
  let last = cache + end - 1u;
  let h = lid / 32u;
  let lane = lid % 32u;
  let column = min(lane, vecs - 1u);
  if (wg.x == 0u) {
    store_new(lid, kvHead, pos);
  }
  var keys = load_keys(cache + k0 + lid / 8u, last, lid % 8u);
  lay_queries(lid, head0, pos);
  var top = NEVER;
  var sum = 0.0;
  var a0 = vec4<f32>();
  var a1 = vec4<f32>();
  var a2 = vec4<f32>();
  var a3 = vec4<f32>();
  for (var k = k0; k < end; k += KEYS) {
    score_parts(keys, lid % 8u, lid / 8u);
    var values: array<Raw4, KEYS / SHARES>;
    for (var i = 0u; i < KEYS / SHARES; i++) {
      values[i] = raw_value4(min(cache + k + SHARES * i + h, last), column);
    }
    workgroupBarrier();
    var mine: array<f32, KEYS / 32u>;
    var most = NEVER;
    if (h < HEADS) {
      for (var i = 0u; i < KEYS / 32u; i++) {
        mine[i] = select(NEVER, score(h, lane + 32u * i), k + lane + 32u * i < end);
        most = max(most, mine[i]);
      }
    }
    each[lid] = most;
    workgroupBarrier();
    var next = top;
    for (var i = 0u; i < 32u; i++) {
      next = max(next, each[lid - lane + i]);
    }
    let keep = exp(top - next);
    top = next;
    sum *= keep;
    if (h < HEADS) {
      for (var i = 0u; i < KEYS / 32u; i++) {
        let e = exp(mine[i] - top);
        sum += e;
        weights[(lane + 32u * i) * HEADS + h] = e;
      }
    }
    if (lane == 0u) {
      keeps[h] = keep;
    }
    workgroupBarrier();
    keys = load_keys(cache + k + KEYS + lid / 8u, last, lid % 8u);
    a0 *= keeps[0];
    a1 *= keeps[1];
    a2 *= keeps[2];
    a3 *= keeps[3];
    for (var i = 0u; i < KEYS / SHARES; i++) {
      let value = open4(values[i], column);
      let at = (SHARES * i + h) * HEADS;
      a0 += value * weights[at];
      if (HEADS > 1u) { a1 += value * weights[at + 1u]; }
      if (HEADS > 2u) { a2 += value * weights[at + 2u]; a3 += value * weights[at + 3u]; }
    }
  }
  put_result(h, 0u, lane, a0);
  if (HEADS > 1u) { put_result(h, 1u, lane, a1); }
  if (HEADS > 2u) { put_result(h, 2u, lane, a2); put_result(h, 3u, lane, a3); }
  each[lid] = sum;
  workgroupBarrier();
  if (h >= HEADS || lane >= vecs) {
    return;
  }
  let at = (slice * p.heads + head0 + h) * (vecs + 1u);
  var all = vec4<f32>();
  for (var i = 0u; i < SHARES; i++) {
    let place = (i * HEADS + h) * 128u + lane;
    all += vec4<f32>(sums[place], sums[place + 32u], sums[place + 64u], sums[place + 96u]);
  }
  partialOut[at + lane] = all;
  if (lane == 0u) {
    sum = 0.0;
    for (var i = 0u; i < 32u; i++) {
      sum += each[lid + i];
    }
    partialOut[at + vecs] = vec4<f32>(top, sum, 0.0, 0.0);
  }
}
