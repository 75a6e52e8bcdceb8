// Rows of a cache whose values are kept one by one: [rows][d/4] of CacheVec. Needs kCache, vCache, CACHE_D and open_cache.

// Channels 4c to 4c + 3 of a row.
fn key4(row: u32, c: u32) -> vec4<f32> {
  return open_cache(kCache[row * (CACHE_D / 4u) + c]);
}

fn value4(row: u32, c: u32) -> vec4<f32> {
  return open_cache(vCache[row * (CACHE_D / 4u) + c]);
}

// Which four channels are in column s of part `part` of a row: the eight parts of a row read side by side.
fn part_vec(part: u32, s: u32) -> u32 {
  return part + 8u * s;
}

// An eighth of a row of 128 channels. In shorter rows the parts that begin behind the row are some finite numbers.
fn key_part(row: u32, part: u32) -> mat4x4<f32> {
  return mat4x4<f32>(key4(row, part), key4(row, part + 8u), key4(row, part + 16u), key4(row, part + 24u));
}

fn value_part(row: u32, part: u32) -> mat4x4<f32> {
  return mat4x4<f32>(value4(row, part), value4(row, part + 8u), value4(row, part + 16u), value4(row, part + 24u));
}
