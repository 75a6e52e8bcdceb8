// C = scale · op(A) · op(B), or C += when ACCUMULATE, for the small f32 factors of LoRA.  op(A) [M][K], op(B) [K][N], C [M][N], all f32.
// A is stored [M][K], or [K][M] when TRANSPOSE_A; B is stored [K][N], or [N][K] when TRANSPOSE_B. Rows lie lda, ldb, ldc elements apart;
// lib/gemm_*.wgsl reads and writes four of a row. Workgroups of one z take the k from z·kSlice on and make the z-th C below the first.
// A workgroup makes a tile of TM × TN; each of its TM·TN/16 threads holds 4 × 4. What the next step of BK along K reads is under way
// while this one computes. Sums in f32.  Grid: (ceil(N/TN), ceil(M/TM), slices of k).

struct Params {
  m: u32,
  n: u32,
  k: u32,
  kSlice: u32,  // a multiple of BK
  lda: u32,
  ldb: u32,
  ldc: u32,
  a0: u32,      // first elements
  b0: u32,
  c0: u32,
  scale: f32,
}

@group(0) @binding(0) var<uniform> p: Params;

const RM = TM / 4u;
const RN = TN / 4u;
const THREADS = RM * RN;
// Loading is cut into blocks of 4 × 4 as they lie in memory; one whose rows run along k is turned on its way into shared memory.
const A_BLOCKS = BK * RM / 4u;
const BLOCKS = A_BLOCKS + BK * RN / 4u;
const LOADS = (BLOCKS + THREADS - 1u) / THREADS;
// [k][row / 4], then [k][column / 4]: four rows, or columns, of the tile side by side. One more in each k, or turned blocks that threads
// write at once would lie in the same banks.
const SA = RM + 1u;
const SB = RN + 1u;

var<workgroup> tile: array<vec4<f32>, BK * (SA + SB)>;

struct Block {
  r0: vec4<f32>,
  r1: vec4<f32>,
  r2: vec4<f32>,
  r3: vec4<f32>,
}

// Where block i lies: (place among the rows or columns, place along k). Neighbouring threads read along the rows that memory holds.
fn corner(i: u32, width: u32, alongK: bool) -> vec2<u32> {
  return select(vec2<u32>(i % width, i / width), vec2<u32>(i / (BK / 4u), i % (BK / 4u)), alongK);
}

// Four of a stored row; `size` is what there is of the matrix, in rows and columns as stored.
fn aRow(row: u32, col: u32, size: vec2<u32>) -> vec4<f32> {
  if (row < size.x && col < size.y) {
    return a4(p.a0 + row * p.lda + col, size.y - col);
  }
  return vec4<f32>();
}

fn bRow(row: u32, col: u32, size: vec2<u32>) -> vec4<f32> {
  if (row < size.x && col < size.y) {
    return b4(p.b0 + row * p.ldb + col, size.y - col);
  }
  return vec4<f32>();
}

fn load(i: u32, row0: u32, col0: u32, k0: u32, end: u32) -> Block {
  if (i < A_BLOCKS) {
    let at = vec2<u32>(row0, k0) + 4u * corner(i, RM, !TRANSPOSE_A);
    let s = select(at, at.yx, TRANSPOSE_A);
    let size = select(vec2<u32>(p.m, end), vec2<u32>(end, p.m), TRANSPOSE_A);
    return Block(aRow(s.x, s.y, size), aRow(s.x + 1u, s.y, size), aRow(s.x + 2u, s.y, size), aRow(s.x + 3u, s.y, size));
  }
  if (i >= BLOCKS) {
    return Block();
  }
  let at = vec2<u32>(col0, k0) + 4u * corner(i - A_BLOCKS, RN, TRANSPOSE_B);
  let s = select(at.yx, at, TRANSPOSE_B);
  let size = select(vec2<u32>(end, p.n), vec2<u32>(p.n, end), TRANSPOSE_B);
  return Block(bRow(s.x, s.y, size), bRow(s.x + 1u, s.y, size), bRow(s.x + 2u, s.y, size), bRow(s.x + 3u, s.y, size));
}

fn place(i: u32, v: Block) {
  var m = mat4x4<f32>(v.r0, v.r1, v.r2, v.r3);
  if (i < A_BLOCKS) {
    if (!TRANSPOSE_A) {
      m = transpose(m);
    }
    let at = corner(i, RM, !TRANSPOSE_A);
    let to = 4u * at.y * SA + at.x;
    tile[to] = m[0]; tile[to + SA] = m[1]; tile[to + 2u * SA] = m[2]; tile[to + 3u * SA] = m[3];
  } else if (i < BLOCKS) {
    if (TRANSPOSE_B) {
      m = transpose(m);
    }
    let at = corner(i - A_BLOCKS, RN, TRANSPOSE_B);
    let to = BK * SA + 4u * at.y * SB + at.x;
    tile[to] = m[0]; tile[to + SB] = m[1]; tile[to + 2u * SB] = m[2]; tile[to + 3u * SB] = m[3];
  }
}

fn store(row: u32, col: u32, z: u32, value: vec4<f32>) {
  if (row < p.m && col < p.n) {
    put4(p.c0 + (z * p.m + row) * p.ldc + col, p.n - col, p.scale * value);
  }
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
  let row0 = wg.y * TM;
  let col0 = wg.x * TN;
  let first = wg.z * p.kSlice;
  let end = min(p.k, first + p.kSlice);
  let ty = lid / RN;
  let tx = lid % RN;
  var c0 = vec4<f32>(); var c1 = vec4<f32>(); var c2 = vec4<f32>(); var c3 = vec4<f32>();
  var next: array<Block, LOADS>;
  for (var s = 0u; s < LOADS; s++) {
    next[s] = load(s * THREADS + lid, row0, col0, first, end);
  }
  for (var k0 = first; k0 < end; k0 += BK) {
    workgroupBarrier();
    for (var s = 0u; s < LOADS; s++) {
      place(s * THREADS + lid, next[s]);
    }
    workgroupBarrier();
    // Beyond the end everything loads as zero.
    for (var s = 0u; s < LOADS; s++) {
      next[s] = load(s * THREADS + lid, row0, col0, k0 + BK, end);
    }
    for (var k = 0u; k < BK; k++) {
      let x = tile[k * SA + ty];
      let y = tile[BK * SA + k * SB + tx];
      c0 += x.x * y;
      c1 += x.y * y;
      c2 += x.z * y;
      c3 += x.w * y;
    }
  }
  let row = row0 + ty * 4u;
  let col = col0 + tx * 4u;
  store(row, col, wg.z, c0);
  store(row + 1u, col, wg.z, c1);
  store(row + 2u, col, wg.z, c2);
  store(row + 3u, col, wg.z, c3);
}
