// The gradient of rope.wgsl by the fused projection: gathers the heads' gradients, turns q's and k's back by −θ and takes them through the norm.
//   g_j cos θ + g_{j+d/2} sin θ, g_{j+d/2} cos θ − g_j sin θ;  NORM: dx = r · h − x · r³ · mean(h ⊙ x), h = g ⊙ w, r = (mean(x²) + eps)^-½
// qkv, dqkv [tokens][(heads + 2·kvHeads)·d] f32; positions [tokens][4] u32 and table [positions][d/2] (cos, sin) as in rope.wgsl;
// dq [tokens][heads·d] f32; dk, dv [heads][capacity][d] f32, of which the query heads that read one kv head are added up.
// One workgroup for each (head of q, k or v; token).  Grid: (heads + 2·kvHeads, tokens).

struct Params {
  tokens: u32,
  heads: u32,
  kvHeads: u32,
  d: u32,
  capacity: u32,
  sectionH: u32,  // as in lib/rotary.wgsl
  sectionW: u32,
  eps: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> qkv: array<f32>;
@group(0) @binding(2) var<storage, read> norms: array<f32>;
@group(0) @binding(3) var<storage, read> table: array<vec2<f32>>;
@group(0) @binding(4) var<storage, read> positions: array<vec4<u32>>;
@group(0) @binding(5) var<storage, read> dq: array<f32>;
@group(0) @binding(6) var<storage, read> dk: array<f32>;
@group(0) @binding(7) var<storage, read> dv: array<f32>;
@group(0) @binding(8) var<storage, read_write> dqkv: array<f32>;

const MAX_D = 256u;

var<workgroup> head: array<f32, MAX_D>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
  let slotHead = wg.x;
  let token = wg.y;
  let base = (token * (p.heads + 2u * p.kvHeads) + slotHead) * p.d;
  let isQ = slotHead < p.heads;
  let isV = slotHead >= p.heads + p.kvHeads;
  let pos = positions[token];
  let kvHead = slotHead - select(p.heads, 0u, isQ) - select(0u, p.kvHeads, isV);
  let group = p.heads / p.kvHeads;
  for (var i = lid; i < p.d; i += WG) {
    var v = 0.0;
    if (isQ) {
      v = dq[(token * p.heads + slotHead) * p.d + i];
    } else {
      for (var g = 0u; g < group; g++) {
        let at = ((kvHead * group + g) * p.capacity + pos.w) * p.d + i;
        v += select(dk[at], dv[at], isV);
      }
    }
    head[i] = v;
  }
  workgroupBarrier();
  let halfD = p.d / 2u;
  for (var j = lid; j < halfD; j += WG) {
    if (!isV) {
      let h = turn(vec2<f32>(head[j], head[j + halfD]), angle(j, pos) * vec2<f32>(1.0, -1.0));
      head[j] = h.x;
      head[j + halfD] = h.y;
    }
  }
  workgroupBarrier();
  var r = 1.0;
  var pull = 0.0;
  let w0 = select(p.d, 0u, isQ);
  if (NORM) {
    var squares = 0.0;
    var products = 0.0;
    for (var i = lid; i < p.d; i += WG) {
      let x = qkv[base + i];
      squares += x * x;
      products += head[i] * norms[w0 + i] * x;
    }
    r = norm_factor(group_sum(squares, lid));
    pull = group_sum(products, lid) / f32(p.d) * r * r;
  }
  for (var i = lid; i < p.d; i += WG) {
    var v = head[i];
    if (NORM && !isV) {
      v = r * (v * norms[w0 + i] - qkv[base + i] * pull);
    }
    dqkv[base + i] = v;
  }
}
