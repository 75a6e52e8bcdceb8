// 32 along K of matmul_tile_subgroup_matrix.wgsl, statements of its main: the half NOW of `tile` from K on, with fragments f of X, which
// are there, and g. What comes next of X is under way while the units compute.
g0 = subgroupMatrixLoad<Left, row_major>(&x, at + 4u * K + 64u, 4u);
g1 = subgroupMatrixLoad<Left, row_major>(&x, at + 4u * K + 64u + line, 4u);
if (FR > 2u) {
  g2 = subgroupMatrixLoad<Left, row_major>(&x, at + 4u * K + 64u + 2u * line, 4u);
  g3 = subgroupMatrixLoad<Left, row_major>(&x, at + 4u * K + 64u + 3u * line, 4u);
}
if (BACKWARD) { w = subgroupMatrixLoad<Right, row_major>(&tile, NOW + K * LINE + column / 4u, LINE); }
else { w = subgroupMatrixLoad<Right, col_major>(&tile, NOW + column * LINE + K / 4u, LINE); }
a0 = subgroupMatrixMultiplyAccumulate(f0, w, a0); a1 = subgroupMatrixMultiplyAccumulate(f1, w, a1);
if (FR > 2u) { a2 = subgroupMatrixMultiplyAccumulate(f2, w, a2); a3 = subgroupMatrixMultiplyAccumulate(f3, w, a3); }
if (BACKWARD) { w = subgroupMatrixLoad<Right, row_major>(&tile, NOW + K * LINE + column / 4u + 4u, LINE); }
else { w = subgroupMatrixLoad<Right, col_major>(&tile, NOW + (column + 16u) * LINE + K / 4u, LINE); }
b0 = subgroupMatrixMultiplyAccumulate(f0, w, b0); b1 = subgroupMatrixMultiplyAccumulate(f1, w, b1);
if (FR > 2u) { b2 = subgroupMatrixMultiplyAccumulate(f2, w, b2); b3 = subgroupMatrixMultiplyAccumulate(f3, w, b3); }
if (FC > 2u) {
  if (BACKWARD) { w = subgroupMatrixLoad<Right, row_major>(&tile, NOW + K * LINE + column / 4u + 8u, LINE); }
  else { w = subgroupMatrixLoad<Right, col_major>(&tile, NOW + (column + 32u) * LINE + K / 4u, LINE); }
  c0 = subgroupMatrixMultiplyAccumulate(f0, w, c0); c1 = subgroupMatrixMultiplyAccumulate(f1, w, c1);
  if (FR > 2u) { c2 = subgroupMatrixMultiplyAccumulate(f2, w, c2); c3 = subgroupMatrixMultiplyAccumulate(f3, w, c3); }
  if (BACKWARD) { w = subgroupMatrixLoad<Right, row_major>(&tile, NOW + K * LINE + column / 4u + 12u, LINE); }
  else { w = subgroupMatrixLoad<Right, col_major>(&tile, NOW + (column + 48u) * LINE + K / 4u, LINE); }
  d0 = subgroupMatrixMultiplyAccumulate(f0, w, d0); d1 = subgroupMatrixMultiplyAccumulate(f1, w, d1);
  if (FR > 2u) { d2 = subgroupMatrixMultiplyAccumulate(f2, w, d2); d3 = subgroupMatrixMultiplyAccumulate(f3, w, d3); }
}
f0 = subgroupMatrixLoad<Left, row_major>(&x, at + 4u * K + 128u, 4u);
f1 = subgroupMatrixLoad<Left, row_major>(&x, at + 4u * K + 128u + line, 4u);
if (FR > 2u) {
  f2 = subgroupMatrixLoad<Left, row_major>(&x, at + 4u * K + 128u + 2u * line, 4u);
  f3 = subgroupMatrixLoad<Left, row_major>(&x, at + 4u * K + 128u + 3u * line, 4u);
}
if (BACKWARD) { w = subgroupMatrixLoad<Right, row_major>(&tile, NOW + (K + 16u) * LINE + column / 4u, LINE); }
else { w = subgroupMatrixLoad<Right, col_major>(&tile, NOW + column * LINE + (K + 16u) / 4u, LINE); }
a0 = subgroupMatrixMultiplyAccumulate(g0, w, a0); a1 = subgroupMatrixMultiplyAccumulate(g1, w, a1);
if (FR > 2u) { a2 = subgroupMatrixMultiplyAccumulate(g2, w, a2); a3 = subgroupMatrixMultiplyAccumulate(g3, w, a3); }
if (BACKWARD) { w = subgroupMatrixLoad<Right, row_major>(&tile, NOW + (K + 16u) * LINE + column / 4u + 4u, LINE); }
else { w = subgroupMatrixLoad<Right, col_major>(&tile, NOW + (column + 16u) * LINE + (K + 16u) / 4u, LINE); }
b0 = subgroupMatrixMultiplyAccumulate(g0, w, b0); b1 = subgroupMatrixMultiplyAccumulate(g1, w, b1);
if (FR > 2u) { b2 = subgroupMatrixMultiplyAccumulate(g2, w, b2); b3 = subgroupMatrixMultiplyAccumulate(g3, w, b3); }
if (FC > 2u) {
  if (BACKWARD) { w = subgroupMatrixLoad<Right, row_major>(&tile, NOW + (K + 16u) * LINE + column / 4u + 8u, LINE); }
  else { w = subgroupMatrixLoad<Right, col_major>(&tile, NOW + (column + 32u) * LINE + (K + 16u) / 4u, LINE); }
  c0 = subgroupMatrixMultiplyAccumulate(g0, w, c0); c1 = subgroupMatrixMultiplyAccumulate(g1, w, c1);
  if (FR > 2u) { c2 = subgroupMatrixMultiplyAccumulate(g2, w, c2); c3 = subgroupMatrixMultiplyAccumulate(g3, w, c3); }
  if (BACKWARD) { w = subgroupMatrixLoad<Right, row_major>(&tile, NOW + (K + 16u) * LINE + column / 4u + 12u, LINE); }
  else { w = subgroupMatrixLoad<Right, col_major>(&tile, NOW + (column + 48u) * LINE + (K + 16u) / 4u, LINE); }
  d0 = subgroupMatrixMultiplyAccumulate(g0, w, d0); d1 = subgroupMatrixMultiplyAccumulate(g1, w, d1);
  if (FR > 2u) { d2 = subgroupMatrixMultiplyAccumulate(g2, w, d2); d3 = subgroupMatrixMultiplyAccumulate(g3, w, d3); }
}
