// Eight neighbours along K in one read of shared memory.

alias Octet = vec4<u32>;

fn octet(a: vec4<f16>, b: vec4<f16>) -> Octet {
  return Octet(bitcast<vec2<u32>>(a), bitcast<vec2<u32>>(b));
}

fn pair(o: Octet, i: u32) -> vec2<f16> {
  return bitcast<vec2<f16>>(o[i]);
}
