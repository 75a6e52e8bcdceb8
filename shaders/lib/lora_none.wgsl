// No LoRA pairs: the product of the bare weight.

const RANK = 0u;

fn make_low(a: u32, lid: u32) {}

fn lora_ahead(first: u32, t: u32) -> vec4<f32> {
  return vec4<f32>();
}

fn ask_low(lid: u32) -> u32 {
  return 0u;
}

fn take_low(lid: u32, asked: u32) {}

fn lora_part(first: u32, t: u32, isAhead: bool, ahead: vec4<f32>) -> f32 {
  return 0.0;
}
