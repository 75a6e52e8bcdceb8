// Last step of the sampler: picks the next token and moves the generation on, so that no CPU is needed between tokens.
// Order as in transformers: repetition and presence penalty, temperature, top-k, top-p, min-p, then a draw by Gumbel-max
// (argmax of logit/T + Gumbel noise from a counter-based hash of seed, step and token: an exact draw from the softmax).
// sample_scan.wgsl has applied penalties and temperature, sample_filter.wgsl has listed the ids that the cuts may keep. Cuts are found
// by radix selection over sortable keys, 8 bits a pass: by counts for top-k, by probability in fixed point for top-p.
// scratch as in lib/sample.wgsl; one workgroup of 256 threads.

struct Params {
  segments: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> settings: Settings;
@group(0) @binding(2) var<storage, read> logits: array<f32>;
@group(0) @binding(3) var<storage, read_write> scratch: array<u32>;
@group(0) @binding(4) var<storage, read_write> seen: array<u32>;
@group(0) @binding(5) var<storage, read_write> token: array<u32>;
@group(0) @binding(6) var<storage, read_write> positions: array<vec4<u32>>;
@group(0) @binding(7) var<storage, read_write> control: Control;
@group(0) @binding(8) var<storage, read_write> ring: array<u32>;

const UNIT = 1073741824.0;  // 2^30: probability 1 in fixed point

var<workgroup> bins: array<atomic<u32>, 256>;
var<workgroup> bad: atomic<u32>;
var<workgroup> chosen: vec2<u32>;

// Largest key t such that the listed logits with key ≥ t (and ≥ floor) weigh at least `want`.
fn select_key(want: u32, floorKey: u32, byMass: bool, top: f32, scale: f32, list: u32, count: u32, lid: u32) -> u32 {
  var prefix = 0u;
  var need = want;
  for (var shift = 24u; ; shift -= 8u) {
    atomicStore(&bins[lid], 0u);
    workgroupBarrier();
    let high = select(0xffffffffu << (shift + 8u), 0u, shift == 24u);
    for (var i = lid; i < count; i += WGS) {
      let v = logits[scratch[list + i]];
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

// Applies the cuts to the list and draws from what is left.
fn draw(top: f32, topId: u32, everything: f32, step: u32, lid: u32) -> u32 {
  let list = p.segments * FIELDS + 1u;
  let count = scratch[list - 1u];
  var cut = 0u;
  var total = everything;
  if (keeps_few(settings)) {
    cut = select_key(settings.topK, 0u, false, top, 0.0, list, count, lid);
    var mass = 0.0;
    for (var i = lid; i < count; i += WGS) {
      let v = logits[scratch[list + i]];
      if (key_of(v) >= cut) {
        mass += exp(v - top);
      }
    }
    total = group_sum(mass, lid);
  }
  if (settings.topP < 1.0) {
    cut = select_key(max(1u, u32(settings.topP * UNIT)), cut, true, top, UNIT / total, list, count, lid);
  }
  if (settings.minP > 0.0) {
    cut = max(cut, key_of(top + log(settings.minP)));
  }
  cut = min(cut, key_of(top));
  var noisiest = LOWEST;
  var noisiestId = topId;
  for (var i = lid; i < count; i += WGS) {
    let id = scratch[list + i];
    let v = logits[id];
    if (key_of(v) >= cut) {
      let noisy = v + gumbel(settings.seed, id, step);
      if (noisy > noisiest || (noisy == noisiest && id < noisiestId)) {
        noisiest = noisy;
        noisiestId = id;
      }
    }
  }
  return group_best(noisiest, noisiestId, lid);
}

@compute @workgroup_size(256)
fn main(@builtin(local_invocation_index) lid: u32) {
  if (lid == 0u) {
    chosen = vec2<u32>(control.done, control.step);
  }
  let state = workgroupUniformLoad(&chosen);
  if (state.x != 0u) {
    return;
  }
  let step = state.y;
  var top = LOWEST;
  var topId = 0u;
  var noisiest = LOWEST;
  var noisiestId = 0u;
  var mass = 0.0;
  for (var i = lid; i < p.segments; i += WGS) {
    let at = i * FIELDS;
    let v = bitcast<f32>(scratch[at + TOP]);
    if (v > top) {
      top = v;
      topId = scratch[at + TOP_ID];
    }
    let noisy = bitcast<f32>(scratch[at + BEST]);
    if (noisy > noisiest) {
      noisiest = noisy;
      noisiestId = scratch[at + BEST_ID];
    }
    mass += bitcast<f32>(scratch[at + MASS]);
    if (scratch[at + BAD] != 0u) {
      atomicStore(&bad, 1u);
    }
  }
  var pick = group_best(top, topId, lid);
  top = workgroupUniformLoad(&best[0]);
  if (settings.temperature > 0.0) {
    if (filters(settings)) {
      pick = draw(top, pick, group_sum(mass, lid), step, lid);
    } else {
      pick = group_best(noisiest, noisiestId, lid);
    }
  }
  if (lid == 0u) {
    scratch[p.segments * FIELDS] = 0u;
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
