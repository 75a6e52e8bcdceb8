// The matrices of a product four elements at a time, where every row of each begins at a multiple of 4 and holds a multiple of 4.

@group(0) @binding(1) var<storage, read> a: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> b: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> c: array<vec4<f32>>;

// Elements at..at+3, of which the first `count` exist.
fn a4(at: u32, count: u32) -> vec4<f32> {
  return a[at / 4u];
}

fn b4(at: u32, count: u32) -> vec4<f32> {
  return b[at / 4u];
}

fn put4(at: u32, count: u32, value: vec4<f32>) {
  var v = value;
  if (ACCUMULATE) {
    v += c[at / 4u];
  }
  c[at / 4u] = v;
}
