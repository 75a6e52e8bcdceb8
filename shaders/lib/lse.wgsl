// Keeps the logarithm of each softmax's sum, [tokens][heads] f32: what the backward pass rebuilds the probabilities from.

@group(0) @binding(LSE) var<storage, read_write> lse: array<f32>;

fn store_lse(at: u32, value: f32) {
  lse[at] = value;
}
