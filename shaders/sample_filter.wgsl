// Second step of the sampler: lists the ids that top-k or top-p may keep, or draws within each segment when neither is on.
// Top-k: at least k logits are not below the k-th largest of the segments' maxima, so nothing below it is among the k largest.
// Top-p: with the largest logit's own mass as 1, all ids below top − ln(limit / (1 − p)) weigh less than 1 − p together.
// scratch as in lib/sample.wgsl. One workgroup of 256 threads for each segment of 1024 ids; greedy choices need nothing here.

struct Params {
  segments: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> settings: Settings;
@group(0) @binding(2) var<storage, read> control: Control;
@group(0) @binding(3) var<storage, read> logits: array<f32>;
@group(0) @binding(4) var<storage, read_write> scratch: array<atomic<u32>>;

var<workgroup> tops: array<f32, 256>;
var<workgroup> threshold: f32;
var<workgroup> listed: atomic<u32>;
var<workgroup> start: u32;

fn top_of(segment: u32) -> f32 {
  return bitcast<f32>(atomicLoad(&scratch[segment * FIELDS + TOP]));
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
  if (lid == 0u) {
    start = select(0u, 1u, control.done == 0u && settings.temperature > 0.0);
  }
  if (workgroupUniformLoad(&start) == 0u) {
    return;
  }
  let limit = settings.limit;
  var mine = LOWEST;
  for (var i = lid; i < p.segments; i += WGS) {
    mine = max(mine, top_of(i));
  }
  let top = group_max(mine, lid);
  // The k-th largest maximum, by counting for each how many stand before it.
  if (lid == 0u) {
    threshold = LOWEST;
  }
  tops[lid] = select(LOWEST, top_of(min(lid, p.segments - 1u)), lid < p.segments);
  workgroupBarrier();
  if (keeps_few(settings)) {
    if (p.segments <= WGS && lid < p.segments && settings.topK <= p.segments) {
      var before = 0u;
      for (var i = 0u; i < p.segments; i++) {
        if (tops[i] > tops[lid] || (tops[i] == tops[lid] && i < lid)) {
          before++;
        }
      }
      if (before == settings.topK - 1u) {
        threshold = tops[lid];
      }
    }
  } else if (lid == 0u && settings.topP < 1.0) {
    threshold = top - log(f32(limit) / (1.0 - settings.topP));
  } else if (lid == 0u && settings.minP > 0.0) {
    threshold = top + log(settings.minP);
  }
  let cut = min(workgroupUniformLoad(&threshold), top);
  let listing = filters(settings);
  var mass = 0.0;
  var noisiest = LOWEST;
  var noisiestId = 0u;
  var slots: array<u32, SEGMENT / WGS>;
  for (var j = 0u; j < SEGMENT / WGS; j++) {
    let i = wg.x * SEGMENT + j * WGS + lid;
    slots[j] = SEGMENT;
    if (i < limit) {
      let v = logits[i];
      mass += exp(v - top);
      if (v >= cut) {
        if (listing) {
          slots[j] = atomicAdd(&listed, 1u);
        } else {
          let noisy = v + gumbel(settings.seed, i, control.step);
          if (noisy > noisiest) {
            noisiest = noisy;
            noisiestId = i;
          }
        }
      }
    }
  }
  let id = group_best(noisiest, noisiestId, lid);
  let all = group_sum(mass, lid);
  if (lid == 0u) {
    atomicStore(&scratch[wg.x * FIELDS + MASS], bitcast<u32>(all));
    atomicStore(&scratch[wg.x * FIELDS + BEST], bitcast<u32>(best[0]));
    atomicStore(&scratch[wg.x * FIELDS + BEST_ID], id);
    start = atomicAdd(&scratch[p.segments * FIELDS], atomicLoad(&listed));
  }
  let list = p.segments * FIELDS + 1u + workgroupUniformLoad(&start);
  for (var j = 0u; j < SEGMENT / WGS; j++) {
    if (slots[j] < SEGMENT) {
      atomicStore(&scratch[list + slots[j]], wg.x * SEGMENT + j * WGS + lid);
    }
  }
}
