// Rows of the 8-bit cache (cache_i8.wgsl) from the shared array `head`, where zeros follow a row up to a multiple of 16.

const ROW_VECS = ROW_CODES + 1u;
const MOST_GROUPS = 8u;

var<workgroup> mosts: array<f32, 2u * MOST_GROUPS>;

// The largest magnitude of 16 channels; beyond f16's range it is cut off there, and the values with it. Rounded to f16's 11 bits in whole
// numbers: some compilers take packing and unpacking for nothing, and codes must be of the magnitude as it is kept.
fn group_most(first: u32) -> f32 {
  var most = 0.0;
  for (var i = 0u; i < 16u; i++) {
    most = max(most, abs(head[first + i]));
  }
  let bits = bitcast<u32>(min(most, 65504.0));
  return bitcast<f32>((bits + 0xfffu + ((bits >> 13u) & 1u)) & 0xffffe000u);
}

// Finds the magnitudes of one or two rows, MAX_D apart. By all threads of a workgroup.
fn weigh_rows(rows: u32, lid: u32, threads: u32) {
  for (var i = lid; i < rows * MOST_GROUPS; i += threads) {
    let group = i % MOST_GROUPS;
    mosts[i] = select(0.0, group_most(i / MOST_GROUPS * MAX_D + 16u * min(group, ROW_CODES - 1u)), group < ROW_CODES);
  }
  workgroupBarrier();
}

fn magnitudes(at: u32) -> u32 {
  return pack2x16float(vec2<f32>(mosts[at], mosts[at + 1u]));
}

fn codes(at: u32, inverse: f32) -> u32 {
  return pack4x8snorm(vec4<f32>(head[at], head[at + 1u], head[at + 2u], head[at + 3u]) * inverse);
}

// Vector i of a row that was weighed.
fn cache_vec(row: u32, i: u32) -> CacheVec {
  let first = row * MOST_GROUPS;
  if (i == ROW_CODES) {
    return vec4<u32>(magnitudes(first), magnitudes(first + 2u), magnitudes(first + 4u), magnitudes(first + 6u));
  }
  // Below f16's range the group is zero, whatever its codes are.
  let inverse = 1.0 / max(mosts[first + i], 1e-30);
  let at = row * MAX_D + 16u * i;
  return vec4<u32>(codes(at, inverse), codes(at + 4u, inverse), codes(at + 8u, inverse), codes(at + 12u, inverse));
}
