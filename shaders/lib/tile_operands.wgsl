// What products with many rows read: rows of X through input_*, of W through raw_*; zeros beyond their ends.

struct Params {
  m: u32,
  n: u32,         // BACKWARD: a multiple of 4
  k: u32,         // a multiple of 4, unless BACKWARD
  rowWords: u32,  // words of a weight row
  ldx: u32,       // row strides of X and Y in elements
  ldy: u32,
  xColumn: u32,   // first columns of X and Y
  yColumn: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(5) var<storage, read_write> y: array<f32>;

fn x4(row: u32, k: u32) -> vec4<u32> {
  if (row < p.m && k < p.k) {
    return bitcast<vec4<u32>>(input4(row * p.ldx + p.xColumn + k, p.k - k));
  }
  return vec4<u32>();
}

fn w4(row: u32, column: u32) -> vec4<u32> {
  if (row < select(p.n, p.k, BACKWARD) && column < select(p.k, p.n, BACKWARD)) {
    return raw4(row, column, p.rowWords);
  }
  return vec4<u32>();
}
