// X as matrix units take it: f16, in fragments of 16 × 16 that lie one after the other, row by row of fragments. X [M][K] f32 through
// lib/input_*; zeros stand beyond its ends up to ROWS rows and whole steps along K.
// Multiplied by SCALE, so that small gradients do not leave the range of f16. With PAIRED every four neighbours lie as lib/octet_f16.wgsl
// pairs them: 0, 2, 1, 3, the order of the weights that they meet.
// One thread four elements. Grid: (ceil(width / 4 / 64), ROWS).

struct Params {
  m: u32,
  k: u32,
  width: u32,    // k in whole steps, a multiple of 16
  ldx: u32,      // row stride of X in elements
  xColumn: u32,  // first column
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(2) var<storage, read_write> fragments: array<vec4<f16>>;

const LARGEST = vec4<f32>(65504.0);

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
  let row = wg.y;
  let k = (wg.x * 64u + lid) * 4u;
  if (k >= p.width) {
    return;
  }
  var v = vec4<f32>();
  if (row < p.m && k < p.k) {
    v = clamp(input4(row * p.ldx + p.xColumn + k, p.k - k) * f32(SCALE), -LARGEST, LARGEST);
  }
  let h = vec4<f16>(v);
  let fragment = (row / 16u) * (p.width / 16u) + k / 16u;
  fragments[fragment * 64u + (row % 16u) * 4u + k % 16u / 4u] = select(h, h.xzyw, PAIRED);
}
