// The LoRA pairs of a matrix, for products with one row of x: scale · (A x) Bᵀ is added to the rows that a pair owns.
// The first RANK workgroups of the dispatch make u = A x, an element each, while the others read the weight; those pick u up at their end.
// An element is handed over in one atomic word that is zero until it is there: no order between words is assumed. Nor is it assumed that both
// kinds run at one time: who has asked PATIENCE times makes the element itself, in the same order of sums.
// Two halves of `handover` take turns from product to product: who uses one leaves the other zeroed.

@group(0) @binding(7) var<storage, read_write> handover: array<atomic<u32>>;
@group(0) @binding(8) var<storage, read> adapter: array<vec4<f32>>;  // A of all pairs [RANK][k], then each B [rows][r] from `b` on

// Threads that share a row of B, four elements of it each time.
const SHARES = 4u;

var<workgroup> low: array<f32, RANK>;
var<workgroup> extra: array<f32, ROWS * SHARES>;

fn low_x(k: u32) -> vec4<f32> {
  var v = x[min(k, p.k - 4u) / 4u];
  if (NORM) {
    v *= gain[min(k, p.k - 4u) / 4u];
  }
  return select(vec4<f32>(), v, k < p.k);
}

// What thread j adds to element a of u. Four loads of A are under way at one time: the other workgroups wait for them.
fn low_share(a: u32, j: u32) -> f32 {
  var sum = 0.0;
  let row = a * (p.k / 4u);
  let last = p.k / 4u - 1u;
  for (var i = j; i <= last; i += 4u * W) {
    let a0 = adapter[row + i];
    let a1 = adapter[row + min(i + W, last)];
    let a2 = adapter[row + min(i + 2u * W, last)];
    let a3 = adapter[row + min(i + 3u * W, last)];
    let k = 4u * i;
    sum += dot(a0, low_x(k)) + dot(a1, low_x(k + 4u * W)) + dot(a2, low_x(k + 8u * W)) + dot(a3, low_x(k + 12u * W));
  }
  return sum;
}

// Element a of u by the whole workgroup.
fn make_low(a: u32, lid: u32) {
  partial[lid] = low_share(a, lid);
  workgroupBarrier();
  if (lid < PARTS) {
    var sum = 0.0;
    for (var j = lid; j < W; j += PARTS) {
      sum += partial[j];
    }
    tail[lid] = sum;
  }
  workgroupBarrier();
  if (lid == 0u) {
    let word = bitcast<u32>(total(0u));
    atomicStore(&handover[p.half + a], select(word, 0x80000000u, word == 0u));
  }
  if (a == 0u) {
    for (var i = lid; i < p.most; i += W) {
      atomicStore(&handover[p.most - p.half + i], 0u);
    }
  }
}

// The word of the first element of u that a thread takes: its load is under way while the workgroup adds up.
fn ask_low(lid: u32) -> u32 {
  return atomicLoad(&handover[p.half + min(lid, RANK - 1u)]);
}

fn low_element(a: u32, asked: u32) -> f32 {
  var word = asked;
  for (var i = 0u; i < PATIENCE && word == 0u; i++) {
    word = atomicLoad(&handover[p.half + a]);
  }
  if (word != 0u && PATIENCE > 0u) {
    return bitcast<f32>(word);
  }
  var all = 0.0;
  for (var part = 0u; part < PARTS; part++) {
    var sum = 0.0;
    for (var j = part; j < W; j += PARTS) {
      sum += low_share(a, j);
    }
    all += sum;
  }
  return all;
}

fn take_low(lid: u32, asked: u32) {
  for (var a = lid; a < RANK; a += W) {
    low[a] = low_element(a, select(0u, asked, a == lid));
  }
}

// The last pair that begins at a row of the whole matrix or before it: the only one that can own the row. Without branches, so that loads which
// stand behind need not wait.
fn pair_of(row: u32) -> u32 {
  var n = 0u;
  for (var i = 1u; i < PAIRS; i++) {
    n = select(n, i, row >= p.pairs[i].row0);
  }
  return n;
}

// Elements j..j+3 of a row of B, and whatever follows its end. ALIGNED: all ranks are multiples of 4. Nothing is done to what is loaded, so that nobody
// waits for it yet.
fn b4(n: u32, row: u32, j: u32) -> vec4<f32> {
  let at = p.pairs[n].b + (row - p.pairs[n].row0) * p.pairs[n].r + j;
  if (ALIGNED) {
    return adapter[at / 4u];
  }
  return vec4<f32>(element(at), element(at + 1u), element(at + 2u), element(at + 3u));
}

fn element(at: u32) -> f32 {
  return adapter[at / 4u][at % 4u];
}

// The first elements of B that a thread needs: their load is under way while the weight is read.
fn lora_ahead(first: u32, lid: u32) -> vec4<f32> {
  let row = p.column + weight_row(first, min(lid / SHARES, ROWS - 1u));
  return b4(pair_of(row), row, lid % SHARES * 4u);
}

// u Bᵀ of the workgroup's rows, in parts.
fn lora_parts(first: u32, lid: u32, ahead: vec4<f32>) {
  for (var t = lid; t < ROWS * SHARES; t += W) {
    let row = p.column + weight_row(first, t / SHARES);
    let n = pair_of(row);
    var sum = 0.0;
    let own = row - p.pairs[n].row0;  // wraps below the first pair
    if (own < p.pairs[n].rows) {
      for (var j = t % SHARES * 4u; j < p.pairs[n].r; j += SHARES * 4u) {
        var b = ahead;
        if (t != lid || j >= SHARES * 4u) {
          b = b4(n, row, j);
        }
        let at = p.pairs[n].aRow + j;
        let u = vec4<f32>(low[at], low[at + 1u], low[at + 2u], low[at + 3u]);
        sum += dot(b, select(vec4<f32>(), u, vec4<u32>(j, j + 1u, j + 2u, j + 3u) < vec4<u32>(p.pairs[n].r)));
      }
      sum *= p.pairs[n].scale;
    }
    extra[t] = sum;
  }
  workgroupBarrier();
}

fn added(value: u32) -> f32 {
  var sum = 0.0;
  for (var i = 0u; i < SHARES; i++) {
    sum += extra[value * SHARES + i];
  }
  return sum;
}
