"""What transformers + PEFT take for the same work as `npm run bench`, on the same card: decode, prefill, the vision tower and a LoRA step.

    python3 scripts/measure_transformers.py DIR [--json FILE]

DIR holds a config.json (scripts/write_random_checkpoint.mjs writes one); weights are random, bf16, attention "sdpa". A LoRA step is r = 16 on all
language linears, batch 1, one picture of 448 x 448 and text, gradient checkpointing (not reentrant), the loss of the last 64 tokens, torch's fused AdamW.
Needs torch with CUDA, transformers and peft. Times are medians after warm-up, in milliseconds; memory is torch's peak of allocated bytes.
"""

import argparse
import json
import statistics
import time

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, Qwen3VLForConditionalGeneration

parser = argparse.ArgumentParser()
parser.add_argument("dir")
parser.add_argument("--json")
arguments = parser.parse_args()

config = AutoConfig.from_pretrained(arguments.dir)
config._attn_implementation = "sdpa"
torch.manual_seed(0)
torch.set_default_dtype(torch.bfloat16)
with torch.device("cuda"):
    model = Qwen3VLForConditionalGeneration(config).eval()
SIDE = 448
vision = config.vision_config
side = SIDE // vision.patch_size
grid = torch.tensor([[1, side, side]], device="cuda")
patch = vision.in_channels * vision.temporal_patch_size * vision.patch_size**2
pixels = torch.rand(side * side, patch, device="cuda")
picture_tokens = side * side // vision.spatial_merge_size**2
results = {"card": torch.cuda.get_device_name(), "torch": torch.__version__}


def timed(work, repeats):
    for _ in range(2):
        work()
    times = []
    for _ in range(repeats):
        torch.cuda.synchronize()
        started = time.perf_counter()
        work()
        torch.cuda.synchronize()
        times.append(1000 * (time.perf_counter() - started))
    return statistics.median(times)


def prompt(tokens):
    """A picture between its marks, then text."""
    ids = [config.vision_start_token_id] + [config.image_token_id] * picture_tokens + [config.vision_end_token_id]
    ids += [(i * 7919) % 500 for i in range(len(ids), tokens)]
    return torch.tensor([ids], device="cuda")


with torch.no_grad():
    results["vision tower, 448"] = timed(lambda: model.model.visual(pixels, grid_thw=grid), 10)
    text = torch.randint(0, 500, (1, 512), device="cuda")
    results["prefill, 512 tokens"] = timed(lambda: model(input_ids=text, logits_to_keep=1), 10)

    def decode():
        model.generate(input_ids=text[:, :128], max_new_tokens=64, min_new_tokens=64, do_sample=False)

    results["decode, a token, context 128"] = timed(decode, 3) / 64

targets = r"^model\.language_model\..*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)$"
tuned = get_peft_model(model, LoraConfig(r=16, lora_alpha=16, target_modules=targets))
tuned.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
tuned.enable_input_require_grads()
tuned.train()
optimizer = torch.optim.AdamW([p for p in tuned.parameters() if p.requires_grad], lr=1e-6, fused=True)
for tokens in (326, 1026):
    ids = prompt(tokens)
    labels = ids.clone()
    labels[:, :-64] = -100
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "pixel_values": pixels, "image_grid_thw": grid}
    inputs["mm_token_type_ids"] = (ids == config.image_token_id).long()

    def step():
        tuned(**inputs, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    torch.cuda.reset_peak_memory_stats()
    results[f"lora step, {tokens} tokens"] = timed(step, 5)
    results[f"lora step, {tokens} tokens, GB"] = torch.cuda.max_memory_allocated() / 1e9

print(json.dumps(results, indent=1))
if arguments.json:
    with open(arguments.json, "w") as file:
        json.dump(results, file, indent=1)
