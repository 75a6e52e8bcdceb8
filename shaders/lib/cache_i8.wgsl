// KV cache in 8 bits: value = code / 127 · magnitude, with an f16 magnitude for each 16 channels of a row.
// A row is ceil(d/16) vectors of 16 codes and one of eight magnitudes: 144 bytes of 128 channels, 9 bits a value.
// The functions are those of cache_rows.wgsl. Needs kCache, vCache and CACHE_D.

alias CacheVec = vec4<u32>;

const ROW_CODES = (CACHE_D + 15u) / 16u;

// The magnitude of group `group` from its word.
fn magnitude(word: u32, group: u32) -> f32 {
  return unpack2x16float(word)[group % 2u];
}

fn key4(row: u32, c: u32) -> vec4<f32> {
  let at = row * (ROW_CODES + 1u);
  let group = c / 4u;
  return unpack4x8snorm(kCache[at + group][c % 4u]) * magnitude(kCache[at + ROW_CODES][group / 2u], group);
}

fn value4(row: u32, c: u32) -> vec4<f32> {
  let at = row * (ROW_CODES + 1u);
  let group = c / 4u;
  return unpack4x8snorm(vCache[at + group][c % 4u]) * magnitude(vCache[at + ROW_CODES][group / 2u], group);
}

fn part_vec(part: u32, s: u32) -> u32 {
  return 4u * part + s;
}

// One load of 16 bytes and one of the magnitude.
fn key_part(row: u32, part: u32) -> mat4x4<f32> {
  let at = row * (ROW_CODES + 1u);
  return open_part(kCache[at + part], magnitude(kCache[at + ROW_CODES][part / 2u], part));
}

fn value_part(row: u32, part: u32) -> mat4x4<f32> {
  let at = row * (ROW_CODES + 1u);
  return open_part(vCache[at + part], magnitude(vCache[at + ROW_CODES][part / 2u], part));
}

fn open_part(v: CacheVec, most: f32) -> mat4x4<f32> {
  return mat4x4<f32>(
    unpack4x8snorm(v.x) * most, unpack4x8snorm(v.y) * most, unpack4x8snorm(v.z) * most, unpack4x8snorm(v.w) * most);
}
