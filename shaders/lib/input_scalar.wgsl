// Four neighbouring elements of X one by one, where rows begin anywhere.

@group(0) @binding(INPUT) var<storage, read> x: array<f32>;

// Elements at..at+3, of which the first `count` exist; the others are 0.
fn input4(at: u32, count: u32) -> vec4<f32> {
  var v = vec4<f32>();
  for (var i = 0u; i < min(count, 4u); i++) {
    v[i] = x[at + i];
  }
  return v;
}
