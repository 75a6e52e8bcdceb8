// Tiles of a product in f16, for devices with shader-f16. The teams' sums are f32 and lie beside them.

alias Part = f16;
const HALF = true;
var<workgroup> tile: array<vec4<f16>, SPLIT * TEAM>;
var<workgroup> sums: array<vec4<f32>, select(1u, 16u * T, SPLIT > 1u)>;

fn part4(v: vec4<f32>) -> vec4<f16> {
  return vec4<f16>(clamp(v * SCALE, vec4<f32>(-65504.0), vec4<f32>(65504.0)));
}

fn keep(at: u32, sum: vec4<f32>) {
  sums[at] = sum;
}

fn kept(at: u32) -> vec4<f32> {
  return sums[at];
}
