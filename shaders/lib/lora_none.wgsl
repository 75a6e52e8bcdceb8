// No LoRA pairs: the product of the bare weight.
fn lora_part(row: u32, i: u32, part: u32) -> f32 {
  return 0.0;
}
