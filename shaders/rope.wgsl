// Splits the rows of a fused QKV projection into heads, norms (NORM) and rotates q and k, and puts k and v into their caches.
//   q, k: h = NORM ? w ⊙ x · (mean(x²) + eps)^-½ : x;  y_j = h_j cos θ_j − h_{j+d/2} sin θ_j;  y_{j+d/2} = h_{j+d/2} cos θ_j + h_j sin θ_j
//   θ_j comes from the table's row at the token's position on the axis of j: interleaved M-RoPE (VISION false) or row/column (VISION true).
// qkv [tokens][(heads + 2·kvHeads)·d] f32; positions [tokens][4] u32: t, h, w (or row, column, –) and the cache slot;
// table [positions][d/2] (cos, sin) from the CPU in float64; q [tokens][heads·d] f32; k, v [kvHeads][capacity][d] in the cache's type.
// One workgroup for each (head of q, k or v; token). Grid: (heads + 2·kvHeads, tokens).

struct Params {
  tokens: u32,
  heads: u32,
  kvHeads: u32,
  d: u32,
  capacity: u32,  // slots of a cache row
  sectionH: u32,  // 3 × the h and w sections of M-RoPE; for vision: d/4 in sectionH
  sectionW: u32,
  eps: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> qkv: array<f32>;
@group(0) @binding(2) var<storage, read> norms: array<f32>;  // q's weights, then k's
@group(0) @binding(3) var<storage, read> table: array<vec2<f32>>;
@group(0) @binding(4) var<storage, read> positions: array<vec4<u32>>;
@group(0) @binding(5) var<storage, read_write> q: array<f32>;
@group(0) @binding(6) var<storage, read_write> kCache: array<CacheWord>;
@group(0) @binding(7) var<storage, read_write> vCache: array<CacheWord>;

const MAX_D = 256u;

var<workgroup> head: array<f32, MAX_D>;

fn axis_position(j: u32, pos: vec4<u32>) -> u32 {
  if (VISION) {
    return select(pos.y, pos.x, j < p.sectionH);
  }
  let r = j % 3u;
  if (r == 1u && j < p.sectionH) {
    return pos.y;
  }
  if (r == 2u && j < p.sectionW) {
    return pos.z;
  }
  return pos.x;
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
  let slotHead = wg.x;
  let token = wg.y;
  let width = (p.heads + 2u * p.kvHeads) * p.d;
  let base = token * width + slotHead * p.d;
  let isQ = slotHead < p.heads;
  let isV = slotHead >= p.heads + p.kvHeads;
  let pos = positions[token];
  var sum = 0.0;
  for (var i = lid; i < p.d; i += WG) {
    let v = qkv[base + i];
    head[i] = v;
    sum += v * v;
  }
  if (NORM) {
    let r = 1.0 / sqrt(group_sum(sum, lid) / f32(p.d) + p.eps);
    if (!isV) {
      let w0 = select(p.d, 0u, isQ);
      for (var i = lid; i < p.d; i += WG) {
        head[i] = norms[w0 + i] * (head[i] * r);
      }
    }
  }
  workgroupBarrier();
  let halfD = p.d / 2u;
  for (var j = lid; j < halfD; j += WG) {
    if (!isV) {
      let cs = table[axis_position(j, pos) * halfD + j];
      let a = head[j];
      let b = head[j + halfD];
      head[j] = a * cs.x - b * cs.y;
      head[j + halfD] = b * cs.x + a * cs.y;
    }
  }
  workgroupBarrier();
  if (isQ) {
    for (var i = lid; i < p.d; i += WG) {
      q[token * p.heads * p.d + slotHead * p.d + i] = head[i];
    }
    return;
  }
  let kvHead = slotHead - p.heads - select(0u, p.kvHeads, isV);
  let words = cache_words();
  let at = (kvHead * p.capacity + pos.w) * words;
  for (var i = lid; i < words; i += WG) {
    let word = cache_word(i);
    if (isV) {
      vCache[at + i] = word;
    } else {
      kCache[at + i] = word;
    }
  }
}
