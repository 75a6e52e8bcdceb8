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

// Eight neighbours in the pairs in which a word of 4-bit codes holds them: 0 and 2, 1 and 3, 4 and 6, 5 and 7.
fn paired(a: vec4<f16>, b: vec4<f16>) -> Octet {
  return octet(a.xz, a.yw, b.xz, b.yw);
}
