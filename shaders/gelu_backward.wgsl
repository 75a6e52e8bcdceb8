// dy ⊙ act'(z), in place of dy.  TANH: act is GELU's tanh form, else the exact one:
//   tanh form, u = √(2/π) (z + 0.044715 z³), t = tanh u:  act' = ½ (1 + t) + ½ z (1 − t²) √(2/π) (1 + 0.134145 z²)
//   exact:  act' = ½ (1 + erf(z/√2)) + z · exp(−z²/2) / √(2π)
// z, dy [count] f32, count a multiple of 4.  One thread for 4 elements, folded over the grid's y.

struct Params {
  vecs: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> z: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> dy: array<vec4<f32>>;

fn slope(v: f32) -> f32 {
  if (TANH) {
    let t = tanh_exact(0.7978845608028654 * (v + 0.044715 * v * v * v));
    return 0.5 * (1.0 + t) + 0.5 * v * (1.0 - t * t) * 0.7978845608028654 * (1.0 + 0.134145 * v * v);
  }
  return 0.5 * (1.0 + erf(v * 0.7071067811865476)) + v * exp(-0.5 * min(v * v, 160.0)) * 0.3989422804014327;
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>,
        @builtin(local_invocation_index) lid: u32) {
  let i = (wg.y * grid.x + wg.x) * 64u + lid;
  if (i < p.vecs) {
    let v = z[i];
    dy[i] *= vec4<f32>(slope(v.x), slope(v.y), slope(v.z), slope(v.w));
  }
}
