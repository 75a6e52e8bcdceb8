// Runs of 16 weights of a row in 4 bits, for products with one row of x. The layout is that of weight_q4.wgsl.

@group(0) @binding(1) var<storage, read> codes: array<vec2<u32>>;
@group(0) @binding(2) var<storage, read> scales: array<u32>;

fn prepare(lid: u32) {}

struct Unit {
  codes: vec2<u32>,
  scale: u32,  // f16 scale and offset
}

fn load_unit(row: u32, u: u32, rowWords: u32) -> Unit {
  let at = row * (rowWords / 2u) + u;
  return Unit(codes[at], scales[at * 16u / GROUP]);
}

// Codes in the low halves of the four bytes. A device converts bytes of a word at one of two speeds: UNORM takes its fixed-point
// conversion (a division by 255, which the scale takes back), the other its integer conversion.
fn nibbles(word: u32) -> vec4<f32> {
  let low = word & 0x0f0f0f0fu;
  if (UNORM) {
    return unpack4x8unorm(low);
  }
  return vec4<f32>((vec4<u32>(low) >> vec4<u32>(0u, 8u, 16u, 24u)) & vec4<u32>(0xffu));
}

// Dot product of a unit with 16 elements of x that add up to xSum.
fn unit_dot(w: Unit, x0: vec4<f32>, x1: vec4<f32>, x2: vec4<f32>, x3: vec4<f32>, xSum: f32) -> f32 {
  let so = unpack2x16float(w.scale);
  var sum = dot(nibbles(w.codes.x), x0) + dot(nibbles(w.codes.x >> 4u), x1);
  sum += dot(nibbles(w.codes.y), x2) + dot(nibbles(w.codes.y >> 4u), x3);
  return sum * (so.x * select(1.0, 255.0, UNORM)) + so.y * xSum;
}
