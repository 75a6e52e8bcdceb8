// Random bits that follow from three numbers alone: PCG's output function, applied along the chain seed, stream, counter.

fn pcg(v: u32) -> u32 {
  let s = v * 747796405u + 2891336453u;
  let w = ((s >> ((s >> 28u) + 4u)) ^ s) * 277803737u;
  return (w >> 22u) ^ w;
}

fn random_bits(seed: u32, stream: u32, counter: u32) -> u32 {
  return pcg(counter + pcg(stream + pcg(seed)));
}
