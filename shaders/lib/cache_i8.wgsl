// KV cache in 8 bits: value = code / 127 · magnitude, with an f16 magnitude for each 16 channels of a row.
// A row is ceil(d/16) vectors of 16 codes and one of eight magnitudes: 144 bytes of 128 channels, 9 bits a value.
// The functions are those of cache_rows.wgsl. Needs kCache, vCache and CACHE_D.

alias CacheVec = vec4<u32>;

const ROW_CODES = (CACHE_D + 15u) / 16u;

// Four codes of -127 to 127. Conversions of integers are slow on some GPUs, so code + 128 goes into the mantissa of 1.0: 1 + (code + 128) / 256.
fn open_codes(word: u32, most: f32) -> vec4<f32> {
  let w = word ^ 0x80808080u;
  let bits = (vec4<u32>(w << 15u, w << 7u, w >> 1u, w >> 9u) & vec4<u32>(0x7f8000u)) | vec4<u32>(0x3f800000u);
  let scale = most * (256.0 / 127.0);
  return bitcast<vec4<f32>>(bits) * scale - vec4<f32>(1.5 * scale);
}

// Four channels of one row as they lie there; zeros stand for zeros.
struct Raw4 {
  codes: u32,
  magnitudes: u32,
}

fn open4(raw: Raw4, c: u32) -> vec4<f32> {
  return open_codes(raw.codes, unpack2x16float(raw.magnitudes)[c / 4u % 2u]);
}

fn raw_key4(row: u32, c: u32) -> Raw4 {
  let at = row * (ROW_CODES + 1u);
  return Raw4(kCache[at + c / 4u][c % 4u], kCache[at + ROW_CODES][c / 8u]);
}

fn raw_value4(row: u32, c: u32) -> Raw4 {
  let at = row * (ROW_CODES + 1u);
  return Raw4(vCache[at + c / 4u][c % 4u], vCache[at + ROW_CODES][c / 8u]);
}

fn key4(row: u32, c: u32) -> vec4<f32> {
  return open4(raw_key4(row, c), c);
}

fn value4(row: u32, c: u32) -> vec4<f32> {
  return open4(raw_value4(row, c), c);
}

fn part_vec(part: u32, s: u32) -> u32 {
  return 4u * part + s;
}

struct RawPart {
  codes: CacheVec,
  magnitudes: u32,
}

// One load of 16 bytes and one of the magnitude.
fn raw_key_part(row: u32, part: u32) -> RawPart {
  let at = row * (ROW_CODES + 1u);
  return RawPart(kCache[at + part], kCache[at + ROW_CODES][part / 2u]);
}

fn open_part(raw: RawPart, part: u32, s: u32) -> vec4<f32> {
  return open_codes(raw.codes[s], unpack2x16float(raw.magnitudes)[part % 2u]);
}
