// y[t] = W[ids[t]] for the rows of one block of the table.  ids [tokens] u32, W [rows][K] in any scheme of lib/weight_*, y [tokens][c] f32.
// One workgroup of 64 threads a token; a token outside the block is left to another dispatch.

struct Params {
  tokens: u32,
  c: u32,         // a multiple of 4
  rowWords: u32,
  row0: u32,      // first row of the block
  rows: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(3) var<storage, read> ids: array<u32>;
@group(0) @binding(4) var<storage, read_write> y: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
  let id = ids[wg.x];
  if (id < p.row0 || id >= p.row0 + p.rows) {
    return;
  }
  for (var i = lid; i < p.c / 4u; i += 64u) {
    y[wg.x * (p.c / 4u) + i] = weight4(id - p.row0, i * 4u, p.rowWords);
  }
}
