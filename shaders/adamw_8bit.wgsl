// The step of adamw.wgsl with m and v in 8 bits: blocks of 256 elements, each with the largest |m| and the largest v in f32.
//   m = sign(c) (c/127)² · max|m|, c a signed byte;  v = (c/255)⁴ · max v, c an unsigned byte, at least 1 where v > 0
// The powers put the codes where the values are: v spans 2.4e-10 … 1 of its largest, so that sqrt(v) never falls to 0 beside a large m.
// Codes are rounded up or down by random bits of (seed, element), which keeps slow decays from standing still.
// value, gradient [count] f32; mCodes, vCodes [ceil(count/256)·64] u32, four codes each, first in the low byte; tops [blocks] (max|m|, max v).
// One workgroup of 64 threads a block; a thread has the four elements of a word.  Grid: blocks, folded over y.

struct Params {
  count: u32,
  rate: f32,
  decay: f32,         // lr · λ
  beta1: f32,
  beta2: f32,
  eps: f32,
  correction1: f32,   // 1 − β1^t
  correction2: f32,   // sqrt(1 − β2^t)
  rest1: f32,         // 1 − β1, 1 − β2
  rest2: f32,
  seed: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> clip: array<f32>;
@group(0) @binding(2) var<storage, read_write> value: array<f32>;
@group(0) @binding(3) var<storage, read_write> gradient: array<f32>;
@group(0) @binding(4) var<storage, read_write> mCodes: array<u32>;
@group(0) @binding(5) var<storage, read_write> vCodes: array<u32>;
@group(0) @binding(6) var<storage, read_write> tops: array<vec2<f32>>;

fn open_m(code: u32) -> f32 {
  let c = f32(i32(code << 24u) >> 24u) / 127.0;
  return c * abs(c);
}

fn open_v(code: u32) -> f32 {
  let c = f32(code & 0xffu) / 255.0;
  return (c * c) * (c * c);
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>,
        @builtin(local_invocation_index) lid: u32) {
  let block = wg.y * grid.x + wg.x;
  let word = block * 64u + lid;
  let blocks = (p.count + 255u) / 256u;
  let scale = clip[1];
  var first = vec4<f32>();
  var second = vec4<f32>();
  let inside = block < blocks;
  let top = tops[min(block, blocks - 1u)];
  if (inside) {
    let mWord = mCodes[word];
    let vWord = vCodes[word];
    for (var e = 0u; e < 4u; e++) {
      let i = word * 4u + e;
      if (i < p.count) {
        let g = gradient[i] * scale;
        gradient[i] = 0.0;
        if (scale > 0.0) {
          first[e] = p.beta1 * open_m(mWord >> (8u * e)) * top.x + p.rest1 * g;
          second[e] = p.beta2 * open_v(vWord >> (8u * e)) * top.y + p.rest2 * g * g;
          let kept = value[i] - p.decay * value[i];
          value[i] = kept - p.rate * (first[e] / p.correction1) / (sqrt(second[e]) / p.correction2 + p.eps);
        }
      }
    }
  }
  let size = abs(first);
  let topM = group_max(max(max(size.x, size.y), max(size.z, size.w)), lid);
  let topV = group_max(max(max(second.x, second.y), max(second.z, second.w)), lid);
  if (!inside || scale == 0.0) {
    return;
  }
  var mWord = 0u;
  var vWord = 0u;
  for (var e = 0u; e < 4u; e++) {
    let bits = random_bits(p.seed, 0x8b17u, word * 4u + e);
    let upM = f32(bits & 0xffffu) / 65536.0;
    let upV = f32(bits >> 16u) / 65536.0;
    if (topM > 0.0) {
      let c = floor(min(127.0, sqrt(size[e] / topM) * 127.0 + upM));
      mWord |= (u32(i32(select(c, -c, first[e] < 0.0))) & 0xffu) << (8u * e);
    }
    if (second[e] > 0.0) {
      let c = floor(min(255.0, sqrt(sqrt(second[e] / topV)) * 255.0 + upV));
      vWord |= u32(max(1.0, c)) << (8u * e);
    }
  }
  mCodes[word] = mWord;
  vCodes[word] = vWord;
  if (lid == 0u) {
    tops[block] = vec2<f32>(topM, topV);
  }
}
