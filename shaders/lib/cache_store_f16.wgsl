// Rows of the f16 cache (cache_f16.wgsl) from the shared array `head`.

const ROW_VECS = CACHE_D / 4u;

fn half_pair(at: u32) -> u32 {
  return pack2x16float(clamp(vec2<f32>(head[at], head[at + 1u]), vec2<f32>(-65504.0), vec2<f32>(65504.0)));
}

fn weigh_rows(rows: u32, lid: u32, threads: u32) {}

fn cache_vec(row: u32, i: u32) -> CacheVec {
  let at = row * MAX_D + 4u * i;
  return vec2<u32>(half_pair(at), half_pair(at + 2u));
}
