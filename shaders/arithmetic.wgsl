// A yardstick, not a kernel of the model: independent multiply-adds in registers, for the arithmetic ceilings of the self-test.
// Real is f32 or f16. One workgroup of 64 threads; each round is 8 vec4 multiply-adds a thread.

struct Params {
  rounds: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> out: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
  let s = Real(f32(lid) * 1e-3);
  let m = vec4<Real>(0.999, 0.998, 0.997, 0.996);
  var a = vec4<Real>(s); var b = a + 1.0; var c = a + 2.0; var d = a + 3.0;
  var e = a + 4.0; var f = a + 5.0; var g = a + 6.0; var h = a + 7.0;
  for (var i = 0u; i < p.rounds; i++) {
    a = fma(a, m, m); b = fma(b, m, m); c = fma(c, m, m); d = fma(d, m, m);
    e = fma(e, m, m); f = fma(f, m, m); g = fma(g, m, m); h = fma(h, m, m);
  }
  out[(wg.x % 64u) * 64u + lid] = vec4<f32>(a + b + c + d + e + f + g + h);
}
