// Eight weights of a row as an octet, in two steps, as raw_* offers four.

struct Raw8 {
  low: vec4<u32>,
  high: vec4<u32>,
}

// Elements k..k+7 (k a multiple of 8) of a row, as stored.
fn raw8(row: u32, k: u32, rowWords: u32) -> Raw8 {
  return Raw8(raw4(row, k, rowWords), raw4(row, k + 4u, rowWords));
}

fn open8(raw: Raw8) -> Octet {
  return paired(vec4<f16>(open4(raw.low)), vec4<f16>(open4(raw.high)));
}
