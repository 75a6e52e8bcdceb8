// C = scale · Σ_z P[z], or C += when ACCUMULATE: adds the slices of a split product, always in the same order.
// P [slices][M][N] f32, C [M][N] f32 with rows ldc apart.  A Value is f32, or vec4<f32> where every row is whole ones (then WIDTH = 4).
// A workgroup makes 64 / TEAMS of them: where there are many slices, TEAMS threads share one sum. Folded over the grid's y.

struct Params {
  m: u32,
  n: u32,
  slices: u32,
  ldc: u32,
  c0: u32,     // first element
  scale: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> part: array<Value>;
@group(0) @binding(2) var<storage, read_write> c: array<Value>;

const EACH = 64u / TEAMS;

var<workgroup> sums: array<Value, 64>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>,
        @builtin(local_invocation_index) lid: u32) {
  let i = (wg.y * grid.x + wg.x) * EACH + lid % EACH;
  let size = p.m * p.n / WIDTH;
  var sum = Value();
  if (i < size) {
    var z = lid / EACH;
    // Eight loads that wait for each other in nothing.
    for (; z + 7u * TEAMS < p.slices; z += 8u * TEAMS) {
      let at = z * size + i;
      let step = TEAMS * size;
      let v0 = part[at];
      let v1 = part[at + step];
      let v2 = part[at + 2u * step];
      let v3 = part[at + 3u * step];
      let v4 = part[at + 4u * step];
      let v5 = part[at + 5u * step];
      let v6 = part[at + 6u * step];
      let v7 = part[at + 7u * step];
      sum += ((v0 + v1) + (v2 + v3)) + ((v4 + v5) + (v6 + v7));
    }
    for (; z < p.slices; z += TEAMS) {
      sum += part[z * size + i];
    }
  }
  if (TEAMS > 1u) {
    sums[lid] = sum;
    workgroupBarrier();
    for (var team = 1u; team < TEAMS; team++) {
      sum += sums[(team * EACH + lid) % 64u];
    }
  }
  if (lid < EACH && i < size) {
    let to = (p.c0 + (i * WIDTH / p.n) * p.ldc + i * WIDTH % p.n) / WIDTH;
    var v = p.scale * sum;
    if (ACCUMULATE) {
      v += c[to];
    }
    c[to] = v;
  }
}
