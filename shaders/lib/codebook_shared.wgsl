// Reads the values of 4-bit codes from 64 bytes of shared memory, where each has a bank of its own.

var<workgroup> book: array<f32, 16>;

// Before any value is opened, by a whole workgroup.
fn prepare(lid: u32) {
  if (lid < 16u) {
    book[lid] = constant_value(lid);
  }
  workgroupBarrier();
}

fn codebook(code: u32) -> f32 {
  return book[code];
}
