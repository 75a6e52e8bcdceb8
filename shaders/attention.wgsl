// o = softmax(scale · q kᵀ) v for each query over the keys lo ≤ j < hi of its range; flash style, scores never leave the workgroup.
// q [tokens][heads][d] f32; k, v [kvHeads][capacity][d] in the cache's type; ranges [tokens] (lo, hi); o [tokens][heads][d] f32.
// Training also keeps the log-sum-exp of each row (lib/lse.wgsl).
// Query head h reads kv head h / (heads/kvHeads). Causal attention is the range (0, position + 1), a picture's patches are (start, end).
// One workgroup of 64 threads for 32 queries of a head; 32 keys a step; running maximum and sum in f32.  Grid: (ceil(tokens/32), heads).

struct Params {
  tokens: u32,
  heads: u32,
  group: u32,     // query heads of a kv head
  d: u32,         // a multiple of 4, at most 128
  capacity: u32,
  scale: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> q: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> kCache: array<CacheVec>;
@group(0) @binding(3) var<storage, read> vCache: array<CacheVec>;
@group(0) @binding(4) var<storage, read> ranges: array<vec2<u32>>;
@group(0) @binding(5) var<storage, read_write> o: array<vec4<f32>>;

const BQ = 32u;
const BK = 32u;
const NEVER = -1e30;

var<workgroup> qs: array<vec4<f32>, 256>;   // 32 queries × 32 channels
var<workgroup> kv: array<vec4<f32>, 256>;   // 32 keys × 32 channels, then 8 values × 128 channels
var<workgroup> ps: array<f32, 1024>;        // scores, then probabilities [query][key]
var<workgroup> span: array<vec2<u32>, 32>;
var<workgroup> rowMax: array<f32, 32>;
var<workgroup> rowSum: array<f32, 32>;
var<workgroup> rowScale: array<f32, 32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
  let q0 = wg.x * BQ;
  let h = wg.y;
  let kvHead = h / p.group;
  let vecs = p.d / 4u;
  let ty = lid / 8u;
  let tx = lid % 8u;
  if (lid < BQ) {
    let row = q0 + lid;
    span[lid] = select(vec2<u32>(0xffffffffu, 0u), ranges[min(row, p.tokens - 1u)], row < p.tokens);
    rowMax[lid] = NEVER;
    rowSum[lid] = 0.0;
  }
  workgroupBarrier();
  var lo = 0xffffffffu;
  var hi = 0u;
  for (var i = 0u; i < BQ; i++) {
    let s = workgroupUniformLoad(&span[i]);
    lo = min(lo, s.x);
    hi = max(hi, s.y);
  }
  var acc: array<vec4<f32>, ACC>;  // 4 queries × CV columns of 4 channels
  for (var k0 = lo; k0 < hi; k0 += BK) {
    // Scores: 4 queries × 4 keys a thread, over chunks of 32 channels.
    var s0 = vec4<f32>(); var s1 = vec4<f32>(); var s2 = vec4<f32>(); var s3 = vec4<f32>();
    for (var c0 = 0u; c0 < vecs; c0 += 8u) {
      workgroupBarrier();
      for (var i = lid; i < 256u; i += 64u) {
        let row = i / 8u;
        let c = c0 + i % 8u;
        var qv = vec4<f32>();
        var kvv = vec4<f32>();
        if (c < vecs) {
          if (q0 + row < p.tokens) {
            qv = q[((q0 + row) * p.heads + h) * vecs + c];
          }
          if (k0 + row < hi) {
            kvv = open_cache(kCache[(kvHead * p.capacity + k0 + row) * vecs + c]);
          }
        }
        qs[i] = qv;
        kv[i] = kvv;
      }
      workgroupBarrier();
      for (var c = 0u; c < 8u; c++) {
        let ka = kv[(tx * 4u) * 8u + c];
        let kb = kv[(tx * 4u + 1u) * 8u + c];
        let kc = kv[(tx * 4u + 2u) * 8u + c];
        let kd = kv[(tx * 4u + 3u) * 8u + c];
        let qa = qs[(ty * 4u) * 8u + c];
        let qb = qs[(ty * 4u + 1u) * 8u + c];
        let qc = qs[(ty * 4u + 2u) * 8u + c];
        let qd = qs[(ty * 4u + 3u) * 8u + c];
        s0 += vec4<f32>(dot(qa, ka), dot(qa, kb), dot(qa, kc), dot(qa, kd));
        s1 += vec4<f32>(dot(qb, ka), dot(qb, kb), dot(qb, kc), dot(qb, kd));
        s2 += vec4<f32>(dot(qc, ka), dot(qc, kb), dot(qc, kc), dot(qc, kd));
        s3 += vec4<f32>(dot(qd, ka), dot(qd, kb), dot(qd, kc), dot(qd, kd));
      }
    }
    for (var j = 0u; j < 4u; j++) {
      let key = tx * 4u + j;
      ps[(ty * 4u) * BK + key] = s0[j] * p.scale;
      ps[(ty * 4u + 1u) * BK + key] = s1[j] * p.scale;
      ps[(ty * 4u + 2u) * BK + key] = s2[j] * p.scale;
      ps[(ty * 4u + 3u) * BK + key] = s3[j] * p.scale;
    }
    workgroupBarrier();
    if (lid < BQ) {
      let s = span[lid];
      var top = rowMax[lid];
      for (var j = 0u; j < BK; j++) {
        if (k0 + j >= s.x && k0 + j < s.y) {
          top = max(top, ps[lid * BK + j]);
        }
      }
      var sum = 0.0;
      for (var j = 0u; j < BK; j++) {
        var e = 0.0;
        if (k0 + j >= s.x && k0 + j < s.y) {
          e = exp(ps[lid * BK + j] - top);
        }
        ps[lid * BK + j] = e;
        sum += e;
      }
      let keep = exp(rowMax[lid] - top);
      rowScale[lid] = keep;
      rowSum[lid] = rowSum[lid] * keep + sum;
      rowMax[lid] = top;
    }
    workgroupBarrier();
    let keep = vec4<f32>(rowScale[ty * 4u], rowScale[ty * 4u + 1u], rowScale[ty * 4u + 2u], rowScale[ty * 4u + 3u]);
    for (var c = 0u; c < CV; c++) {
      acc[c] *= keep.x;
      acc[CV + c] *= keep.y;
      acc[2u * CV + c] *= keep.z;
      acc[3u * CV + c] *= keep.w;
    }
    for (var j0 = 0u; j0 < BK; j0 += 8u) {
      workgroupBarrier();
      for (var i = lid; i < 8u * vecs; i += 64u) {
        let key = k0 + j0 + i / vecs;
        var v = vec4<f32>();
        if (key < hi) {
          v = open_cache(vCache[(kvHead * p.capacity + key) * vecs + i % vecs]);
        }
        kv[i] = v;
      }
      workgroupBarrier();
      for (var j = 0u; j < 8u; j++) {
        let pa = ps[(ty * 4u) * BK + j0 + j];
        let pb = ps[(ty * 4u + 1u) * BK + j0 + j];
        let pc = ps[(ty * 4u + 2u) * BK + j0 + j];
        let pd = ps[(ty * 4u + 3u) * BK + j0 + j];
        for (var c = 0u; c < CV; c++) {
          let v = kv[min(j * vecs + tx + c * 8u, 255u)];
          acc[c] += pa * v;
          acc[CV + c] += pb * v;
          acc[2u * CV + c] += pc * v;
          acc[3u * CV + c] += pd * v;
        }
      }
    }
  }
  for (var r = 0u; r < 4u; r++) {
    let row = q0 + ty * 4u + r;
    if (row < p.tokens) {
      let inverse = 1.0 / max(rowSum[ty * 4u + r], 1e-30);
      if (tx == 0u) {
        store_lse(row * p.heads + h, rowMax[ty * 4u + r] + log(max(rowSum[ty * 4u + r], 1e-30)));
      }
      for (var c = 0u; c < CV; c++) {
        let column = tx + c * 8u;
        if (column < vecs) {
          o[(row * p.heads + h) * vecs + column] = acc[r * CV + c] * inverse;
        }
      }
    }
  }
}
