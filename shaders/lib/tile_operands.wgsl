// What portable products with many rows read: rows of X through input_*, of W through raw_*; zeros beyond their ends. After tile_params.wgsl.

fn x4(row: u32, k: u32) -> vec4<u32> {
  if (row < p.m && k < p.k) {
    return bitcast<vec4<u32>>(input4(row * p.ldx + p.xColumn + k, p.k - k));
  }
  return vec4<u32>();
}

fn w4(row: u32, column: u32) -> vec4<u32> {
  if (row < select(p.n, p.k, BACKWARD) && column < select(p.k, p.n, BACKWARD)) {
    return raw4(row, column, p.rowWords);
  }
  return vec4<u32>();
}
