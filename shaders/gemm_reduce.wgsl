// C = scale · Σ_z P[z], or C += when ACCUMULATE: adds the slices of a split product, always in the same order.
// P [slices][M][N] f32, C [M][N] f32 with rows ldc apart.  One thread an element, folded over the grid's y.

struct Params {
  m: u32,
  n: u32,
  slices: u32,
  ldc: u32,
  c0: u32,     // first element
  scale: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> part: array<f32>;
@group(0) @binding(2) var<storage, read_write> c: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>,
        @builtin(local_invocation_index) lid: u32) {
  let i = (wg.y * grid.x + wg.x) * 64u + lid;
  let size = p.m * p.n;
  if (i >= size) {
    return;
  }
  var sum = 0.0;
  for (var z = 0u; z < p.slices; z++) {
    sum += part[z * size + i];
  }
  let to = p.c0 + (i / p.n) * p.ldc + i % p.n;
  c[to] = p.scale * sum + select(0.0, c[to], ACCUMULATE);
}
