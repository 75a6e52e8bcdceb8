// Word i of the shared array `head` for the f32 cache.
fn cache_word(i: u32) -> CacheWord {
  return head[i];
}
