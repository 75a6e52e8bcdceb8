// One query against a long cache, split over slices of SLICE keys: partial o, maximum and sum for each (slice, query head).
// q [heads][d] f32; k, v [kvHeads][capacity][d] in the cache's type; positions[0].w is the slot of the query, so keys 0..slot count.
// partial [slices][heads][d + 4] f32: o not yet divided, then maximum and sum.
// All GROUP query heads of a kv head share its keys. One workgroup of 128 threads for each (slice, kv head); slices beyond the slot leave.

struct Params {
  kvHeads: u32,
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

var<workgroup> qs: array<vec4<f32>, GROUP_VECS>;           // [GROUP][d/4]
var<workgroup> quarter: array<f32, 128>;
var<workgroup> scores: array<f32, GROUP_SLICE>;            // [GROUP][SLICE]
var<workgroup> stat: array<vec2<f32>, GROUP>;
var<workgroup> sums: array<vec4<f32>, 128>;

@compute @workgroup_size(128)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
  let slice = wg.x;
  let kvHead = wg.y;
  let vecs = p.d / 4u;
  let keys = positions[0].w + 1u;
  let k0 = slice * SLICE;
  let here = min(keys, k0 + SLICE) - min(keys, k0);  // keys of this slice; 0 beyond the end, where every loop is empty
  for (var i = lid; i < GROUP * vecs; i += 128u) {
    qs[i] = q[kvHead * GROUP * vecs + i];
  }
  workgroupBarrier();
  // Scores: four threads a key, each a quarter of the channels, 32 keys a step.
  let part = lid % 4u;
  for (var j0 = 0u; j0 < SLICE; j0 += 32u) {
    let j = j0 + lid / 4u;
    for (var g = 0u; g < GROUP; g++) {
      var sum = 0.0;
      if (j < here) {
        for (var c = part; c < vecs; c += 4u) {
          sum += dot(qs[g * vecs + c], open_cache(kCache[(kvHead * p.capacity + k0 + j) * vecs + c]));
        }
      }
      workgroupBarrier();
      quarter[lid] = sum;
      workgroupBarrier();
      if (part == 0u) {
        let s = (quarter[lid] + quarter[lid + 1u] + quarter[lid + 2u] + quarter[lid + 3u]) * p.scale;
        scores[g * SLICE + j] = select(NEVER, s, j < here);
      }
    }
  }
  workgroupBarrier();
  if (lid < GROUP) {
    var top = NEVER;
    for (var j = 0u; j < here; j++) {
      top = max(top, scores[lid * SLICE + j]);
    }
    var sum = 0.0;
    for (var j = 0u; j < here; j++) {
      let e = exp(scores[lid * SLICE + j] - top);
      scores[lid * SLICE + j] = e;
      sum += e;
    }
    stat[lid] = vec2<f32>(top, sum);
  }
  workgroupBarrier();
  // Values: 32 columns of 4 channels × 4 shares of the keys.
  let column = lid % 32u;
  let share = lid / 32u;
  for (var g = 0u; g < GROUP; g++) {
    var acc = vec4<f32>();
    if (column < vecs) {
      for (var j = share; j < here; j += 4u) {
        acc += scores[g * SLICE + j] * open_cache(vCache[(kvHead * p.capacity + k0 + j) * vecs + column]);
      }
    }
    workgroupBarrier();
    sums[lid] = acc;
    workgroupBarrier();
    let row = ((slice * p.kvHeads + kvHead) * GROUP + g) * (vecs + 1u);
    if (here > 0u) {
      if (share == 0u && column < vecs) {
        partialOut[row + column] = sums[lid] + sums[lid + 32u] + sums[lid + 64u] + sums[lid + 96u];
      }
      if (lid == 0u) {
        partialOut[row + vecs] = vec4<f32>(stat[g], 0.0, 0.0);
      }
    }
  }
}
