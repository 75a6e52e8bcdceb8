// One query against a long cache, split over slices of SLICE keys: partial o, maximum and sum for each (slice, query head).
// q [heads][d] f32; k, v [kvHeads][capacity][d] in the cache's type; positions[0].w is the slot of the query, so keys 0..slot count.
// partial [slices][heads][d + 4] f32: o not yet divided, then maximum and sum.
// One workgroup of 128 threads for a slice and HEADS query heads of one kv head, which share the slice's keys and values; slices beyond
// the slot leave. Scores: eight threads a key, whose loads lie side by side. Values: 32 columns of 4 channels × 4 shares of the keys.
// Grid: (slices, heads / HEADS).

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
const STRIDE = SLICE + 1u;  // keeps the eight parts of a key in different banks
const THREADS_A_HEAD = 128u / HEADS;

var<workgroup> qs: array<vec4<f32>, HEADS * 32u>;            // [HEADS][d/4]
var<workgroup> scores: array<f32, HEADS * SLICE>;            // then probabilities
// Parts of the scores [8][SLICE] with a head in each component, then parts of the result [HEADS][4 shares][32 columns].
var<workgroup> sums: array<vec4<f32>, 8u * STRIDE>;

@compute @workgroup_size(128)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
  let slice = wg.x;
  let head0 = wg.y * HEADS;
  let vecs = p.d / 4u;
  let k0 = slice * SLICE;
  let keys = positions[0].w + 1u;
  if (k0 >= keys) {
    return;
  }
  let here = min(keys - k0, SLICE);
  let cache = ((head0 / p.group) * p.capacity + k0) * vecs;
  for (var i = lid; i < HEADS * vecs; i += 128u) {
    qs[i] = q[head0 * vecs + i] * p.scale;
  }
  workgroupBarrier();
  let part = lid % 8u;
  for (var j = lid / 8u; j < SLICE; j += 16u) {
    var dots = vec4<f32>();
    if (j < here) {
      for (var c = part; c < vecs; c += 8u) {
        let k = open_cache(kCache[cache + j * vecs + c]);
        for (var g = 0u; g < HEADS; g++) {
          dots[g] += dot(qs[g * vecs + c], k);
        }
      }
    }
    sums[part * STRIDE + j] = dots;
  }
  workgroupBarrier();
  for (var j = lid; j < SLICE; j += 128u) {
    var all = vec4<f32>();
    for (var i = 0u; i < 8u; i++) {
      all += sums[i * STRIDE + j];
    }
    for (var g = 0u; g < HEADS; g++) {
      scores[g * SLICE + j] = select(NEVER, all[g], j < here);
    }
  }
  workgroupBarrier();
  // Every thread of a head finds its maximum; then each takes its share of the exponentials.
  let head = lid / THREADS_A_HEAD;
  var top = NEVER;
  for (var j = 0u; j < SLICE; j++) {
    top = max(top, scores[head * SLICE + j]);
  }
  workgroupBarrier();
  for (var j = lid % THREADS_A_HEAD; j < SLICE; j += THREADS_A_HEAD) {
    let at = head * SLICE + j;
    scores[at] = select(0.0, exp(scores[at] - top), j < here);
  }
  workgroupBarrier();
  let column = lid % 32u;
  let share = lid / 32u;
  var acc: array<vec4<f32>, HEADS>;
  for (var g = 0u; g < HEADS; g++) {
    acc[g] = vec4<f32>();
  }
  if (column < vecs) {
    for (var j = share; j < here; j += 4u) {
      let v = open_cache(vCache[cache + j * vecs + column]);
      for (var g = 0u; g < HEADS; g++) {
        acc[g] += scores[g * SLICE + j] * v;
      }
    }
  }
  for (var g = 0u; g < HEADS; g++) {
    sums[(g * 4u + share) * 32u + column] = acc[g];
  }
  workgroupBarrier();
  for (var g = share; g < HEADS; g += 4u) {
    let at = g * 128u + column;
    let row = (slice * p.heads + head0 + g) * (vecs + 1u);
    if (column < vecs) {
      partialOut[row + column] = sums[at] + sums[at + 32u] + sums[at + 64u] + sums[at + 96u];
    }
  }
  if (lid % THREADS_A_HEAD == 0u) {
    var sum = 0.0;
    for (var j = 0u; j < SLICE; j++) {
      sum += scores[head * SLICE + j];
    }
    partialOut[(slice * p.heads + head0 + head) * (vecs + 1u) + vecs] = vec4<f32>(top, sum, 0.0, 0.0);
  }
}
