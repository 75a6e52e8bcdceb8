// Four bf16 weights of a row in two steps, so that the load can be under way while something else is computed.
// The layout is that of weight_bf16.wgsl.

@group(0) @binding(1) var<storage, read> codes: array<vec2<u32>>;
@group(0) @binding(2) var<storage, read> scales: array<u32>;

// Elements k..k+3 (k a multiple of 4) of a row, as stored.
fn raw4(row: u32, k: u32, rowWords: u32) -> vec4<u32> {
  return vec4<u32>(codes[(row * rowWords + k / 2u) / 2u], 0u, 0u);
}

fn open4(raw: vec4<u32>) -> vec4<f32> {
  return bitcast<vec4<f32>>(vec4<u32>(raw.x << 16u, raw.x & 0xffff0000u, raw.y << 16u, raw.y & 0xffff0000u));
}
