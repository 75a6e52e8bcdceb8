// Runs of 16 f32 weights of a row, for products with one row of x: the A of LoRA pairs. Rows are `rowWords` apart and not padded: what a
// last unit reads beyond its row meets an x of zero.

@group(0) @binding(1) var<storage, read> codes: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> scales: array<u32>;

fn prepare(lid: u32) {}

struct Unit {
  w0: vec4<f32>,
  w1: vec4<f32>,
  w2: vec4<f32>,
  w3: vec4<f32>,
}

fn load_unit(row: u32, u: u32, rowWords: u32) -> Unit {
  let at = row * (rowWords / 4u) + 4u * u;
  return Unit(codes[at], codes[at + 1u], codes[at + 2u], codes[at + 3u]);
}

fn unit_dot(w: Unit, x0: vec4<f32>, x1: vec4<f32>, x2: vec4<f32>, x3: vec4<f32>, xSum: f32) -> f32 {
  return dot(w.w0, x0) + dot(w.w1, x1) + dot(w.w2, x2) + dot(w.w3, x3);
}
