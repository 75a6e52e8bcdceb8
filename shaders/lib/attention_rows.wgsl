// What passes over attention by rows and columns are told: which of them queries and keys are, and how both lie in memory.

struct Params {
  row0: u32,       // first row of this dispatch
  rows: u32,       // end of the rows
  heads: u32,      // query heads
  group: u32,      // query heads of a kv head
  vecs: u32,       // d / 4, at most 32
  scale: f32,
  rowStride: u32,  // in vec4: between rows, and between heads
  rowHead: u32,
  colStride: u32,
  colHead: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> rowA: array<vec4<f32>>;
