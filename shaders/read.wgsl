// A yardstick, not a kernel of the model: reads memory once from end to end, for the bandwidth ceiling of the self-test.
// One workgroup of 256 threads reads 8 blocks of 256 vec4, each thread one of every block.

struct Params {
  groups: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> data: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read_write> out: array<vec4<u32>>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
  let at = wg.x * 2048u + lid;
  let a = data[at] ^ data[at + 256u] ^ data[at + 512u] ^ data[at + 768u];
  let b = data[at + 1024u] ^ data[at + 1280u] ^ data[at + 1536u] ^ data[at + 1792u];
  let all = a ^ b;
  // Never true of the zeros and copies that are read here, but no compiler knows.
  if (all.x == 0x9e3779b9u && wg.x < p.groups) {
    out[lid] = all;
  }
}
