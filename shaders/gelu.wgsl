// y = act(z), element by element: the MLPs of the tower, where training has to keep z.  z, y [count] f32, count a multiple of 4.
// One thread for 4 elements, folded over the grid's y.

struct Params {
  vecs: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> z: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>,
        @builtin(local_invocation_index) lid: u32) {
  let i = (wg.y * grid.x + wg.x) * 64u + lid;
  if (i < p.vecs) {
    let v = z[i];
    y[i] = vec4<f32>(activate(v.x), activate(v.y), activate(v.z), activate(v.w));
  }
}
