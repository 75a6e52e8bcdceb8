// y = (x − mean) / sqrt(var + eps) ⊙ w + b over each row.  x, y [rows][c] f32, w, b [c] f32.
// One workgroup a row, folded over the grid's y; the variance is summed from the differences, in f32.

struct Params {
  rows: u32,
  c: u32,
  eps: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> w: array<f32>;
@group(0) @binding(3) var<storage, read> b: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>,
        @builtin(local_invocation_index) lid: u32) {
  let row = wg.y * grid.x + wg.x;
  let base = min(row, p.rows - 1u) * p.c;
  var sum = 0.0;
  for (var i = lid; i < p.c; i += WG) {
    sum += x[base + i];
  }
  let mean = group_sum(sum, lid) / f32(p.c);
  var squares = 0.0;
  for (var i = lid; i < p.c; i += WG) {
    let d = x[base + i] - mean;
    squares += d * d;
  }
  let r = 1.0 / sqrt(group_sum(squares, lid) / f32(p.c) + p.eps);
  if (row >= p.rows) {
    return;
  }
  for (var i = lid; i < p.c; i += WG) {
    y[base + i] = (x[base + i] - mean) * r * w[i] + b[i];
  }
}
