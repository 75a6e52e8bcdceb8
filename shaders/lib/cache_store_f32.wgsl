// Rows of the f32 cache (cache_f32.wgsl) from the shared array `head`.

const ROW_VECS = CACHE_D / 4u;

fn weigh_rows(rows: u32, lid: u32, threads: u32) {}

fn cache_vec(row: u32, i: u32) -> CacheVec {
  let at = row * MAX_D + 4u * i;
  return vec4<f32>(head[at], head[at + 1u], head[at + 2u], head[at + 3u]);
}
