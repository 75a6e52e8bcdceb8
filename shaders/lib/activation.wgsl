// The activations of Qwen3-VL's MLPs, in f32.

// tanh without the overflow of its textbook form, and more exact than the 1e-5 that WGSL promises for its own.
fn tanh_exact(v: f32) -> f32 {
  return 1.0 - 2.0 / (exp(2.0 * clamp(v, -20.0, 20.0)) + 1.0);
}

fn gelu_tanh(v: f32) -> f32 {
  return 0.5 * v * (1.0 + tanh_exact(0.7978845608028654 * (v + 0.044715 * v * v * v)));
}

// erf by Abramowitz and Stegun 7.1.26: absolute error below 1.5e-7.
fn erf(v: f32) -> f32 {
  let a = abs(v);
  let t = 1.0 / (1.0 + 0.3275911 * a);
  let poly = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
  return sign(v) * (1.0 - poly * exp(-a * a));
}

fn gelu_erf(v: f32) -> f32 {
  return 0.5 * v * (1.0 + erf(v * 0.7071067811865476));
}

fn silu(v: f32) -> f32 {
  return v / (1.0 + exp(-clamp(v, -80.0, 80.0)));
}
