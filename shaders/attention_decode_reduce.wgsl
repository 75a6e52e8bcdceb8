// Joins the slices of attention_decode: o = Σ e^(mᵢ−m) oᵢ / Σ e^(mᵢ−m) sᵢ.
// partial [slices][heads][d + 4] f32 with (maximum, sum) behind each o; o [heads][d] f32. One workgroup of 32 threads a head.

struct Params {
  heads: u32,
  d: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> partialIn: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> positions: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read_write> o: array<vec4<f32>>;

@compute @workgroup_size(32)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
  let vecs = p.d / 4u;
  let stride = p.heads * (vecs + 1u);
  let row = wg.x * (vecs + 1u);
  let slices = positions[0].w / SLICE + 1u;
  if (lid >= vecs) {
    return;
  }
  var top = -1e30;
  var sum = 0.0;
  var acc = vec4<f32>();
  for (var s = 0u; s < slices; s++) {
    let ms = partialIn[s * stride + row + vecs].xy;
    let next = max(top, ms.x);
    let keep = exp(top - next);
    let gain = exp(ms.x - next);
    acc = acc * keep + partialIn[s * stride + row + lid] * gain;
    sum = sum * keep + ms.y * gain;
    top = next;
  }
  o[wg.x * vecs + lid] = acc / sum;
}
