// Rows of a cache whose values are kept one by one: [rows][d/4] of CacheVec. Needs kCache, vCache, CACHE_D and open_cache.

// Four channels of one row as they lie there, which a load can bring while something else is done; zeros stand for zeros.
alias Raw4 = CacheVec;

fn open4(raw: Raw4, c: u32) -> vec4<f32> {
  return open_cache(raw);
}

fn raw_key4(row: u32, c: u32) -> Raw4 {
  return kCache[row * (CACHE_D / 4u) + c];
}

fn raw_value4(row: u32, c: u32) -> Raw4 {
  return vCache[row * (CACHE_D / 4u) + c];
}

// Channels 4c to 4c + 3 of a row.
fn key4(row: u32, c: u32) -> vec4<f32> {
  return open_cache(raw_key4(row, c));
}

fn value4(row: u32, c: u32) -> vec4<f32> {
  return open_cache(raw_value4(row, c));
}

// Which four channels are in column s of part `part` of a row: the eight parts of a row read side by side.
fn part_vec(part: u32, s: u32) -> u32 {
  return part + 8u * s;
}

// An eighth of a row of 128 channels. In shorter rows the parts that begin behind the row are some finite numbers.
alias RawPart = array<CacheVec, 4>;

fn raw_key_part(row: u32, part: u32) -> RawPart {
  let at = row * (CACHE_D / 4u) + part;
  return RawPart(kCache[at], kCache[at + 8u], kCache[at + 16u], kCache[at + 24u]);
}

// Column s of a part.
fn open_part(raw: RawPart, part: u32, s: u32) -> vec4<f32> {
  return open_cache(raw[s]);
}
