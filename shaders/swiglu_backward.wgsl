// The gradient of y = silu(gate) ⊙ up, in place of gate and up:
//   dgate = dy · up · σ · (1 + gate · (1 − σ)),  dup = dy · gate · σ,  σ = sigmoid(gate).
// gu [rows][2·n] f32 with gate first; dy [rows][n] f32.  One thread for 4 channels, folded over the grid's y.

struct Params {
  rows: u32,
  n: u32,  // a multiple of 4
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> dy: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> gu: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>,
        @builtin(local_invocation_index) lid: u32) {
  let i = (wg.y * grid.x + wg.x) * 64u + lid;
  let vecs = p.n / 4u;
  if (i >= p.rows * vecs) {
    return;
  }
  let at = (i / vecs) * 2u * vecs + i % vecs;
  let gate = gu[at];
  let up = gu[at + vecs];
  let g = dy[i];
  let s = 1.0 / (1.0 + exp(-clamp(gate, vec4<f32>(-80.0), vec4<f32>(80.0))));
  gu[at] = g * up * s * (1.0 + gate * (1.0 - s));
  gu[at + vecs] = g * gate * s;
}
