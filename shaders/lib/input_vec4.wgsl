// Four neighbouring elements of X at once, where every row begins at a multiple of 4.

@group(0) @binding(INPUT) var<storage, read> x: array<vec4<f32>>;

// Elements at..at+3, of which the first `count` exist.
fn input4(at: u32, count: u32) -> vec4<f32> {
  return x[at / 4u];
}
