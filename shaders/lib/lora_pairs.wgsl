// The LoRA pairs of a matrix, for products with one row of x: scale · (u Bᵀ) of the pairs that own a row, u = x Aᵀ made before.
// A thread sums every PARTS-th term of a row.

@group(0) @binding(7) var<storage, read> low: array<f32>;       // u [m][rank]
@group(0) @binding(8) var<storage, read> adapter: array<f32>;   // each B [rows][r] from `b` on

fn lora_part(row: u32, i: u32, part: u32) -> f32 {
  var sum = 0.0;
  for (var n = 0u; n < PAIRS; n++) {
    let pair = p.pairs[n];
    if (row >= pair.row0 && row < pair.row0 + pair.rows) {
      for (var j = part; j < pair.r; j += PARTS) {
        sum += pair.scale * low[i * p.rank + pair.aRow + j] * adapter[pair.b + (row - pair.row0) * pair.r + j];
      }
    }
  }
  return sum;
}
