// The values that 4-bit codes of bitsandbytes stand for. In front of codebook_constant.wgsl or codebook_shared.wgsl.

const NF4_VALUES = array<f32, 16>(
  -1.0, -0.6961928, -0.52507305, -0.3949175, -0.28444138, -0.18477343, -0.091050036, 0.0,
  0.0795803, 0.1609302, 0.2461123, 0.33791524, 0.44070983, 0.562617, 0.72295684, 1.0);
const FP4_VALUES = array<f32, 16>(
  0.0, 0.0052083335, 0.6666667, 1.0, 0.33333334, 0.5, 0.16666667, 0.25,
  0.0, -0.0052083335, -0.6666667, -1.0, -0.33333334, -0.5, -0.16666667, -0.25);

fn constant_value(code: u32) -> f32 {
  return select(FP4_VALUES[code], NF4_VALUES[code], CODE == NF4);
}
