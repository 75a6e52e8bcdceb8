// For each row of logits z with label l:  loss = log Σ exp(z) − z_l;  z is overwritten with weight · (softmax(z) − onehot(l)) when GRADIENT.
// logits [rows][vocab] f32; labels [rows] u32; weights [rows] f32; results [rows] (loss, 1 if z_l is the largest).
// One workgroup a row; the largest logit is taken off before exp; sums in f32.

struct Params {
  rows: u32,
  vocab: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> labels: array<u32>;
@group(0) @binding(2) var<storage, read> weights: array<f32>;
@group(0) @binding(3) var<storage, read_write> logits: array<f32>;
@group(0) @binding(4) var<storage, read_write> results: array<vec2<f32>>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
  let row = wg.x;
  let base = row * p.vocab;
  let label = labels[row];
  var top = -3e38;
  for (var i = lid; i < p.vocab; i += WG) {
    top = max(top, logits[base + i]);
  }
  top = group_max(top, lid);
  var sum = 0.0;
  for (var i = lid; i < p.vocab; i += WG) {
    sum += exp(logits[base + i] - top);
  }
  sum = group_sum(sum, lid);
  if (lid == 0u) {
    let own = logits[base + label];
    results[row] = vec2<f32>(top - own + log(sum), select(0.0, 1.0, own >= top));
  }
  if (GRADIENT) {
    // The label's logit has been read before any is overwritten.
    storageBarrier();
    let scale = weights[row] / sum;
    for (var i = lid; i < p.vocab; i += WG) {
      logits[base + i] = exp(logits[base + i] - top) * scale - select(0.0, weights[row], i == label);
    }
  }
}
