// o = softmax(scale · q kᵀ) v for each query over the keys lo ≤ j < hi of its range; flash style, scores never leave the workgroup.
// q [tokens][heads][d] f32; k, v [kvHeads][capacity][d] in the cache's type; ranges [tokens] (lo, hi); o [tokens][heads][d] f32.
// Training also keeps the log-sum-exp of each row (lib/lse.wgsl).
// Query head h reads kv head h / (heads/kvHeads). Causal attention is the range (0, position + 1), a picture's patches are (start, end).
// One workgroup of 64 threads for 64 queries of a head; 32 keys a step (lib/score_tile.wgsl); running maximum and sum in f32.
// Grid: (ceil(tokens/64), heads).

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

const NEVER = -1e30;
const MAXIMA = 9u;  // between the rows of maxima in `stage`

fn q_at(row: u32, head: u32, c: u32) -> vec4<f32> {
  if (row < p.tokens && c < p.d / 4u) {
    return q[(row * p.heads + head) * (p.d / 4u) + c];
  }
  return vec4<f32>();
}

fn k_at(key: u32, end: u32, kvHead: u32, c: u32) -> Raw4 {
  if (key < end && c < p.d / 4u) {
    return raw_key4(kvHead * p.capacity + key, c);
  }
  return Raw4();
}

// The part of a chunk that thread `lid` lays down: four queries, and four keys unless others have them all.
fn q_rows(row: u32, h: u32, c: u32) -> mat4x4<f32> {
  return mat4x4<f32>(q_at(row, h, c), q_at(row + 1u, h, c), q_at(row + 2u, h, c), q_at(row + 3u, h, c));
}

fn k_columns(lid: u32, key: u32, end: u32, kvHead: u32, c: u32) -> array<Raw4, 4> {
  var raw = array<Raw4, 4>();
  if (lid < 8u * CHUNK) {
    for (var i = 0u; i < 4u; i++) {
      raw[i] = k_at(key + 8u * i, end, kvHead, c);
    }
  }
  return raw;
}

fn open_columns(raw: array<Raw4, 4>, c: u32) -> mat4x4<f32> {
  return mat4x4<f32>(open4(raw[0], c), open4(raw[1], c), open4(raw[2], c), open4(raw[3], c));
}

// Every 64th vec4 from `lid` on of the eight values from `key` on.
fn v_rows(lid: u32, key: u32, end: u32, kvHead: u32) -> array<Raw4, CV> {
  let vecs = p.d / 4u;
  var raw = array<Raw4, CV>();
  for (var n = 0u; n < CV; n++) {
    let i = lid + 64u * n;
    let at = key + i / vecs;
    if (i < 8u * vecs && at < end) {
      raw[n] = raw_value4(kvHead * p.capacity + at, i % vecs);
    }
  }
  return raw;
}

// Scores of one query with four keys; NEVER where it does not see them.
fn mask(s: vec4<f32>, key: vec4<u32>, range: vec2<u32>) -> vec4<f32> {
  return select(vec4<f32>(NEVER), s * p.scale, (key >= vec4<u32>(range.x)) & (key < vec4<u32>(range.y)));
}

fn mask_rows(s: mat4x4<f32>, key: vec4<u32>, row: u32) -> mat4x4<f32> {
  return mat4x4<f32>(
    mask(s[0], key, span[row]), mask(s[1], key, span[row + 1u]), mask(s[2], key, span[row + 2u]), mask(s[3], key, span[row + 3u]));
}

// For a query that has seen no key yet the maximum is NEVER, too: what it does not see must still count nothing.
fn exponential(s: vec4<f32>, top: f32) -> vec4<f32> {
  return select(vec4<f32>(), exp(s - vec4<f32>(top)), s > vec4<f32>(0.5 * NEVER));
}

fn exponentials(s: mat4x4<f32>, top: vec4<f32>) -> mat4x4<f32> {
  return mat4x4<f32>(
    exponential(s[0], top.x), exponential(s[1], top.y), exponential(s[2], top.z), exponential(s[3], top.w));
}

fn maximum(v: vec4<f32>) -> f32 {
  return max(max(v.x, v.y), max(v.z, v.w));
}

fn maxima(m: mat4x4<f32>) -> vec4<f32> {
  return vec4<f32>(maximum(m[0]), maximum(m[1]), maximum(m[2]), maximum(m[3]));
}

fn scale_rows(m: mat4x4<f32>, by: vec4<f32>) -> mat4x4<f32> {
  return mat4x4<f32>(m[0] * by.x, m[1] * by.y, m[2] * by.z, m[3] * by.w);
}

fn store_row(row: u32, h: u32, tx: u32, top: f32, sum: f32, o0: vec4<f32>, o1: vec4<f32>, o2: vec4<f32>, o3: vec4<f32>) {
  if (row >= p.tokens) {
    return;
  }
  let total = max(sum, 1e-30);
  if (tx == 0u) {
    store_lse(row * p.heads + h, top + log(total));
  }
  let vecs = p.d / 4u;
  let at = (row * p.heads + h) * vecs + tx;
  if (tx < vecs) { o[at] = o0 / total; }
  if (CV > 1u && tx + 8u < vecs) { o[at + 8u] = o1 / total; }
  if (CV > 2u && tx + 16u < vecs) { o[at + 16u] = o2 / total; }
  if (CV > 3u && tx + 24u < vecs) { o[at + 24u] = o3 / total; }
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
  let q0 = wg.x * ROWS;
  let h = wg.y;
  let kvHead = h / p.group;
  let vecs = p.d / 4u;
  let ty = lid / 8u;
  let tx = lid % 8u;
  let met = span_of(lid, select(vec2<u32>(0xffffffffu, 0u), ranges[min(q0 + lid, p.tokens - 1u)], q0 + lid < p.tokens));
  let lo = met.x;
  let hi = met.y;
  var topA = vec4<f32>(NEVER);
  var topB = vec4<f32>(NEVER);
  var sumA = vec4<f32>();
  var sumB = vec4<f32>();
  var acc = Sums();
  for (var k0 = lo; k0 < hi; k0 += COLS) {
    let lane = lid % CHUNK;
    let row = q0 + 4u * (lid / CHUNK);
    let key0 = k0 + lid / CHUNK;
    // Written out, since a declaration alone was seen not to start from zero again.
    var s = Tile();
    // What is needed next is under way, as it lies in the cache, while something is computed; beyond d everything loads as zero.
    var queries = q_rows(row, h, lane);
    var keys = k_columns(lid, key0, hi, kvHead, lane);
    for (var c0 = 0u; c0 < vecs; c0 += CHUNK) {
      place_chunk(lid, queries, open_columns(keys, c0 + lane));
      queries = q_rows(row, h, c0 + CHUNK + lane);
      keys = k_columns(lid, key0, hi, kvHead, c0 + CHUNK + lane);
      add_chunk(&s, ty, tx);
    }
    var values = v_rows(lid, k0, hi, kvHead);
    let key = vec4<u32>(k0 + tx) + vec4<u32>(0u, 8u, 16u, 24u);
    s.a = mask_rows(s.a, key, 4u * ty);
    s.b = mask_rows(s.b, key, 32u + 4u * ty);
    workgroupBarrier();
    stage[ty * MAXIMA + tx] = maxima(s.a);
    stage[(8u + ty) * MAXIMA + tx] = maxima(s.b);
    workgroupBarrier();
    var nextA = topA;
    var nextB = topB;
    for (var t = 0u; t < 8u; t++) {
      nextA = max(nextA, stage[ty * MAXIMA + t]);
      nextB = max(nextB, stage[(8u + ty) * MAXIMA + t]);
    }
    let keepA = exp(topA - nextA);
    let keepB = exp(topB - nextB);
    topA = nextA;
    topB = nextB;
    s.a = exponentials(s.a, topA);
    s.b = exponentials(s.b, topB);
    let ones = vec4<f32>(1.0);
    sumA = sumA * keepA + ones * s.a;
    sumB = sumB * keepB + ones * s.b;
    put_weights(s, ty, tx);
    acc.a0 = scale_rows(acc.a0, keepA);
    acc.b0 = scale_rows(acc.b0, keepB);
    if (CV > 1u) { acc.a1 = scale_rows(acc.a1, keepA); acc.b1 = scale_rows(acc.b1, keepB); }
    if (CV > 2u) { acc.a2 = scale_rows(acc.a2, keepA); acc.b2 = scale_rows(acc.b2, keepB); }
    if (CV > 3u) { acc.a3 = scale_rows(acc.a3, keepA); acc.b3 = scale_rows(acc.b3, keepB); }
    for (var j0 = 0u; j0 < COLS; j0 += 8u) {
      workgroupBarrier();
      for (var n = 0u; n < CV; n++) {
        stage[lid + 64u * n] = open4(values[n], (lid + 64u * n) % vecs);
      }
      workgroupBarrier();
      values = v_rows(lid, k0 + j0 + 8u, hi, kvHead);
      add_columns(&acc, j0, vecs, ty, tx);
    }
  }
  workgroupBarrier();
  stage[ty * MAXIMA + tx] = sumA;
  stage[(8u + ty) * MAXIMA + tx] = sumB;
  workgroupBarrier();
  sumA = vec4<f32>();
  sumB = vec4<f32>();
  for (var t = 0u; t < 8u; t++) {
    sumA += stage[ty * MAXIMA + t];
    sumB += stage[(8u + ty) * MAXIMA + t];
  }
  let a = q0 + 4u * ty;
  let b = a + 32u;
  store_row(a, h, tx, topA.x, sumA.x, acc.a0[0], acc.a1[0], acc.a2[0], acc.a3[0]);
  store_row(a + 1u, h, tx, topA.y, sumA.y, acc.a0[1], acc.a1[1], acc.a2[1], acc.a3[1]);
  store_row(a + 2u, h, tx, topA.z, sumA.z, acc.a0[2], acc.a1[2], acc.a2[2], acc.a3[2]);
  store_row(a + 3u, h, tx, topA.w, sumA.w, acc.a0[3], acc.a1[3], acc.a2[3], acc.a3[3]);
  store_row(b, h, tx, topB.x, sumB.x, acc.b0[0], acc.b1[0], acc.b2[0], acc.b3[0]);
  store_row(b + 1u, h, tx, topB.y, sumB.y, acc.b0[1], acc.b1[1], acc.b2[1], acc.b3[1]);
  store_row(b + 2u, h, tx, topB.z, sumB.z, acc.b0[2], acc.b1[2], acc.b2[2], acc.b3[2]);
  store_row(b + 3u, h, tx, topB.w, sumB.w, acc.b0[3], acc.b1[3], acc.b2[3], acc.b3[3]);
}
