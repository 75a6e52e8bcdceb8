// 4-bit weights, affine groups of GROUP along K: w = code * scale + offset.
// codes [N][rowWords]: byte j of a word holds element j in its low half and element j+4 in its high half.
// scales [N][rowWords * 8 / GROUP]: low half f16 scale, high half f16 offset.
// Bytes are opened with unpack4x8unorm, which divides by 255; the scale takes the factor back.

@group(0) @binding(1) var<storage, read> codes: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> scales: array<u32>;

fn nibbles(word: u32) -> vec4<f32> {
  return unpack4x8unorm(word & 0x0f0f0f0fu);
}

// Elements k..k+3 (k a multiple of 4) of a row.
fn weight4(row: u32, k: u32, rowWords: u32) -> vec4<f32> {
  let at = row * rowWords + k / 8u;
  let word = codes[at / 4u][at % 4u];
  let so = unpack2x16float(scales[(row * rowWords * 8u + k) / GROUP]);
  return nibbles(word >> (k & 4u)) * (so.x * 255.0) + so.y;
}
