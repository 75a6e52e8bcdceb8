// The same where f32 stands in for f16.

alias Octet = mat4x2<f32>;

fn octet(a: vec4<f32>, b: vec4<f32>) -> Octet {
  return Octet(a.xy, a.zw, b.xy, b.zw);
}

fn pair(o: Octet, i: u32) -> vec2<f32> {
  return o[i];
}
