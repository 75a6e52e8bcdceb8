// Partial sums of squares of one gradient buffer: partials[first + w] = Σ g² over the CHUNK elements of workgroup w.
// g [count] f32.  One workgroup a chunk; sums in f32, always in the same order.

struct Params {
  count: u32,
  first: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> g: array<f32>;
@group(0) @binding(2) var<storage, read_write> partials: array<f32>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
  let end = min(p.count, (wg.x + 1u) * CHUNK);
  var sum = 0.0;
  for (var i = wg.x * CHUNK + lid; i < end; i += WG) {
    sum += g[i] * g[i];
  }
  let total = group_sum(sum, lid);
  if (lid == 0u) {
    partials[p.first + wg.x] = total;
  }
}
