// Rows of the f16 cache from the shared array `head`: word i holds elements 2i and 2i + 1.

alias CacheWord = u32;

fn cache_words() -> u32 {
  return p.d / 2u;
}

fn cache_word(i: u32) -> CacheWord {
  let pair = vec2<f32>(head[2u * i], head[2u * i + 1u]);
  return pack2x16float(clamp(pair, vec2<f32>(-65504.0), vec2<f32>(65504.0)));
}
