// The columns that the ROWS rows of a workgroup meet, together.

var<workgroup> span: array<vec2<u32>, ROWS>;  // (lo, hi) of each row
var<workgroup> bounds: array<vec2<u32>, ROWS / 2u>;

fn wider(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
  return vec2<u32>(min(a.x, b.x), max(a.y, b.y));
}

// Keeps the span of row `lid` of the tile, with (0xffffffff, 0) where there is none, and returns the smallest lo and the largest hi.
fn span_of(lid: u32, own: vec2<u32>) -> vec2<u32> {
  if (lid < ROWS) {
    span[lid] = own;
  }
  workgroupBarrier();
  if (lid < ROWS / 2u) {
    bounds[lid] = wider(span[lid], span[lid + ROWS / 2u]);
  }
  for (var n = ROWS / 4u; n > 0u; n /= 2u) {
    workgroupBarrier();
    if (lid < n) {
      bounds[lid] = wider(bounds[lid], bounds[lid + n]);
    }
  }
  return workgroupUniformLoad(&bounds[0]);
}
