// Rows of the f32 cache from the shared array `head`.

alias CacheWord = f32;

fn cache_words() -> u32 {
  return p.d;
}

fn cache_word(i: u32) -> CacheWord {
  return head[i];
}
