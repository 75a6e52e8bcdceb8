// What the three shaders of the sampler share: settings, the order of floats, the noise, the best of a workgroup of 256 threads.
// scratch: for each segment of SEGMENT ids [largest logit, its id, Σ exp(logit − largest of all), largest noisy logit, its id, not finite],
// then the number of listed ids, then the list.

struct Settings {
  temperature: f32,  // 0: greedy
  topK: u32,         // 0: off
  topP: f32,         // 1: off
  minP: f32,         // 0: off
  repetition: f32,
  presence: f32,
  seed: u32,
  limit: u32,        // ids at or over this are never picked
  endCount: u32,
  ends: array<u32, 8>,
}

struct Control {
  step: u32,  // tokens picked so far
  done: u32,  // 0 running, 1 end of turn, 2 logits not finite
}

const WGS = 256u;
const SEGMENT = 1024u;
const FIELDS = 6u;
const TOP = 0u;
const TOP_ID = 1u;
const MASS = 2u;
const BEST = 3u;
const BEST_ID = 4u;
const BAD = 5u;
const LOWEST = -3e38;

var<workgroup> best: array<f32, 256>;
var<workgroup> bestId: array<u32, 256>;

// Larger floats have larger keys.
fn key_of(v: f32) -> u32 {
  let b = bitcast<u32>(v);
  return select(b | 0x80000000u, ~b, (b & 0x80000000u) != 0u);
}

fn hash(seed: u32, step: u32, id: u32) -> u32 {
  var h = seed * 0x9e3779b9u + step * 0x85ebca6bu + id * 0xc2b2ae35u + 0x27d4eb2fu;
  h = (h ^ (h >> 16u)) * 0x7feb352du;
  h = (h ^ (h >> 15u)) * 0x846ca68bu;
  h = h ^ (h >> 16u);
  h = (h + step * 0x9e3779b9u) ^ seed;
  h = (h ^ (h >> 16u)) * 0x7feb352du;
  h = (h ^ (h >> 15u)) * 0x846ca68bu;
  return h ^ (h >> 16u);
}

fn gumbel(seed: u32, id: u32, step: u32) -> f32 {
  let u = (f32(hash(seed, step, id) >> 8u) + 0.5) / 16777216.0;
  return -log(-log(u));
}

// Position of the largest value over the workgroup, the lowest id among equals.
fn group_best(value: f32, id: u32, lid: u32) -> u32 {
  workgroupBarrier();
  best[lid] = value;
  bestId[lid] = id;
  workgroupBarrier();
  for (var stride = WGS / 2u; stride > 0u; stride >>= 1u) {
    if (lid < stride) {
      let v = best[lid + stride];
      let other = bestId[lid + stride];
      if (v > best[lid] || (v == best[lid] && other < bestId[lid])) {
        best[lid] = v;
        bestId[lid] = other;
      }
    }
    workgroupBarrier();
  }
  return workgroupUniformLoad(&bestId[0]);
}

fn filters(s: Settings) -> bool {
  return keeps_few(s) || s.topP < 1.0;
}

fn keeps_few(s: Settings) -> bool {
  return s.topK > 0u && s.topK < s.limit;
}
