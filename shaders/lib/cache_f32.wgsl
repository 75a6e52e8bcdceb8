// KV cache in f32: exact, twice the size of f16.

alias CacheWord = f32;
alias CacheVec = vec4<f32>;
const CACHE_PER_WORD = 1u;

fn open_cache(v: CacheVec) -> vec4<f32> {
  return v;
}
