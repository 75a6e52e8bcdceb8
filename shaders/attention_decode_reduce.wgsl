// Joins the slices of attention_decode: o = Σ e^(mᵢ−m) oᵢ / Σ e^(mᵢ−m) sᵢ.
// partial [slices][heads][d + 4] f32 with (maximum, sum) behind each o; o [heads][d] f32.
// One workgroup of 256 threads for half of a head: 16 columns of 4 channels × 16 shares of the slices, which it loads at once.
// Grid: (heads, ceil(d/64)).

struct Params {
  heads: u32,
  d: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> partialIn: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> positions: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read_write> o: array<vec4<f32>>;

const NEVER = -1e30;
const COLUMNS = 16u;
const SHARES = 16u;
const EACH = SLICES / SHARES;

var<workgroup> parts: array<vec4<f32>, 256>;
var<workgroup> stats: array<vec2<f32>, 256>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
  let vecs = p.d / 4u;
  let stride = p.heads * (vecs + 1u);
  let row = wg.x * (vecs + 1u);
  let keys = positions[0].w + 1u;
  let span = (keys + KEYS * SLICES - 1u) / (KEYS * SLICES) * KEYS;
  let slices = (keys + span - 1u) / span;
  let column = wg.y * COLUMNS + lid % COLUMNS;
  var part: array<vec4<f32>, EACH>;
  var stat: array<vec2<f32>, EACH>;
  var top = NEVER;
  for (var i = 0u; i < EACH; i++) {
    let s = lid / COLUMNS + i * SHARES;
    let at = min(s, slices - 1u) * stride + row;
    part[i] = partialIn[at + min(column, vecs - 1u)];
    stat[i] = select(vec2<f32>(NEVER, 0.0), partialIn[at + vecs].xy, s < slices);
  }
  for (var i = 0u; i < EACH; i++) {
    top = max(top, stat[i].x);
  }
  var sum = 0.0;
  var acc = vec4<f32>();
  for (var i = 0u; i < EACH; i++) {
    let gain = select(0.0, exp(stat[i].x - top), stat[i].x > NEVER);
    acc += part[i] * gain;
    sum += stat[i].y * gain;
  }
  parts[lid] = acc;
  stats[lid] = vec2<f32>(top, sum);
  workgroupBarrier();
  if (lid >= COLUMNS || column >= vecs) {
    return;
  }
  var all = NEVER;
  for (var i = lid; i < 256u; i += COLUMNS) {
    all = max(all, stats[i].x);
  }
  sum = 0.0;
  acc = vec4<f32>();
  for (var i = lid; i < 256u; i += COLUMNS) {
    let gain = exp(stats[i].x - all);
    sum += stats[i].y * gain;
    acc += parts[i] * gain;
  }
  o[wg.x * vecs + column] = acc / sum;
}
