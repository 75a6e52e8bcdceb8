// From all partial sums to the norm and what gradients are multiplied with: norm = sqrt(Σ partials), scale = min(1, limit / (norm + 1e-6)).
// A norm that is not finite gives scale 0 and is told apart by its bits; limit 0 means no clipping.
// partials [count] f32, clip [2] (norm, scale).  One workgroup.

struct Params {
  count: u32,
  limit: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> partials: array<f32>;
@group(0) @binding(2) var<storage, read_write> clip: array<f32>;

@compute @workgroup_size(WG)
fn main(@builtin(local_invocation_index) lid: u32) {
  var sum = 0.0;
  for (var i = lid; i < p.count; i += WG) {
    sum += partials[i];
  }
  let norm = sqrt(group_sum(sum, lid));
  if (lid == 0u) {
    var scale = 1.0;
    if (p.limit > 0.0) {
      scale = min(1.0, p.limit / (norm + 1e-6));
    }
    if ((bitcast<u32>(norm) & 0x7f800000u) == 0x7f800000u) {
      scale = 0.0;
    }
    clip[0] = norm;
    clip[1] = scale;
  }
}
