// Y = act(X · Wᵀ + bias), or Y += X · Wᵀ + bias when ACCUMULATE.  X [M][K] f32 through lib/input_*, W [N][K] through lib/raw_*,
// Y [M][ldy] f32. With BACKWARD the same without the transpose: dX = dY · W, from the same packed rows; W is [K][N] then and X is dY.
// One workgroup makes a tile of BM × BN outputs, each thread 8 × 8 of them; SPLIT teams of threads share the steps of BK along K and
// add up at the end, so that a product with few tiles still fills the device. What a team reads next is under way while it computes.
// Grid: (ceil(N / BN), ceil(M / BM)).

const T = (BM / 8u) * (BN / 8u);  // threads of a team
// Loading is cut into blocks of 4 rows × 4 columns as they lie in memory; X, and W unless BACKWARD, are turned on their way into shared memory.
const X_BLOCKS = BM * BK / 16u;
const BLOCKS = (BM + BN) * BK / 16u;
const LOADS = (BLOCKS + T - 1u) / T;
const TEAM = (BM + BN) * BK / 4u;  // vec4 of a team: X as [k][row / 4], then W

var<workgroup> tile: array<vec4<f32>, SPLIT * TEAM>;

struct Block {
  r0: vec4<u32>,
  r1: vec4<u32>,
  r2: vec4<u32>,
  r3: vec4<u32>,
}

// Block b of the step at k0, as it lies in memory.
fn load(b: u32, row0: u32, col0: u32, k0: u32) -> Block {
  if (b < X_BLOCKS) {
    let row = row0 + (b / (BK / 4u)) * 4u;
    let k = k0 + (b % (BK / 4u)) * 4u;
    return Block(x4(row, k), x4(row + 1u, k), x4(row + 2u, k), x4(row + 3u, k));
  }
  if (b >= BLOCKS) {
    return Block();
  }
  var row = col0 + ((b - X_BLOCKS) / (BK / 4u)) * 4u;
  var column = k0 + (b % (BK / 4u)) * 4u;
  if (BACKWARD) {
    row = k0 + ((b - X_BLOCKS) / (BN / 4u)) * 4u;
    column = col0 + ((b - X_BLOCKS) % (BN / 4u)) * 4u;
  }
  return Block(w4(row, column), w4(row + 1u, column), w4(row + 2u, column), w4(row + 3u, column));
}

fn place(b: u32, base: u32, v: Block) {
  let k = (b % (BK / 4u)) * 4u;
  if (b < X_BLOCKS) {
    let m = transpose(mat4x4<f32>(
      bitcast<vec4<f32>>(v.r0), bitcast<vec4<f32>>(v.r1), bitcast<vec4<f32>>(v.r2), bitcast<vec4<f32>>(v.r3)));
    let at = base + k * (BM / 4u) + b / (BK / 4u);
    tile[at] = m[0]; tile[at + BM / 4u] = m[1]; tile[at + BM / 2u] = m[2]; tile[at + 3u * BM / 4u] = m[3];
  } else if (b < BLOCKS) {
    var m = mat4x4<f32>(open4(v.r0), open4(v.r1), open4(v.r2), open4(v.r3));
    let w = b - X_BLOCKS;
    var at = base + BM * BK / 4u;
    if (BACKWARD) {
      at += (w / (BN / 4u)) * BN + w % (BN / 4u);
    } else {
      m = transpose(m);
      at += k * (BN / 4u) + w / (BK / 4u);
    }
    tile[at] = m[0]; tile[at + BN / 4u] = m[1];
    tile[at + BN / 2u] = m[2]; tile[at + 3u * BN / 4u] = m[3];
  }
}

fn store(row: u32, col: u32, value: vec4<f32>) {
  if (row >= p.m) {
    return;
  }
  for (var i = 0u; i < 4u; i++) {
    if (col + i < p.n) {
      let at = row * p.ldy + p.yColumn + col + i;
      var v = value[i];
      if (BIAS) {
        v += bias[col + i];
      }
      if (ACCUMULATE) {
        v += y[at];
      }
      y[at] = activate(v);
    }
  }
}

@compute @workgroup_size(SPLIT * T)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
  let row0 = wg.y * BM;
  let col0 = wg.x * BN;
  let team = lid / T;
  let t = lid % T;
  let base = team * TEAM;
  // 32 neighbouring threads make 4 × 8 blocks of 4 × 4, in each quarter of the tile: their reads of shared memory lie side by side.
  let tx = ((t / 32u) % (BN / 64u)) * 8u + t % 8u;
  let ty = (t / 32u / (BN / 64u)) * 4u + (t % 32u) / 8u;
  var a0 = vec4<f32>(); var b0 = vec4<f32>();
  var a1 = vec4<f32>(); var b1 = vec4<f32>();
  var a2 = vec4<f32>(); var b2 = vec4<f32>();
  var a3 = vec4<f32>(); var b3 = vec4<f32>();
  var a4 = vec4<f32>(); var b4 = vec4<f32>();
  var a5 = vec4<f32>(); var b5 = vec4<f32>();
  var a6 = vec4<f32>(); var b6 = vec4<f32>();
  var a7 = vec4<f32>(); var b7 = vec4<f32>();
  var next: array<Block, LOADS>;
  for (var s = 0u; s < LOADS; s++) {
    next[s] = load(s * T + t, row0, col0, team * BK);
  }
  for (var k0 = 0u; k0 < p.k; k0 += SPLIT * BK) {
    workgroupBarrier();
    for (var s = 0u; s < LOADS; s++) {
      place(s * T + t, base, next[s]);
    }
    workgroupBarrier();
    // Beyond the end of K everything loads as zero; weights of zero scale and offset are zero too.
    for (var s = 0u; s < LOADS; s++) {
      next[s] = load(s * T + t, row0, col0, k0 + (SPLIT + team) * BK);
    }
    for (var k = 0u; k < BK; k++) {
      let xa = tile[base + k * (BM / 4u) + ty];
      let xb = tile[base + k * (BM / 4u) + BM / 8u + ty];
      let wa = tile[base + BM * BK / 4u + k * (BN / 4u) + tx];
      let wb = tile[base + BM * BK / 4u + k * (BN / 4u) + BN / 8u + tx];
      a0 += xa.x * wa; b0 += xa.x * wb;
      a1 += xa.y * wa; b1 += xa.y * wb;
      a2 += xa.z * wa; b2 += xa.z * wb;
      a3 += xa.w * wa; b3 += xa.w * wb;
      a4 += xb.x * wa; b4 += xb.x * wb;
      a5 += xb.y * wa; b5 += xb.y * wb;
      a6 += xb.z * wa; b6 += xb.z * wb;
      a7 += xb.w * wa; b7 += xb.w * wb;
    }
  }
  for (var other = 1u; other < SPLIT; other++) {
    workgroupBarrier();
    if (team == other) {
      tile[0u * T + t] = a0; tile[1u * T + t] = b0;
      tile[2u * T + t] = a1; tile[3u * T + t] = b1;
      tile[4u * T + t] = a2; tile[5u * T + t] = b2;
      tile[6u * T + t] = a3; tile[7u * T + t] = b3;
      tile[8u * T + t] = a4; tile[9u * T + t] = b4;
      tile[10u * T + t] = a5; tile[11u * T + t] = b5;
      tile[12u * T + t] = a6; tile[13u * T + t] = b6;
      tile[14u * T + t] = a7; tile[15u * T + t] = b7;
    }
    workgroupBarrier();
    if (team == 0u) {
      a0 += tile[0u * T + t]; b0 += tile[1u * T + t];
      a1 += tile[2u * T + t]; b1 += tile[3u * T + t];
      a2 += tile[4u * T + t]; b2 += tile[5u * T + t];
      a3 += tile[6u * T + t]; b3 += tile[7u * T + t];
      a4 += tile[8u * T + t]; b4 += tile[9u * T + t];
      a5 += tile[10u * T + t]; b5 += tile[11u * T + t];
      a6 += tile[12u * T + t]; b6 += tile[13u * T + t];
      a7 += tile[14u * T + t]; b7 += tile[15u * T + t];
    }
  }
  if (team > 0u) {
    return;
  }
  let row = row0 + ty * 4u;
  let col = col0 + tx * 4u;
  store(row + 0u, col, a0); store(row + 0u, col + BN / 2u, b0);
  store(row + 1u, col, a1); store(row + 1u, col + BN / 2u, b1);
  store(row + 2u, col, a2); store(row + 2u, col + BN / 2u, b2);
  store(row + 3u, col, a3); store(row + 3u, col + BN / 2u, b3);
  store(row + BM / 2u + 0u, col, a4); store(row + BM / 2u + 0u, col + BN / 2u, b4);
  store(row + BM / 2u + 1u, col, a5); store(row + BM / 2u + 1u, col + BN / 2u, b5);
  store(row + BM / 2u + 2u, col, a6); store(row + BM / 2u + 2u, col + BN / 2u, b6);
  store(row + BM / 2u + 3u, col, a7); store(row + BM / 2u + 3u, col + BN / 2u, b7);
}
