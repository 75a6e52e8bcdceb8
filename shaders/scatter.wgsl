// y[at[i]] = x[first + i], or += when ADD: image tokens into the embeddings, DeepStack features onto the residual stream.
// x [..][c] f32, at [rows] u32, y [..][c] f32.  One workgroup of 64 threads a row.

struct Params {
  rows: u32,
  c: u32,
  first: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> at: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
  let vecs = p.c / 4u;
  for (var i = lid; i < vecs; i += 64u) {
    let v = x[(p.first + wg.x) * vecs + i];
    let to = at[wg.x] * vecs + i;
    if (ADD) {
      y[to] += v;
    } else {
      y[to] = v;
    }
  }
}
