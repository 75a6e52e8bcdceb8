// One new token's attention over a long cache that takes in its key and value on the way, split over slices of the keys: partial o,
// maximum and sum for each (slice, query head).
// qkv [(heads + 2·kvHeads)·d] f32, normed and rotated as in lib/rotary.wgsl; positions[0] is t, h, w and the slot, so keys 0..slot count;
// k, v [kvHeads][capacity][d] in the cache's type. partial [slices][heads][d + 4] f32: o not yet divided, then maximum and sum.
// One workgroup of 128 threads for a slice and HEADS query heads of one kv head, which share the slice's keys and values; workgroups beyond
// the slices leave. The first one takes the last slice, which has most to do: it stores the new key and value before it reads them.
// (Where a kv head has more query heads than HEADS, several store the same.) A slice takes steps of KEYS = 32 keys, as many as keep the slices
// within SLICES. Of the keys a thread has an eighth of every 16th key of a step, of the softmax one key of a head, of the values
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
const SHARES = 4u;   // of the values
const QUERY = 36u;   // 32 vec4 of a query, and a gap after each eight that keeps the parts in different banks

// The text is short on purpose: in decoding each dispatch runs once and then another one, and what no longer fits the device's cache of
// instructions is fetched anew for every layer of every token. Arrays in arrays: where an index is a constant, nothing checks it.
// Parts of the scores [8 parts][key], of each head one; in the end the results [HEADS × SHARES][column].
var<workgroup> sums: array<array<vec4<f32>, KEYS + 1u>, max(8u, HEADS * SHARES)>;
var<workgroup> weights: array<array<array<f32, HEADS>, SHARES>, KEYS / SHARES>;
var<workgroup> each: array<array<f32, 36>, 4>;  // [head][key], or [row][lane]
var<workgroup> keeps: array<f32, HEADS>;  // of each head, what is left of earlier steps
var<workgroup> tops: array<f32, HEADS>;  // in the end the maximum of each
var<workgroup> head: array<f32, 4u * MAX_D>;  // four rows of heads; what follows d stays zero
var<workgroup> queries: array<array<vec4<f32>, QUERY>, HEADS>;

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
// `first` on and rotated.
fn lay_rows(lid: u32, row: u32, first: u32, asItIs: bool, pos: vec4<u32>) {
  let halfD = p.d / 2u;
  let lane = lid % 32u;
  let j = vec2<u32>(lane, lane + 32u);
  let a = pair_of(row, j.x);
  let b = pair_of(row, j.y);
  let normA = norm_pair(first, j.x);
  let normB = norm_pair(first, j.y);
  let angleA = angle(min(j.x, halfD - 1u), pos);
  let angleB = angle(min(j.y, halfD - 1u), pos);
  each[lid / 32u][lane] = select(0.0, dot(a, a), j.x < halfD) + select(0.0, dot(b, b), j.y < halfD);
  workgroupBarrier();
  var sum = 0.0;
  for (var i = 0u; i < 32u; i++) {
    sum += each[lid / 32u][i];
  }
  let r = norm_factor(sum);
  let to = lid / 32u * MAX_D;
  put_pair(to, j.x, select(turn(normA * (a * r), angleA), a, asItIs));
  put_pair(to, j.y, select(turn(normB * (b * r), angleB), b, asItIs));
  workgroupBarrier();
}

// Stores the new key and value, whose rows are laid out.
fn store_new(lid: u32, kvHead: u32, slot: u32) {
  weigh_rows(2u, lid, 128u);
  let at = (kvHead * p.capacity + slot) * ROW_VECS;
  for (var i = lid % 64u; i < ROW_VECS; i += 64u) {
    let vec = cache_vec(lid / 64u, i);
    if (lid < 64u) {
      kCache[at + i] = vec;
    } else {
      vCache[at + i] = vec;
    }
  }
  storageBarrier();
}

// Takes a vector of the queries that are laid out.
fn take_query(h: u32, v: u32) {
  if (h < HEADS) {
    let at = h * MAX_D + 4u * v;
    queries[h][v + v / 8u] = vec4<f32>(head[at], head[at + 1u], head[at + 2u], head[at + 3u]) * p.scale;
  }
}

// Parts of the scores of every 16th key. An index that is not used has to be one of the array's all the same.
fn score_parts(keys: array<RawPart, 2>, part: u32, share: u32) {
  var dots = array<vec4<f32>, 2>();
  for (var s = 0u; s < 4u; s++) {
    let v = part_vec(part, s);
    let at = v + v / 8u;
    for (var i = 0u; i < 2u; i++) {
      let key = open_part(keys[i], part, s);
      dots[i].x += dot(queries[0][at], key);
      if (HEADS > 1u) { dots[i].y += dot(queries[min(1u, HEADS - 1u)][at], key); }
      if (HEADS > 2u) {
        dots[i].z += dot(queries[min(2u, HEADS - 1u)][at], key);
        dots[i].w += dot(queries[min(3u, HEADS - 1u)][at], key);
      }
    }
  }
  sums[part][share] = dots[0];
  sums[part][share + 16u] = dots[1];
}

fn load_keys(first: u32, last: u32, part: u32) -> array<RawPart, 2> {
  return array<RawPart, 2>(raw_key_part(min(first, last), part), raw_key_part(min(first + 16u, last), part));
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
  // Behind it lies what an earlier answer left, and zero times that need not be zero.
  let last = cache + end - 1u;
  let share = lid / 32u;
  let lane = lid % 32u;
  let column = min(lane, vecs - 1u);
  // Whose part of the softmax a thread has.
  let h = lid % HEADS;
  let key = lid / HEADS;
  var keys: array<RawPart, 2>;
  // The new key and value in a first round, the queries in the second: one text for both, since a device fetches it anew for each token.
  for (var round = select(1u, 0u, wg.x == 0u); round < 2u; round++) {
    let isLast = round == 1u;
    if (isLast) {
      keys = load_keys(cache + k0 + lid / 8u, last, lid % 8u);
    }
    let kv = p.heads + share % 2u * p.kvHeads + kvHead;
    let row = select(kv, head0 + min(share, HEADS - 1u), isLast);
    lay_rows(lid, row, select(p.d, 0u, isLast), !isLast && share % 2u == 1u, pos);
    if (isLast) {
      take_query(share, lane);
    } else {
      store_new(lid, kvHead, pos.w);
    }
    workgroupBarrier();
  }
  var top = NEVER;
  var sum = 0.0;
  var a: array<vec4<f32>, HEADS>;
  for (var k = k0; k < end; k += KEYS) {
    score_parts(keys, lid % 8u, lid / 8u);
    var values: array<Raw4, KEYS / SHARES>;
    for (var i = 0u; i < KEYS / SHARES; i++) {
      values[i] = raw_value4(min(cache + k + share + SHARES * i, last), column);
    }
    workgroupBarrier();
    var mine = NEVER;
    if (key < KEYS && k + key < end) {
      mine = 0.0;
      for (var i = 0u; i < 8u; i++) {
        mine += sums[i][key][h];
      }
    }
    if (key < KEYS) {
      each[h][key] = mine;
    }
    workgroupBarrier();
    var next = top;
    for (var i = 0u; i < KEYS; i++) {
      next = max(next, each[h][i]);
    }
    let keep = exp(top - next);
    top = next;
    let e = exp(mine - top);
    sum = sum * keep + e;
    if (key < KEYS) {
      weights[key / SHARES][key % SHARES][h] = e;
    }
    if (key == 0u) {
      keeps[h] = keep;
    }
    workgroupBarrier();
    if (k + KEYS < end) {
      keys = load_keys(cache + k + KEYS + lid / 8u, last, lid % 8u);
    }
    for (var c = 0u; c < HEADS; c++) {
      a[c] *= keeps[c];
    }
    for (var i = 0u; i < KEYS / SHARES; i++) {
      let value = open4(values[i], column);
      for (var c = 0u; c < HEADS; c++) {
        a[c] += value * weights[i][share][c];
      }
    }
  }
  for (var c = 0u; c < HEADS; c++) {
    sums[c * SHARES + share][lane] = a[c];
  }
  if (key < KEYS) {
    each[h][key] = sum;
  }
  if (key == 0u) {
    tops[h] = top;
  }
  workgroupBarrier();
  if (share >= HEADS || lane >= vecs) {
    return;
  }
  let at = (slice * p.heads + head0 + share) * (vecs + 1u);
  var all = vec4<f32>();
  for (var i = 0u; i < SHARES; i++) {
    all += sums[share * SHARES + i][lane];
  }
  partialOut[at + lane] = all;
  if (lane == 0u) {
    sum = 0.0;
    for (var i = 0u; i < KEYS; i++) {
      sum += each[share][i];
    }
    partialOut[at + vecs] = vec4<f32>(tops[share], sum, 0.0, 0.0);
  }
}
