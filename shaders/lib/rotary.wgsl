// The norm and the rotation of a head's row:
//   h = w ⊙ x · (mean(x²) + eps)^-½;  y_j = h_j cos θ_j − h_{j+d/2} sin θ_j;  y_{j+d/2} = h_{j+d/2} cos θ_j + h_j sin θ_j
// θ_j comes from the table's row at the token's position on the axis of j: interleaved M-RoPE (VISION false) or row/column (VISION true).
// Needs p (d, eps, and 3 × the h and w sections of M-RoPE as sectionH and sectionW; for vision d/4 as sectionH) and `table`
// [positions][d/2] (cos, sin).

fn axis_position(j: u32, pos: vec4<u32>) -> u32 {
  if (VISION) {
    return select(pos.y, pos.x, j < p.sectionH);
  }
  let r = j % 3u;
  if (r == 1u && j < p.sectionH) {
    return pos.y;
  }
  if (r == 2u && j < p.sectionW) {
    return pos.z;
  }
  return pos.x;
}

// (cos, sin) of θ_j.
fn angle(j: u32, pos: vec4<u32>) -> vec2<f32> {
  return table[axis_position(j, pos) * (p.d / 2u) + j];
}

// Elements j and j + d/2, turned.
fn turn(h: vec2<f32>, cs: vec2<f32>) -> vec2<f32> {
  return vec2<f32>(h.x * cs.x - h.y * cs.y, h.y * cs.x + h.x * cs.y);
}

fn norm_factor(squares: f32) -> f32 {
  return 1.0 / sqrt(squares / f32(p.d) + p.eps);
}
