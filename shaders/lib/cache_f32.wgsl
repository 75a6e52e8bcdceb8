// KV cache in f32: exact, twice the size of f16.

alias CacheVec = vec4<f32>;

fn open_cache(v: CacheVec) -> vec4<f32> {
  return v;
}
