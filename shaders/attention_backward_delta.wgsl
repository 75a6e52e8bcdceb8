// What a query contributes to every gradient of its scores: D = Σ dO ⊙ O, put beside the log-sum-exp of its softmax.
// o, dO [tokens][heads][d] f32, lse [tokens][heads] f32, stats [tokens][heads] (lse, D).  One thread for each (token, head), folded over y.

struct Params {
  rows: u32,  // tokens · heads
  d: u32,     // a multiple of 4
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> o: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> dout: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> lse: array<f32>;
@group(0) @binding(4) var<storage, read_write> stats: array<vec2<f32>>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>,
        @builtin(local_invocation_index) lid: u32) {
  let i = (wg.y * grid.x + wg.x) * 64u + lid;
  if (i >= p.rows) {
    return;
  }
  let vecs = p.d / 4u;
  var sum = 0.0;
  for (var c = 0u; c < vecs; c++) {
    sum += dot(o[i * vecs + c], dout[i * vecs + c]);
  }
  stats[i] = vec2<f32>(lse[i], sum);
}
