// The matrices of a product element by element, where rows begin or end anywhere.

@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read> b: array<f32>;
@group(0) @binding(3) var<storage, read_write> c: array<f32>;

// Elements at..at+3, of which the first `count` exist; the others are 0.
fn a4(at: u32, count: u32) -> vec4<f32> {
  var v = vec4<f32>();
  for (var e = 0u; e < min(count, 4u); e++) {
    v[e] = a[at + e];
  }
  return v;
}

fn b4(at: u32, count: u32) -> vec4<f32> {
  var v = vec4<f32>();
  for (var e = 0u; e < min(count, 4u); e++) {
    v[e] = b[at + e];
  }
  return v;
}

fn put4(at: u32, count: u32, value: vec4<f32>) {
  for (var e = 0u; e < min(count, 4u); e++) {
    c[at + e] = value[e] + select(0.0, c[at + e], ACCUMULATE);
  }
}
