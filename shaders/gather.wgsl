// y[first + i] = x[at[i]], or += when ADD: rows whose loss counts, and the gradient of what a scatter put in place.
// x [..][c] f32, at [rows] u32, y [..][c] f32.  One workgroup of 64 threads a row.

struct Params {
  rows: u32,
  c: u32,      // a multiple of 4
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
    let v = x[at[wg.x] * vecs + i];
    let to = (p.first + wg.x) * vecs + i;
    if (ADD) {
      y[to] += v;
    } else {
      y[to] = v;
    }
  }
}
