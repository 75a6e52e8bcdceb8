// KV cache in f16, two values to a word; opened with unpack2x16float, so no shader-f16 is needed.
// Keys are normed and values are projections of a normed row: far inside f16's range; the clamp keeps odd checkpoints finite.

alias CacheVec = vec2<u32>;

fn open_cache(v: CacheVec) -> vec4<f32> {
  return vec4<f32>(unpack2x16float(v.x), unpack2x16float(v.y));
}
