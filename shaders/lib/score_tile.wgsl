// Dot products of 64 rows with 32 columns, and sums of columns that they weigh, for a workgroup of 64 threads; no sum leaves registers
// but for the weights. Thread (ty, tx) of 8 × 8 makes rows 4 ty … 4 ty + 3 and 32 + 4 ty … 35 + 4 ty of columns tx, tx + 8, tx + 16,
// tx + 24, then of those rows channels 4 tx … 4 tx + 3 and every 32 more.

const ROWS = 64u;
const COLS = 32u;
const CHUNK = 4u;  // vec4 of channels whose products are made between two barriers
// Lines are one vec4 longer than they need to be, so that the stores of neighbours lie in different banks.
const ROW_LINE = ROWS / 4u + 1u;
const COL_LINE = COLS / 4u + 1u;
const COL_AT = 4u * CHUNK * ROW_LINE;

// A chunk of rows [channel][rows 4i … 4i + 3], and behind it of columns [channel][columns i, i + 8, i + 16, i + 24]; or eight columns
// [column][channels / 4]. Free for other uses in between.
var<workgroup> stage: array<vec4<f32>, 4u * CHUNK * (ROW_LINE + COL_LINE)>;
var<workgroup> weights: array<vec4<f32>, COLS * ROW_LINE>;  // [column][rows 4i … 4i + 3]

// Four rows × four columns each: a of the first 32 rows, b of the others.
struct Tile {
  a: mat4x4<f32>,
  b: mat4x4<f32>,
}

// Four rows × four channels each: a and b as above, the number says which 32 channels. No array: compilers may keep one in memory.
struct Sums {
  a0: mat4x4<f32>,
  a1: mat4x4<f32>,
  a2: mat4x4<f32>,
  a3: mat4x4<f32>,
  b0: mat4x4<f32>,
  b1: mat4x4<f32>,
  b2: mat4x4<f32>,
  b3: mat4x4<f32>,
}

// `m` with v weighed by each element of w added to its columns.
fn add_outer(m: mat4x4<f32>, v: vec4<f32>, w: vec4<f32>) -> mat4x4<f32> {
  return mat4x4<f32>(m[0] + w.x * v, m[1] + w.y * v, m[2] + w.z * v, m[3] + w.w * v);
}

// Lays down a chunk: four rows and, of threads below 8 · CHUNK, four columns, of the vec4 of channels lid % CHUNK.
fn place_chunk(lid: u32, rows: mat4x4<f32>, columns: mat4x4<f32>) {
  workgroupBarrier();
  let r = transpose(rows);
  let at = 4u * (lid % CHUNK) * ROW_LINE + lid / CHUNK;
  stage[at] = r[0]; stage[at + ROW_LINE] = r[1]; stage[at + 2u * ROW_LINE] = r[2]; stage[at + 3u * ROW_LINE] = r[3];
  if (lid < 8u * CHUNK) {
    let c = transpose(columns);
    let to = COL_AT + 4u * (lid % CHUNK) * COL_LINE + lid / CHUNK;
    stage[to] = c[0]; stage[to + COL_LINE] = c[1]; stage[to + 2u * COL_LINE] = c[2]; stage[to + 3u * COL_LINE] = c[3];
  }
  workgroupBarrier();
}

fn add_chunk(t: ptr<function, Tile>, ty: u32, tx: u32) {
  for (var i = 0u; i < 4u * CHUNK; i++) {
    let c = stage[COL_AT + i * COL_LINE + tx];
    t.a = add_outer(t.a, c, stage[i * ROW_LINE + ty]);
    t.b = add_outer(t.b, c, stage[i * ROW_LINE + 8u + ty]);
  }
}

fn put_weights(t: Tile, ty: u32, tx: u32) {
  let a = transpose(t.a);
  let b = transpose(t.b);
  let at = tx * ROW_LINE + ty;
  weights[at] = a[0]; weights[at + 8u] = b[0];
  weights[at + 8u * ROW_LINE] = a[1]; weights[at + 8u * ROW_LINE + 8u] = b[1];
  weights[at + 16u * ROW_LINE] = a[2]; weights[at + 16u * ROW_LINE + 8u] = b[2];
  weights[at + 24u * ROW_LINE] = a[3]; weights[at + 24u * ROW_LINE + 8u] = b[3];
}

// Adds the eight columns in `stage`, of `vecs` vec4 each, with the weights from column `first` on.
fn add_columns(s: ptr<function, Sums>, first: u32, vecs: u32, ty: u32, tx: u32) {
  for (var j = 0u; j < 8u; j++) {
    let wa = weights[(first + j) * ROW_LINE + ty];
    let wb = weights[(first + j) * ROW_LINE + 8u + ty];
    let at = j * vecs + tx;
    let v0 = stage[min(at, 255u)];
    s.a0 = add_outer(s.a0, v0, wa);
    s.b0 = add_outer(s.b0, v0, wb);
    if (CV > 1u) {
      let v1 = stage[min(at + 8u, 255u)];
      s.a1 = add_outer(s.a1, v1, wa);
      s.b1 = add_outer(s.b1, v1, wb);
    }
    if (CV > 2u) {
      let v2 = stage[min(at + 16u, 255u)];
      s.a2 = add_outer(s.a2, v2, wa);
      s.b2 = add_outer(s.b2, v2, wb);
    }
    if (CV > 3u) {
      let v3 = stage[min(at + 24u, 255u)];
      s.a3 = add_outer(s.a3, v3, wa);
      s.b3 = add_outer(s.b3, v3, wb);
    }
  }
}
