// The gradient of y = w ⊙ x · r, r = (mean(x²) + eps)^-½, by x:  dx = r · h − x · r³ · mean(h ⊙ x) with h = dy ⊙ w;  dx += when ACCUMULATE.
// x, dy, dx [rows][c] f32, w [c] f32.  One workgroup a row, folded over the grid's y; sums in f32.

struct Params {
  rows: u32,
  c: u32,
  eps: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> w: array<f32>;
@group(0) @binding(3) var<storage, read> dy: array<f32>;
@group(0) @binding(4) var<storage, read_write> dx: array<f32>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>,
        @builtin(local_invocation_index) lid: u32) {
  let row = wg.y * grid.x + wg.x;
  let base = min(row, p.rows - 1u) * p.c;
  var squares = 0.0;
  var products = 0.0;
  for (var i = lid; i < p.c; i += WG) {
    let v = x[base + i];
    squares += v * v;
    products += dy[base + i] * w[i] * v;
  }
  let r = 1.0 / sqrt(group_sum(squares, lid) / f32(p.c) + p.eps);
  let pull = group_sum(products, lid) / f32(p.c) * r * r;
  if (row >= p.rows) {
    return;
  }
  for (var i = lid; i < p.c; i += WG) {
    let v = r * (dy[base + i] * w[i] - x[base + i] * pull);
    dx[base + i] = v + select(0.0, dx[base + i], ACCUMULATE);
  }
}
