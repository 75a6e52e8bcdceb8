// Eight neighbours along K in one read of shared memory, as four pairs.

alias Octet = vec4<u32>;

// The two f16 of a word.
fn halves(word: u32) -> vec2<f16> {
  return bitcast<vec2<f16>>(word);
}

fn octet(a: vec2<f16>, b: vec2<f16>, c: vec2<f16>, d: vec2<f16>) -> Octet {
  return Octet(bitcast<u32>(a), bitcast<u32>(b), bitcast<u32>(c), bitcast<u32>(d));
}

fn pair(o: Octet, i: u32) -> vec2<f16> {
  return halves(o[i]);
}

// Eight neighbours in the pairs in which a word of 4-bit codes holds them: 0 and 2, 1 and 3, 4 and 6, 5 and 7.
fn paired(a: vec4<f16>, b: vec4<f16>) -> Octet {
  return octet(a.xz, a.yw, b.xz, b.yw);
}
