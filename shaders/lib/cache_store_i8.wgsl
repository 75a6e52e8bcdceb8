// Rows of the 8-bit cache (cache_i8.wgsl) from the shared array `head`, whose elements behind d are zero.

alias CacheWord = u32;

fn code_words() -> u32 {
  return (p.d + 15u) / 16u * 4u;
}

fn cache_words() -> u32 {
  return code_words() + 4u;
}

// The largest magnitude of 16 channels; beyond f16's range it is cut off there, and the values with it.
fn group_most(group: u32) -> f32 {
  var most = 0.0;
  for (var i = 16u * group; i < 16u * group + 16u; i++) {
    most = max(most, abs(head[i]));
  }
  return min(most, 65504.0);
}

fn cache_word(i: u32) -> CacheWord {
  if (i >= code_words()) {
    let group = 2u * (i - code_words());
    return pack2x16float(vec2<f32>(group_most(group), group_most(group + 1u)));
  }
  // Codes are of the magnitude as it is kept. Below f16's range the group is zero, whatever its codes are.
  let most = unpack2x16float(pack2x16float(vec2<f32>(group_most(i / 4u), 0.0))).x;
  let v = vec4<f32>(head[4u * i], head[4u * i + 1u], head[4u * i + 2u], head[4u * i + 3u]);
  return pack4x8snorm(v / max(most, 1e-30));
}
