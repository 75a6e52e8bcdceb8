// y = keep ⊙ x / (1 − rate), or y += when ADD: dropout before LoRA's A, and its gradient.
// Whether element i is kept follows from (seed, stream, i) alone, so that a mask is made again and never stored.
// x, y [count] f32; seed [1] u32 in a buffer, so that recorded commands serve every step.  One thread an element, folded over the grid's y.

struct Params {
  count: u32,
  stream: u32,     // tells the masks of different layers apart
  threshold: u32,  // rate · 2³²
  scale: f32,      // 1 / (1 − rate)
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> seed: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>,
        @builtin(local_invocation_index) lid: u32) {
  let i = (wg.y * grid.x + wg.x) * 64u + lid;
  if (i >= p.count) {
    return;
  }
  let v = select(0.0, x[i] * p.scale, random_bits(seed[0], p.stream, i) >= p.threshold);
  y[i] = v + select(0.0, y[i], ADD);
}
