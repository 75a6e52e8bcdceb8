// Dot products of 32 rows with 32 columns for a workgroup of 64 threads, over chunks of 32 channels.
// A thread makes 4 × 4 of them: rows ty, ty + 8, ty + 16, ty + 24 and columns tx, tx + 8, tx + 16, tx + 24.

// A quarter of 32 threads reads 8 neighbours or one and the same vec4: rows of 33 keep the stores apart as well.
const STRIDE = 33u;
var<workgroup> rs: array<vec4<f32>, 8u * STRIDE>;  // [channel / 4][row]
var<workgroup> cs: array<vec4<f32>, 8u * STRIDE>;  // [channel / 4][column]; free for other uses between chunks

// `sums` [row][column] with the chunk in rs and cs added.
fn add_dots(sums: mat4x4<f32>, ty: u32, tx: u32) -> mat4x4<f32> {
  var t0 = sums[0]; var t1 = sums[1]; var t2 = sums[2]; var t3 = sums[3];
  for (var c = 0u; c < 8u; c++) {
    let ca = cs[c * STRIDE + tx];
    let cb = cs[c * STRIDE + 8u + tx];
    let cc = cs[c * STRIDE + 16u + tx];
    let cd = cs[c * STRIDE + 24u + tx];
    let ra = rs[c * STRIDE + ty];
    let rb = rs[c * STRIDE + 8u + ty];
    let rc = rs[c * STRIDE + 16u + ty];
    let rd = rs[c * STRIDE + 24u + ty];
    t0 += vec4<f32>(dot(ra, ca), dot(ra, cb), dot(ra, cc), dot(ra, cd));
    t1 += vec4<f32>(dot(rb, ca), dot(rb, cb), dot(rb, cc), dot(rb, cd));
    t2 += vec4<f32>(dot(rc, ca), dot(rc, cb), dot(rc, cc), dot(rc, cd));
    t3 += vec4<f32>(dot(rd, ca), dot(rd, cb), dot(rd, cc), dot(rd, cd));
  }
  return mat4x4<f32>(t0, t1, t2, t3);
}

// `sums` [row][4 channels] with the products of v, 4 channels of one column, and the weights of 4 rows added.
fn add_outer(sums: mat4x4<f32>, v: vec4<f32>, weights: vec4<f32>) -> mat4x4<f32> {
  return mat4x4<f32>(
    sums[0] + weights.x * v, sums[1] + weights.y * v, sums[2] + weights.z * v, sums[3] + weights.w * v);
}

fn scale_columns(m: mat4x4<f32>, by: vec4<f32>) -> mat4x4<f32> {
  return mat4x4<f32>(m[0] * by.x, m[1] * by.y, m[2] * by.z, m[3] * by.w);
}
