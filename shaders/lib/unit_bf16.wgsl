// Runs of 16 weights of a row in bf16, for products with one row of x. The layout is that of weight_bf16.wgsl: rows are padded to 8
// elements, so the last unit of a row may be a half.

@group(0) @binding(1) var<storage, read> codes: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> scales: array<u32>;

fn prepare(lid: u32) {}

struct Unit {
  low: vec4<u32>,
  high: vec4<u32>,
}

fn load_unit(row: u32, u: u32, rowWords: u32) -> Unit {
  let at = row * (rowWords / 4u) + 2u * u;
  var high = vec4<u32>();
  if (2u * u + 1u < rowWords / 4u) {
    high = codes[at + 1u];
  }
  return Unit(codes[at], high);
}

fn open2(words: vec2<u32>) -> vec4<f32> {
  return bitcast<vec4<f32>>(vec4<u32>(words.x << 16u, words.x & 0xffff0000u, words.y << 16u, words.y & 0xffff0000u));
}

// Dot product of a unit with 16 elements of x.
fn unit_dot(w: Unit, x0: vec4<f32>, x1: vec4<f32>, x2: vec4<f32>, x3: vec4<f32>, xSum: f32) -> f32 {
  return dot(open2(w.low.xy), x0) + dot(open2(w.low.zw), x1) + dot(open2(w.high.xy), x2) + dot(open2(w.high.zw), x3);
}
