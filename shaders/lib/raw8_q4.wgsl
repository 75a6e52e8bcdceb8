// What raw8.wgsl offers, for the layout of weight_q4.wgsl, opened in f16.

alias Raw8 = vec4<u32>;

// The word that holds all eight, and scale and offset.
fn raw8(row: u32, k: u32, rowWords: u32) -> Raw8 {
  return raw4(row, k, rowWords);
}

// Weights whose codes are the low bits of both halves of a word. From 1024 on the last bits of an f16 count by one, so codes are exact,
// and a weight is rounded once where fma is one operation, as if opened in f32.
fn open2(word: u32, so: vec2<f16>) -> vec2<f16> {
  return fma(halves((word & 0x000f000fu) | 0x64006400u) - 1024.0, so.xx, so.yy);
}

fn open8(raw: Raw8) -> Octet {
  let so = halves(raw.y);
  return octet(open2(raw.x, so), open2(raw.x >> 8u, so), open2(raw.x >> 4u, so), open2(raw.x >> 12u, so));
}
