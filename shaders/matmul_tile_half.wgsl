// What matmul_tile.wgsl computes, in f16 for devices with shader-f16: Y = act(X · Wᵀ + bias), Y += X · Wᵀ + bias, or dX = dY · W.
// Such a device multiplies two f16 at once where both pairs lie side by side, so every sum is kept as two, each over half of the
// places along K, and operands lie in shared memory as eight neighbours along K (lib/octet_*.wgsl). Sums of one step, 16 products each,
// are added to those of all steps in f32.
// One workgroup makes a tile of BM × BN outputs in steps of 32 along K, each thread 8 × 4 of them. What it reads next is under way while
// it computes.
// Grid: (ceil(N / BN), ceil(M / BM)).

const TY = BM / 8u;  // threads one below the other, and side by side
const TX = BN / 4u;
const T = TX * TY;
const OCTETS = 4u;   // of a step
const X_OCTETS = BM * OCTETS / T;  // that a thread reads
const W_OCTETS = BN * OCTETS / T;

// What comes in is scaled, so that neither large activations nor small gradients leave the range of f16.
const SCALE = select(0.0625, 4096.0, BACKWARD);

// [octet of the step][row or column of a thread][thread]: all but the last are constants where they are read, and threads side
// by side read side by side.
var<workgroup> xs: array<array<array<Octet, TY>, 8>, OCTETS>;
var<workgroup> ws: array<array<array<Octet, TX>, 4>, OCTETS>;

// Row and octet of number b of a tile: 8 rows for each of the octets.
fn row_of(b: u32) -> u32 {
  return b / (8u * OCTETS) * 8u + b % 8u;
}

fn octet_of(b: u32) -> u32 {
  return b / 8u % OCTETS;
}

// Four elements of X, eight of W; rows beyond the end may be any, since what they make is not stored.
fn read_x(row: u32, k: u32) -> vec4<u32> {
  return x4(min(row, p.m - 1u), k);
}

fn read_w(row: u32, k: u32) -> Raw8 {
  return raw8(min(row, p.n - 1u), k, p.rowWords);
}

fn scaled(raw: vec4<u32>) -> vec4<f16> {
  return vec4<f16>(clamp(bitcast<vec4<f32>>(raw) * SCALE, vec4<f32>(-65504.0), vec4<f32>(65504.0)));
}

// For four columns of Y the two sums.
alias Pairs = mat4x2<f16>;

fn add(c: Pairs, x: Octet, w0: Octet, w1: Octet, w2: Octet, w3: Octet) -> Pairs {
  return Pairs(
    c[0] + pair(x, 0u) * pair(w0, 0u) + pair(x, 1u) * pair(w0, 1u) + pair(x, 2u) * pair(w0, 2u) + pair(x, 3u) * pair(w0, 3u),
    c[1] + pair(x, 0u) * pair(w1, 0u) + pair(x, 1u) * pair(w1, 1u) + pair(x, 2u) * pair(w1, 2u) + pair(x, 3u) * pair(w1, 3u),
    c[2] + pair(x, 0u) * pair(w2, 0u) + pair(x, 1u) * pair(w2, 1u) + pair(x, 2u) * pair(w2, 2u) + pair(x, 3u) * pair(w2, 3u),
    c[3] + pair(x, 0u) * pair(w3, 0u) + pair(x, 1u) * pair(w3, 1u) + pair(x, 2u) * pair(w3, 2u) + pair(x, 3u) * pair(w3, 3u));
}

fn whole(c: Pairs) -> vec4<f32> {
  let halves = transpose(c);
  return vec4<f32>(halves[0]) + vec4<f32>(halves[1]);
}

// A thread's column i: side by side with its neighbours', or BACKWARD, as blocks of W come in, with its own others.
fn column(tx: u32, i: u32) -> u32 {
  return select(i * TX + tx, tx * 4u + i, BACKWARD);
}

fn store(row: u32, col0: u32, tx: u32, value: vec4<f32>) {
  if (row >= p.m) {
    return;
  }
  for (var i = 0u; i < 4u; i++) {
    let col = col0 + column(tx, i);
    if (col < p.n) {
      let at = row * p.ldy + p.yColumn + col;
      var v = value[i] / SCALE;
      if (BIAS) {
        v += bias[col];
      }
      if (ACCUMULATE) {
        v += y[at];
      }
      y[at] = activate(v);
    }
  }
}

@compute @workgroup_size(T)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) t: u32) {
  let row0 = wg.y * BM;
  let col0 = wg.x * BN;
  // 32 neighbouring threads read 8 columns and 4 rows at a time, pairs of them the same.
  let tx = t / 32u % (TX / 8u) * 8u + t / 2u % 8u;
  let ty = t / 32u / (TX / 8u) * 4u + t / 16u % 2u * 2u + t % 2u;
  // Sums of a step, and of all of them.
  var c0 = Pairs(); var a0 = vec4<f32>();
  var c1 = Pairs(); var a1 = vec4<f32>();
  var c2 = Pairs(); var a2 = vec4<f32>();
  var c3 = Pairs(); var a3 = vec4<f32>();
  var c4 = Pairs(); var a4 = vec4<f32>();
  var c5 = Pairs(); var a5 = vec4<f32>();
  var c6 = Pairs(); var a6 = vec4<f32>();
  var c7 = Pairs(); var a7 = vec4<f32>();
  var next_x: array<vec4<u32>, 2u * X_OCTETS>;
  var next_w: array<Raw8, W_OCTETS>;
  var rows_w: array<vec4<u32>, 8>;  // BACKWARD instead
  for (var s = 0u; s < X_OCTETS; s++) {
    let b = s * T + t;
    next_x[2u * s] = read_x(row0 + row_of(b), octet_of(b) * 8u);
    next_x[2u * s + 1u] = read_x(row0 + row_of(b), octet_of(b) * 8u + 4u);
  }
  if (BACKWARD) {
    // Rows of W lie along K: eight of them make octets of four columns. Half of the threads are enough.
    if (t < TX * OCTETS) {
      for (var i = 0u; i < 8u; i++) {
        rows_w[i] = w4(t / TX * 8u + i, col0 + t % TX * 4u);
      }
    }
  } else {
    for (var s = 0u; s < W_OCTETS; s++) {
      let b = s * T + t;
      next_w[s] = read_w(col0 + row_of(b), octet_of(b) * 8u);
    }
  }
  for (var k0 = 0u; k0 < p.k; k0 += 8u * OCTETS) {
    workgroupBarrier();
    for (var s = 0u; s < X_OCTETS; s++) {
      let b = s * T + t;
      xs[octet_of(b)][row_of(b) / TY][row_of(b) % TY] = paired(scaled(next_x[2u * s]), scaled(next_x[2u * s + 1u]));
    }
    if (BACKWARD) {
      if (t < TX * OCTETS) {
        let low = transpose(mat4x4<f32>(open4(rows_w[0]), open4(rows_w[1]), open4(rows_w[2]), open4(rows_w[3])));
        let high = transpose(mat4x4<f32>(open4(rows_w[4]), open4(rows_w[5]), open4(rows_w[6]), open4(rows_w[7])));
        for (var i = 0u; i < 4u; i++) {
          ws[t / TX][i][t % TX] = paired(vec4<f16>(low[i]), vec4<f16>(high[i]));
        }
      }
    } else {
      for (var s = 0u; s < W_OCTETS; s++) {
        let b = s * T + t;
        ws[octet_of(b)][row_of(b) / TX][row_of(b) % TX] = open8(next_w[s]);
      }
    }
    workgroupBarrier();
    // Beyond the end of K X is zero, and whatever is read of W counts for nothing.
    let ahead = k0 + 8u * OCTETS;
    for (var s = 0u; s < X_OCTETS; s++) {
      let b = s * T + t;
      next_x[2u * s] = read_x(row0 + row_of(b), ahead + octet_of(b) * 8u);
      next_x[2u * s + 1u] = read_x(row0 + row_of(b), ahead + octet_of(b) * 8u + 4u);
    }
    if (BACKWARD) {
      if (t < TX * OCTETS) {
        for (var i = 0u; i < 8u; i++) {
          rows_w[i] = w4(ahead + t / TX * 8u + i, col0 + t % TX * 4u);
        }
      }
    } else {
      for (var s = 0u; s < W_OCTETS; s++) {
        let b = s * T + t;
        next_w[s] = read_w(col0 + row_of(b), ahead + octet_of(b) * 8u);
      }
    }
    // Written out: as a loop it takes a tenth longer.
    {
      let w0 = ws[0][0][tx]; let w1 = ws[0][1][tx]; let w2 = ws[0][2][tx]; let w3 = ws[0][3][tx];
      c0 = add(c0, xs[0][0][ty], w0, w1, w2, w3); c1 = add(c1, xs[0][1][ty], w0, w1, w2, w3);
      c2 = add(c2, xs[0][2][ty], w0, w1, w2, w3); c3 = add(c3, xs[0][3][ty], w0, w1, w2, w3);
      c4 = add(c4, xs[0][4][ty], w0, w1, w2, w3); c5 = add(c5, xs[0][5][ty], w0, w1, w2, w3);
      c6 = add(c6, xs[0][6][ty], w0, w1, w2, w3); c7 = add(c7, xs[0][7][ty], w0, w1, w2, w3);
    }
    {
      let w0 = ws[1][0][tx]; let w1 = ws[1][1][tx]; let w2 = ws[1][2][tx]; let w3 = ws[1][3][tx];
      c0 = add(c0, xs[1][0][ty], w0, w1, w2, w3); c1 = add(c1, xs[1][1][ty], w0, w1, w2, w3);
      c2 = add(c2, xs[1][2][ty], w0, w1, w2, w3); c3 = add(c3, xs[1][3][ty], w0, w1, w2, w3);
      c4 = add(c4, xs[1][4][ty], w0, w1, w2, w3); c5 = add(c5, xs[1][5][ty], w0, w1, w2, w3);
      c6 = add(c6, xs[1][6][ty], w0, w1, w2, w3); c7 = add(c7, xs[1][7][ty], w0, w1, w2, w3);
    }
    {
      let w0 = ws[2][0][tx]; let w1 = ws[2][1][tx]; let w2 = ws[2][2][tx]; let w3 = ws[2][3][tx];
      c0 = add(c0, xs[2][0][ty], w0, w1, w2, w3); c1 = add(c1, xs[2][1][ty], w0, w1, w2, w3);
      c2 = add(c2, xs[2][2][ty], w0, w1, w2, w3); c3 = add(c3, xs[2][3][ty], w0, w1, w2, w3);
      c4 = add(c4, xs[2][4][ty], w0, w1, w2, w3); c5 = add(c5, xs[2][5][ty], w0, w1, w2, w3);
      c6 = add(c6, xs[2][6][ty], w0, w1, w2, w3); c7 = add(c7, xs[2][7][ty], w0, w1, w2, w3);
    }
    {
      let w0 = ws[3][0][tx]; let w1 = ws[3][1][tx]; let w2 = ws[3][2][tx]; let w3 = ws[3][3][tx];
      c0 = add(c0, xs[3][0][ty], w0, w1, w2, w3); c1 = add(c1, xs[3][1][ty], w0, w1, w2, w3);
      c2 = add(c2, xs[3][2][ty], w0, w1, w2, w3); c3 = add(c3, xs[3][3][ty], w0, w1, w2, w3);
      c4 = add(c4, xs[3][4][ty], w0, w1, w2, w3); c5 = add(c5, xs[3][5][ty], w0, w1, w2, w3);
      c6 = add(c6, xs[3][6][ty], w0, w1, w2, w3); c7 = add(c7, xs[3][7][ty], w0, w1, w2, w3);
    }
    a0 += whole(c0); c0 = Pairs(); a1 += whole(c1); c1 = Pairs();
    a2 += whole(c2); c2 = Pairs(); a3 += whole(c3); c3 = Pairs();
    a4 += whole(c4); c4 = Pairs(); a5 += whole(c5); c5 = Pairs();
    a6 += whole(c6); c6 = Pairs(); a7 += whole(c7); c7 = Pairs();
  }
  store(row0 + 0u * TY + ty, col0, tx, a0);
  store(row0 + 1u * TY + ty, col0, tx, a1);
  store(row0 + 2u * TY + ty, col0, tx, a2);
  store(row0 + 3u * TY + ty, col0, tx, a3);
  store(row0 + 4u * TY + ty, col0, tx, a4);
  store(row0 + 5u * TY + ty, col0, tx, a5);
  store(row0 + 6u * TY + ty, col0, tx, a6);
  store(row0 + 7u * TY + ty, col0, tx, a7);
}
