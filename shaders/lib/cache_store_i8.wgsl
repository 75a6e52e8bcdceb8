// Rows of the 8-bit cache (cache_i8.wgsl) from the shared array `head`, where zeros follow a row up to a multiple of 16.

const ROW_VECS = ROW_CODES + 1u;

// The largest magnitude of 16 channels; beyond f16's range it is cut off there, and the values with it. Rounded to f16's 11 bits in whole
// numbers: some compilers take packing and unpacking for nothing, and codes must be of the magnitude as it is kept.
fn group_most(first: u32, group: u32) -> f32 {
  var most = 0.0;
  if (group < ROW_CODES) {
    for (var i = 0u; i < 16u; i++) {
      most = max(most, abs(head[first + 16u * group + i]));
    }
  }
  let bits = bitcast<u32>(min(most, 65504.0));
  return bitcast<f32>((bits + 0xfffu + ((bits >> 13u) & 1u)) & 0xffffe000u);
}

fn magnitudes(first: u32, group: u32) -> u32 {
  return pack2x16float(vec2<f32>(group_most(first, group), group_most(first, group + 1u)));
}

fn codes(at: u32, most: f32) -> u32 {
  return pack4x8snorm(vec4<f32>(head[at], head[at + 1u], head[at + 2u], head[at + 3u]) / most);
}

fn cache_vec(first: u32, i: u32) -> CacheVec {
  if (i == ROW_CODES) {
    return vec4<u32>(magnitudes(first, 0u), magnitudes(first, 2u), magnitudes(first, 4u), magnitudes(first, 6u));
  }
  // Below f16's range the group is zero, whatever its codes are.
  let most = max(group_most(first, i), 1e-30);
  let at = first + 16u * i;
  return vec4<u32>(codes(at, most), codes(at + 4u, most), codes(at + 8u, most), codes(at + 12u, most));
}
