// First step of the sampler: logits = (logits with penalties) / temperature in place, and the largest of each segment.
// logits [vocab] f32; seen [vocab] u32: bit 0 in the prompt or the answer, bit 1 in the answer; scratch as in lib/sample.wgsl.
// One workgroup of 256 threads for each segment of 1024 ids.

struct Params {
  vocab: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> settings: Settings;
@group(0) @binding(2) var<storage, read> control: Control;
@group(0) @binding(3) var<storage, read> seen: array<u32>;
@group(0) @binding(4) var<storage, read_write> logits: array<f32>;
@group(0) @binding(5) var<storage, read_write> scratch: array<u32>;

var<workgroup> bad: atomic<u32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
  let limit = select(settings.limit, 0u, control.done != 0u);
  let inverse = select(1.0 / settings.temperature, 1.0, settings.temperature <= 0.0);
  var top = LOWEST;
  var topId = 0u;
  for (var j = 0u; j < SEGMENT / WGS; j++) {
    let i = wg.x * SEGMENT + j * WGS + lid;
    if (i < limit) {
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
  }
  let id = group_best(top, topId, lid);
  if (lid == 0u) {
    scratch[wg.x * FIELDS + TOP] = bitcast<u32>(best[0]);
    scratch[wg.x * FIELDS + TOP_ID] = id;
    scratch[wg.x * FIELDS + BAD] = atomicLoad(&bad);
  }
}
