// Weights in groups of GROUP along K, of any kind that src/formats/weight_slot.ts lists: w = value(code) * scale + offset.
// Offers what weight_*, raw_* and unit_* offer for the other schemes. CODE, META, BITS and META_WORDS are constants, so that of each
// function one branch is left.
// codes [N][rowWords]: 4 bits: byte j of a word holds element j in its low half and element j+4 in its high half; 8 bits: byte j element j.
// scales [N][groups][META_WORDS].

@group(0) @binding(1) var<storage, read> codes: array<vec2<u32>>;
@group(0) @binding(2) var<storage, read> scales: array<u32>;

const PER_WORD = 32u / BITS;

const UNSIGNED = 0u;
const SIGNED = 1u;
const NF4 = 2u;
const FP4 = 3u;
const E4M3 = 4u;

// 1 sign bit, 4 exponent bits with bias 7, 3 of fraction. In whole numbers, since a device may flush what is subnormal on the way.
fn e4m3(c: vec4<u32>) -> vec4<f32> {
  let exponent = (c >> vec4<u32>(3u)) & vec4<u32>(15u);
  let fraction = (c & vec4<u32>(7u)) + select(vec4<u32>(), vec4<u32>(8u), exponent > vec4<u32>());
  let power = bitcast<vec4<f32>>((max(exponent, vec4<u32>(1u)) + vec4<u32>(117u)) << vec4<u32>(23u));
  return vec4<f32>(fraction) * power * select(vec4<f32>(1.0), vec4<f32>(-1.0), (c & vec4<u32>(128u)) != vec4<u32>());
}

// What four codes stand for.
fn values(c: vec4<u32>) -> vec4<f32> {
  if (CODE == NF4 || CODE == FP4) {
    return vec4<f32>(codebook(c.x), codebook(c.y), codebook(c.z), codebook(c.w));
  }
  if (CODE == SIGNED) {
    return vec4<f32>(bitcast<vec4<i32>>(c << vec4<u32>(24u)) >> vec4<u32>(24u));
  }
  if (CODE == E4M3) {
    return e4m3(c);
  }
  return vec4<f32>(c);
}

// One code from each byte of a word: the byte, or its low half.
fn codes4(word: u32) -> vec4<u32> {
  return (vec4<u32>(word) >> vec4<u32>(0u, 8u, 16u, 24u)) & vec4<u32>(select(0xffu, 0xfu, BITS == 4u));
}

const BF16_PAIR = 0u;
const ZERO = 1u;
const F32_PAIR = 2u;

// Scale and offset.
fn open_meta(m: vec2<u32>) -> vec2<f32> {
  if (META == BF16_PAIR) {
    return bitcast<vec2<f32>>(vec2<u32>(m.x << 16u, m.x & 0xffff0000u));
  }
  if (META == ZERO) {
    let scale = bitcast<f32>(m.x & 0xffffe000u);
    return vec2<f32>(scale, -f32(m.x & 31u) * scale);
  }
  if (META == F32_PAIR) {
    return bitcast<vec2<f32>>(m);
  }
  return vec2<f32>(bitcast<f32>(m.x), 0.0);
}

// Metadata of the group of an element, which is counted over whole stored rows.
fn load_meta(element: u32) -> vec2<u32> {
  let at = (element / GROUP) * META_WORDS;
  if (META_WORDS == 2u) {
    return vec2<u32>(scales[at], scales[at + 1u]);
  }
  return vec2<u32>(scales[at], 0u);
}

// Elements k..k+3 (k a multiple of 4) of a row, as stored.
fn raw4(row: u32, k: u32, rowWords: u32) -> vec4<u32> {
  let at = row * rowWords + k / PER_WORD;
  let word = codes[at / 2u][at % 2u];
  return vec4<u32>(select(word, word >> (k & 4u), BITS == 4u), load_meta(row * rowWords * PER_WORD + k), 0u);
}

fn open4(raw: vec4<u32>) -> vec4<f32> {
  let so = open_meta(raw.yz);
  return values(codes4(raw.x)) * so.x + so.y;
}

fn weight4(row: u32, k: u32, rowWords: u32) -> vec4<f32> {
  return open4(raw4(row, k, rowWords));
}

// 16 weights of a row; the second half of `codes` is for 8 bits.
struct Unit {
  codes: vec4<u32>,
  scale: vec2<u32>,
}

fn load_unit(row: u32, u: u32, rowWords: u32) -> Unit {
  let at = row * (rowWords / 2u) + u * (BITS / 4u);
  var high = vec2<u32>();
  if (BITS == 8u) {
    high = codes[at + 1u];
  }
  return Unit(vec4<u32>(codes[at], high), load_meta(row * rowWords * PER_WORD + u * 16u));
}

// Dot product of a unit with 16 elements of x that add up to xSum.
fn unit_dot(w: Unit, x0: vec4<f32>, x1: vec4<f32>, x2: vec4<f32>, x3: vec4<f32>, xSum: f32) -> f32 {
  let so = open_meta(w.scale);
  let words = select(w.codes, vec4<u32>(w.codes.x, w.codes.x >> 4u, w.codes.y, w.codes.y >> 4u), BITS == 4u);
  var sum = dot(values(codes4(words.x)), x0) + dot(values(codes4(words.y)), x1);
  sum += dot(values(codes4(words.z)), x2) + dot(values(codes4(words.w)), x3);
  return sum * so.x + so.y * xSum;
}
