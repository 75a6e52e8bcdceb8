// Sum and maximum over a workgroup of WG threads (WG a power of two), through shared memory: works on every device.
// Both must be called in uniform control flow; every thread gets the result.

var<workgroup> reduce_scratch: array<f32, WG>;

fn group_sum(value: f32, lid: u32) -> f32 {
  workgroupBarrier();
  reduce_scratch[lid] = value;
  workgroupBarrier();
  for (var stride = WG / 2u; stride > 0u; stride >>= 1u) {
    if (lid < stride) {
      reduce_scratch[lid] += reduce_scratch[lid + stride];
    }
    workgroupBarrier();
  }
  return reduce_scratch[0];
}

fn group_max(value: f32, lid: u32) -> f32 {
  workgroupBarrier();
  reduce_scratch[lid] = value;
  workgroupBarrier();
  for (var stride = WG / 2u; stride > 0u; stride >>= 1u) {
    if (lid < stride) {
      reduce_scratch[lid] = max(reduce_scratch[lid], reduce_scratch[lid + stride]);
    }
    workgroupBarrier();
  }
  return reduce_scratch[0];
}
