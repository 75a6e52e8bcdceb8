// Picks the next token from one row of logits and moves the generation on, so that no CPU is needed between tokens.
// Order as in transformers: repetition and presence penalty, temperature, top-k, top-p, min-p, then a draw by Gumbel-max
// (argmax of logit/T + Gumbel noise from a counter-based hash of seed, step and token: an exact draw from the softmax).
// Cuts are found by radix selection over sortable keys, 8 bits a pass: by counts for top-k, by probability in fixed point for top-p.
// logits [vocab] f32 (overwritten); seen [vocab] u32: bit 0 in the prompt or the answer, bit 1 in the answer.
// One workgroup of 256 threads.

struct Params {
  vocab: u32,  // columns of the logits
}

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

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> settings: Settings;
@group(0) @binding(2) var<storage, read_write> logits: array<f32>;
@group(0) @binding(3) var<storage, read_write> seen: array<u32>;
@group(0) @binding(4) var<storage, read_write> token: array<u32>;
@group(0) @binding(5) var<storage, read_write> positions: array<vec4<u32>>;
@group(0) @binding(6) var<storage, read_write> control: Control;
@group(0) @binding(7) var<storage, read_write> ring: array<u32>;

const WGS = 256u;
const LOWEST = -3e38;
const UNIT = 1073741824.0;  // 2^30: probability 1 in fixed point

var<workgroup> bins: array<atomic<u32>, 256>;
var<workgroup> best: array<f32, 256>;
var<workgroup> bestId: array<u32, 256>;
var<workgroup> bad: atomic<u32>;
var<workgroup> chosen: vec2<u32>;

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

fn gumbel(id: u32, step: u32) -> f32 {
  let u = (f32(hash(settings.seed, step, id) >> 8u) + 0.5) / 16777216.0;
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

// Largest key t such that the elements with key ≥ t (and ≥ floor) weigh at least `want`.
fn select_key(want: u32, floorKey: u32, byMass: bool, top: f32, scale: f32, lid: u32) -> u32 {
  var prefix = 0u;
  var need = want;
  for (var shift = 24u; ; shift -= 8u) {
    atomicStore(&bins[lid], 0u);
    workgroupBarrier();
    let high = select(0xffffffffu << (shift + 8u), 0u, shift == 24u);
    for (var i = lid; i < settings.limit; i += WGS) {
      let v = logits[i];
      let k = key_of(v);
      if (k >= floorKey && (k & high) == prefix) {
        var weight = 1u;
        if (byMass) {
          weight = u32(exp(v - top) * scale + 0.5);
        }
        atomicAdd(&bins[(k >> shift) & 255u], weight);
      }
    }
    workgroupBarrier();
    if (lid == 0u) {
      var sum = 0u;
      var digit = 255u;
      loop {
        let here = atomicLoad(&bins[digit]);
        if (sum + here >= need || digit == 0u) {
          break;
        }
        sum += here;
        digit -= 1u;
      }
      chosen = vec2<u32>(digit, sum);
    }
    let c = workgroupUniformLoad(&chosen);
    prefix |= c.x << shift;
    need -= min(need, c.y);
    if (shift == 0u) {
      break;
    }
  }
  return max(prefix, floorKey);
}

@compute @workgroup_size(256)
fn main(@builtin(local_invocation_index) lid: u32) {
  if (lid == 0u) {
    chosen = vec2<u32>(control.done, control.step);
    atomicStore(&bad, 0u);
  }
  let state = workgroupUniformLoad(&chosen);
  if (state.x != 0u) {
    return;
  }
  let step = state.y;
  let limit = settings.limit;
  let greedy = settings.temperature <= 0.0;
  let inverse = select(1.0 / settings.temperature, 1.0, greedy);
  var top = LOWEST;
  var topId = 0u;
  for (var i = lid; i < limit; i += WGS) {
    var v = logits[i];
    if ((bitcast<u32>(v) & 0x7f800000u) == 0x7f800000u) {
      atomicStore(&bad, 1u);
    }
    let flags = seen[i];
    if ((flags & 1u) != 0u) {
      v = select(v / settings.repetition, v * settings.repetition, v < 0.0);
    }
    if ((flags & 2u) != 0u) {
      v -= settings.presence;
    }
    v *= inverse;
    logits[i] = v;
    if (v > top) {
      top = v;
      topId = i;
    }
  }
  var pick = group_best(top, topId, lid);
  top = workgroupUniformLoad(&best[0]);
  if (!greedy) {
    var cut = 0u;
    if (settings.topK > 0u && settings.topK < limit) {
      cut = select_key(settings.topK, 0u, false, top, 0.0, lid);
    }
    if (settings.topP < 1.0) {
      var mass = 0.0;
      for (var i = lid; i < limit; i += WGS) {
        let v = logits[i];
        if (key_of(v) >= cut) {
          mass += exp(v - top);
        }
      }
      let total = group_sum(mass, lid);
      cut = select_key(max(1u, u32(settings.topP * UNIT)), cut, true, top, UNIT / total, lid);
    }
    if (settings.minP > 0.0) {
      cut = max(cut, key_of(top + log(settings.minP)));
    }
    cut = min(cut, key_of(top));
    top = LOWEST;
    topId = pick;
    for (var i = lid; i < limit; i += WGS) {
      let v = logits[i];
      if (key_of(v) >= cut) {
        let noisy = v + gumbel(i, step);
        if (noisy > top) {
          top = noisy;
          topId = i;
        }
      }
    }
    pick = group_best(top, topId, lid);
  }
  if (lid == 0u) {
    if (atomicLoad(&bad) != 0u) {
      control.done = 2u;
      return;
    }
    token[0] = pick;
    ring[step] = pick;
    seen[pick] = 3u;
    control.step = step + 1u;
    positions[0] += vec4<u32>(1u);
    for (var e = 0u; e < settings.endCount; e++) {
      if (settings.ends[e] == pick) {
        control.done = 1u;
      }
    }
  }
}
