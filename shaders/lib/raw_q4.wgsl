// Four 4-bit weights of a row in two steps, so that the load can be under way while something else is computed.
// The layout is that of weight_q4.wgsl.

@group(0) @binding(1) var<storage, read> codes: array<u32>;
@group(0) @binding(2) var<storage, read> scales: array<u32>;

// Elements k..k+3 (k a multiple of 4) of a row, as stored.
fn raw4(row: u32, k: u32, rowWords: u32) -> vec4<u32> {
  let word = codes[row * rowWords + k / 8u];
  return vec4<u32>(word >> (k & 4u), scales[(row * rowWords * 8u + k) / GROUP], 0u, 0u);
}

fn open4(raw: vec4<u32>) -> vec4<f32> {
  let so = unpack2x16float(raw.y);
  return unpack4x8unorm(raw.x & 0x0f0f0f0fu) * (so.x * 255.0) + so.y;
}
