// A yardstick, not a kernel of the model: independent multiply-adds of fragments on the device's matrix units, for the arithmetic ceiling.
// One workgroup of 4 subgroups; each round is 8 products of 16 × 16 × 16 a subgroup, f16 operands and f32 sums.

alias Left = subgroup_matrix_left<f16, 16, 16>;
alias Right = subgroup_matrix_right<f16, 16, 16>;
alias Result = subgroup_matrix_result<f32, 16, 16>;

struct Params {
  rounds: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> out: array<vec4<f32>>;

var<workgroup> operands: array<vec4<f16>, 128>;
var<workgroup> results: array<f32, 1024>;

// One element of all four subgroups' fragments for each thread, so that every one of them is needed.
fn element(fragment: Result, own: u32, lid: u32) -> f32 {
  subgroupMatrixStore<row_major>(&results, own, fragment, 16u);
  workgroupBarrier();
  let value = results[lid];
  workgroupBarrier();
  return value;
}

@compute @workgroup_size(4u * SUBGROUP)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) lid: u32, @builtin(subgroup_id) subgroup: u32) {
  for (var i = lid; i < 128u; i += 4u * SUBGROUP) {
    operands[i] = vec4<f16>(f16(i % 7u) * 1e-2h);
  }
  workgroupBarrier();
  let x = subgroupMatrixLoad<Left, row_major>(&operands, 0u, 4u);
  let y = subgroupMatrixLoad<Left, row_major>(&operands, 64u, 4u);
  let w = subgroupMatrixLoad<Right, row_major>(&operands, 64u, 4u);
  let v = subgroupMatrixLoad<Right, row_major>(&operands, 0u, 4u);
  var a = Result(); var b = Result(); var c = Result(); var d = Result();
  var e = Result(); var f = Result(); var g = Result(); var h = Result();
  for (var i = 0u; i < p.rounds; i++) {
    a = subgroupMatrixMultiplyAccumulate(x, w, a); b = subgroupMatrixMultiplyAccumulate(y, w, b);
    c = subgroupMatrixMultiplyAccumulate(x, v, c); d = subgroupMatrixMultiplyAccumulate(y, v, d);
    e = subgroupMatrixMultiplyAccumulate(x, w, e); f = subgroupMatrixMultiplyAccumulate(y, w, f);
    g = subgroupMatrixMultiplyAccumulate(x, v, g); h = subgroupMatrixMultiplyAccumulate(y, v, h);
  }
  let own = subgroup * 256u;
  var sum = element(a, own, lid) + element(b, own, lid) + element(c, own, lid) + element(d, own, lid);
  sum += element(e, own, lid) + element(f, own, lid) + element(g, own, lid) + element(h, own, lid);
  out[(wg.x % 64u) * 4u * SUBGROUP + lid] = vec4<f32>(sum);
}
