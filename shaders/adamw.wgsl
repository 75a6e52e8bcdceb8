// One step of AdamW with decoupled decay; scale is the clipping factor, and 0 skips the step. The gradient is zeroed for the next one.
//   p −= lr·λ·p;  g' = scale·g;  m = β1 m + (1 − β1) g';  v = β2 v + (1 − β2) g'²;  p −= lr · (m / c1) / (sqrt(v) / sqrt(c2) + ε),  c = 1 − β^t
// value, gradient, m, v [count] f32; clip [2] (norm, scale).  One thread an element, folded over the grid's y.

struct Params {
  count: u32,
  rate: f32,
  decay: f32,         // lr · λ
  beta1: f32,
  beta2: f32,
  eps: f32,
  correction1: f32,   // 1 − β1^t
  correction2: f32,   // sqrt(1 − β2^t)
  rest1: f32,         // 1 − β1, 1 − β2, rounded once from float64
  rest2: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> clip: array<f32>;
@group(0) @binding(2) var<storage, read_write> value: array<f32>;
@group(0) @binding(3) var<storage, read_write> gradient: array<f32>;
@group(0) @binding(4) var<storage, read_write> m: array<f32>;
@group(0) @binding(5) var<storage, read_write> v: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>,
        @builtin(local_invocation_index) lid: u32) {
  let i = (wg.y * grid.x + wg.x) * 64u + lid;
  if (i >= p.count) {
    return;
  }
  let scale = clip[1];
  if (scale > 0.0) {
    let g = gradient[i] * scale;
    let first = p.beta1 * m[i] + p.rest1 * g;
    let second = p.beta2 * v[i] + p.rest2 * g * g;
    m[i] = first;
    v[i] = second;
    let kept = value[i] - p.decay * value[i];
    value[i] = kept - p.rate * (first / p.correction1) / (sqrt(second) / p.correction2 + p.eps);
  }
  gradient[i] = 0.0;
}
