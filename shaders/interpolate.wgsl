// y[i] += Σ_k weight[i][k] · table[index[i][k]], k = 0..3: bilinear position embeddings.
// table [..][c] f32, index [rows] vec4<u32>, weight [rows] vec4<f32>, y [rows][c] f32.  One workgroup of 64 threads a row, folded over y.

struct Params {
  rows: u32,
  c: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> table: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> index: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> weight: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> y: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>,
        @builtin(local_invocation_index) lid: u32) {
  let row = wg.y * grid.x + wg.x;
  if (row >= p.rows) {
    return;
  }
  let vecs = p.c / 4u;
  let at = index[row];
  let w = weight[row];
  for (var i = lid; i < vecs; i += 64u) {
    let v = w.x * table[at.x * vecs + i] + w.y * table[at.y * vecs + i]
      + w.z * table[at.z * vecs + i] + w.w * table[at.w * vecs + i];
    y[row * vecs + i] += v;
  }
}
