// Sum and maximum over a workgroup of WG threads with subgroup operations, for any subgroup size of 4 or more.
// Each subgroup writes its partial at the index of its first thread, so no subgroup id is needed; holes hold the identity.
// Both must be called in uniform control flow; every thread gets the result.

var<workgroup> reduce_scratch: array<f32, WG / 4u>;

fn group_sum(value: f32, lid: u32) -> f32 {
  let partial = subgroupAdd(value);
  workgroupBarrier();
  if (lid < WG / 4u) {
    reduce_scratch[lid] = 0.0;
  }
  workgroupBarrier();
  if (subgroupElect()) {
    reduce_scratch[lid / 4u] = partial;
  }
  workgroupBarrier();
  var sum = 0.0;
  for (var i = 0u; i < WG / 4u; i++) {
    sum += reduce_scratch[i];
  }
  return sum;
}

fn group_max(value: f32, lid: u32) -> f32 {
  let partial = subgroupMax(value);
  workgroupBarrier();
  if (lid < WG / 4u) {
    reduce_scratch[lid] = partial;
  }
  workgroupBarrier();
  if (subgroupElect()) {
    reduce_scratch[lid / 4u] = partial;
  }
  workgroupBarrier();
  var top = reduce_scratch[0];
  for (var i = 1u; i < WG / 4u; i++) {
    top = max(top, reduce_scratch[i]);
  }
  return top;
}
