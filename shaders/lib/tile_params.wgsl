// What products with many rows are told, and what they share beside their operands.

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
