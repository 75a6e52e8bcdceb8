// y = w ⊙ x · (mean(x²) + eps)^-½ over each row.  x, y [rows][c] f32, w [c] f32.
// One workgroup a row, folded over the grid's y; sums in f32.

struct Params {
  rows: u32,
  c: u32,
  eps: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> w: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>,
        @builtin(local_invocation_index) lid: u32) {
  let row = wg.y * grid.x + wg.x;
  let base = min(row, p.rows - 1u) * p.c;
  var sum = 0.0;
  for (var i = lid; i < p.c; i += WG) {
    let v = x[base + i];
    sum += v * v;
  }
  let r = 1.0 / sqrt(group_sum(sum, lid) / f32(p.c) + p.eps);
  if (row >= p.rows) {
    return;
  }
  for (var i = lid; i < p.c; i += WG) {
    y[base + i] = w[i] * (x[base + i] * r);
  }
}
