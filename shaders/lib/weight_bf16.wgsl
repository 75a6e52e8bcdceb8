// bf16 weights, two to a word with the even element in the low half; rows padded to a multiple of 8 elements.
// codes [N][rowWords]; scales is bound to the same buffer and not read.

@group(0) @binding(1) var<storage, read> codes: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> scales: array<u32>;

fn open2(words: vec2<u32>) -> vec4<f32> {
  return bitcast<vec4<f32>>(vec4<u32>(words.x << 16u, words.x & 0xffff0000u, words.y << 16u, words.y & 0xffff0000u));
}

// Elements k..k+3 (k a multiple of 4) of a row.
fn weight4(row: u32, k: u32, rowWords: u32) -> vec4<f32> {
  let at = row * rowWords + k / 2u;
  let v = codes[at / 4u];
  return open2(select(v.xy, v.zw, (at & 2u) != 0u));
}
