// The LoRA pairs of a matrix, for products with one row of x: scale · (A x) Bᵀ is added to the rows that a pair owns.
// The first RANK workgroups of the dispatch make u = A x, an element each, while the others read the weight; those pick u up at their end.
// An element is handed over in one atomic word that is zero until it is there: no order between words is assumed. Nor is it assumed that both
// kinds run at one time: who has asked PATIENCE times makes the element itself, in the same order of sums.
// Two halves of `handover` take turns from product to product: who uses one leaves the other zeroed.

@group(0) @binding(7) var<storage, read_write> handover: array<atomic<u32>>;
@group(0) @binding(8) var<storage, read> adapter: array<vec4<f32>>;  // A of all pairs [RANK][k], then each B [rows][r] from `b` on

var<workgroup> low: array<f32, RANK>;

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
    sum += dot(a0, low_x(k));
    sum += dot(a1, low_x(k + 4u * W));
    sum += dot(a2, low_x(k + 8u * W));
    sum += dot(a3, low_x(k + 12u * W));
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

// Element a of u by one thread, in the same order of sums. Little text: it is fetched with what stands around it, but hardly ever needed.
fn low_alone(a: u32) -> f32 {
  var all = 0.0;
  for (var part = 0u; part < PARTS; part++) {
    var sum = 0.0;
    for (var j = part; j < W; j += PARTS) {
      var own = 0.0;
      for (var i = j; i < p.k / 4u; i += W) {
        own += dot(adapter[a * (p.k / 4u) + i], low_x(4u * i));
      }
      sum += own;
    }
    all += sum;
  }
  return all;
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

// The word of the first element of u that a thread takes: its load is under way while sums are put down.
fn ask_low(lid: u32) -> u32 {
  return atomicLoad(&handover[p.half + min(lid, RANK - 1u)]);
}

fn take_low(lid: u32, asked: u32) {
  for (var a = lid; a < RANK; a += W) {
    var word = select(0u, asked, a == lid);
    for (var i = 0u; i < PATIENCE && word == 0u; i++) {
      word = atomicLoad(&handover[p.half + a]);
    }
    if (word == 0u || PATIENCE == 0u) {
      word = bitcast<u32>(low_alone(a));
    }
    low[a] = bitcast<f32>(word);
  }
}

// What thread t needs first of B: its load is under way while the weight is read.
fn lora_ahead(first: u32, t: u32) -> vec4<f32> {
  let row = p.column + weight_row(first, min(t / PARTS, ROWS - 1u));
  return b4(pair_of(row), row, t % PARTS * 4u);
}

// Part t % PARTS of u Bᵀ for row t / PARTS of the workgroup.
fn lora_part(first: u32, t: u32, isAhead: bool, ahead: vec4<f32>) -> f32 {
  if (t >= ROWS * PARTS) {
    return 0.0;
  }
  let row = p.column + weight_row(first, t / PARTS);
  let n = pair_of(row);
  var sum = 0.0;
  if (row - p.pairs[n].row0 < p.pairs[n].rows) {  // wraps below the first pair
    for (var j = t % PARTS * 4u; j < p.pairs[n].r; j += PARTS * 4u) {
      var b = ahead;
      if (!isAhead || j >= PARTS * 4u) {
        b = b4(n, row, j);
      }
      let a = p.pairs[n].aRow + j;
      let u = vec4<f32>(low[a], low[a + 1u], low[a + 2u], low[a + 3u]);
      sum += dot(b, select(vec4<f32>(), u, vec4<u32>(j, j + 1u, j + 2u, j + 3u) < vec4<u32>(p.pairs[n].r)));
    }
  }
  return sum * p.pairs[n].scale;
}
