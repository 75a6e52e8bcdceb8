// Splits the rows of a fused QKV projection into heads, norms (NORM) and rotates q and k (lib/rotary.wgsl), and puts k and v into their caches.
// qkv [tokens][(heads + 2·kvHeads)·d] f32; positions [tokens][4] u32: t, h, w (or row, column, –) and the cache slot;
// table [positions][d/2] (cos, sin) from the CPU in float64; q [tokens][heads·d] f32; k, v [kvHeads][capacity][d] in the cache's type.
// One workgroup for each (head of q, k or v; token). Grid: (heads + 2·kvHeads, tokens).

struct Params {
  tokens: u32,
  heads: u32,
  kvHeads: u32,
  d: u32,
  capacity: u32,  // slots of a cache row
  sectionH: u32,  // as in lib/rotary.wgsl
  sectionW: u32,
  eps: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> qkv: array<f32>;
@group(0) @binding(2) var<storage, read> norms: array<f32>;  // q's weights, then k's
@group(0) @binding(3) var<storage, read> table: array<vec2<f32>>;
@group(0) @binding(4) var<storage, read> positions: array<vec4<u32>>;
@group(0) @binding(5) var<storage, read_write> q: array<f32>;
@group(0) @binding(6) var<storage, read_write> kCache: array<CacheVec>;
@group(0) @binding(7) var<storage, read_write> vCache: array<CacheVec>;

const MAX_D = 256u;

var<workgroup> head: array<f32, MAX_D>;

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
    let r = norm_factor(group_sum(sum, lid));
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
      let h = turn(vec2<f32>(head[j], head[j + halfD]), angle(j, pos));
      head[j] = h.x;
      head[j + halfD] = h.y;
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
  let at = (kvHead * p.capacity + pos.w) * ROW_VECS;
  weigh_rows(1u, lid, WG);
  for (var i = lid; i < ROW_VECS; i += WG) {
    let vec = cache_vec(0u, i);
    if (isV) {
      vCache[at + i] = vec;
    } else {
      kCache[at + i] = vec;
    }
  }
}
