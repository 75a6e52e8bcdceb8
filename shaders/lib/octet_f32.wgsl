// The same where f32 stands in for f16.

alias Octet = mat4x2<f32>;

fn halves(word: u32) -> vec2<f32> {
  return unpack2x16float(word);
}

fn octet(a: vec2<f32>, b: vec2<f32>, c: vec2<f32>, d: vec2<f32>) -> Octet {
  return Octet(a, b, c, d);
}

fn pair(o: Octet, i: u32) -> vec2<f32> {
  return o[i];
}
