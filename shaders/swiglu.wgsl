// y = silu(gate) ⊙ up.  gu [rows][2·n] f32 with gate first; y [rows][n] f32.  One thread for 4 outputs, folded over the grid's y.

struct Params {
  rows: u32,
  n: u32,  // a multiple of 4
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> gu: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>,
        @builtin(local_invocation_index) lid: u32) {
  let i = (wg.y * grid.x + wg.x) * 64u + lid;
  let vecs = p.n / 4u;
  if (i >= p.rows * vecs) {
    return;
  }
  let row = i / vecs;
  let gate = gu[row * 2u * vecs + i % vecs];
  let up = gu[row * 2u * vecs + vecs + i % vecs];
  y[i] = vec4<f32>(silu(gate.x), silu(gate.y), silu(gate.z), silu(gate.w)) * up;
}
