#!/usr/bin/env python3
"""Loads what the page has exported with the libraries that it is meant for, and compares.

usage: check_adapters.py DIR OUT [--device cpu|cuda]
DIR is a folder written by make_reference.py, OUT what `npm run export-adapters -- DIR --out OUT` wrote. For every adapter in OUT:

- adapter.zip loads in PEFT: no key is missing or unexpected, every value arrives, and base + adapter gives the logits that the page
  gave (relative L2, f32, at most 1e-4);
- merged.zip loads in transformers: no key is missing or unexpected, and its logits are those of a merge done here, rounded to
  bfloat16 alike (1e-4);
- lora.gguf, where there is one, opens with llama.cpp's gguf package: names by its own table, shapes and metadata as
  convert_lora_to_gguf.py writes them, and alpha / r * B A is the product that PEFT computes.

Prints one JSON line per adapter; exit status 1 where anything differs. Needs torch, transformers >= 5, peft; gguf for the last point.
"""
import argparse
import json
import os
import sys
import tempfile
import warnings
import zipfile
from pathlib import Path

# Everything lies in DIR and OUT; nothing is looked up elsewhere.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
import numpy as np
import torch
from peft import PeftModel, get_peft_model_state_dict
from safetensors.torch import load_file
from transformers import Qwen3VLForConditionalGeneration

try:
    import gguf
except ImportError:
    gguf = None

TOLERANCE = 1e-4
PREFIX = "base_model.model."

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("dir", type=Path)
parser.add_argument("out", type=Path)
parser.add_argument("--device", default="cpu")
args = parser.parse_args()
# Sums in f32, as the page does them.
torch.backends.cuda.matmul.allow_tf32 = False
torch.backends.cudnn.allow_tf32 = False


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    a, b = a.double().flatten(), b.double().flatten()
    return float((a - b).norm() / b.norm()) if a.shape == b.shape else float("inf")


def load(folder: Path) -> Qwen3VLForConditionalGeneration:
    """The model in f32; raises where the file's names or shapes are not the model's."""
    model, info = Qwen3VLForConditionalGeneration.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    wrong = {kind: sorted(map(str, names)) for kind, names in info.items() if names}
    if wrong:
        raise ValueError(f"{folder}: {wrong}")
    return model.to(args.device).eval()


CASES = json.loads((args.dir / "cases.json").read_text())["cases"]
ARRAYS = load_file(args.dir / "cases.safetensors")


def logits(model: torch.nn.Module, case: str) -> torch.Tensor:
    wanted = CASES[case]
    ids = torch.tensor([wanted["input_ids"]])
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if wanted.get("images"):
        image_token = json.loads((args.dir / "checkpoint/config.json").read_text())["image_token_id"]
        inputs["pixel_values"] = ARRAYS[wanted["pixel_values"]]
        inputs["image_grid_thw"] = torch.tensor(wanted["grid_thw"])
        inputs["mm_token_type_ids"] = (ids == image_token).long()
    with torch.no_grad():
        return model(**{name: value.to(args.device) for name, value in inputs.items()}).logits[0].float().cpu()


def of_page(path: Path) -> torch.Tensor:
    return torch.from_numpy(np.fromfile(path, dtype="<f4"))


def unzipped(path: Path, inside: str) -> Path:
    folder = Path(inside) / path.stem
    with zipfile.ZipFile(path) as archive:
        archive.extractall(folder)
    return folder


def check_peft(folder: Path, written: dict[str, torch.Tensor]) -> PeftModel:
    """Base and adapter; raises where a key is missing or unexpected, or a value is another."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*(missing|unexpected).*")
        model = PeftModel.from_pretrained(load(args.dir / "checkpoint"), folder).to(args.device).eval()
    again = model.load_adapter(folder, "again")
    missing = [name for name in again.missing_keys if "lora_" in name]
    if missing or again.unexpected_keys:
        raise ValueError(f"missing {missing}, unexpected {again.unexpected_keys}")
    loaded = get_peft_model_state_dict(model, adapter_name="default")
    if set(loaded) != set(written):
        raise ValueError(f"PEFT has other tensors than the file: {sorted(set(loaded) ^ set(written))}")
    changed = [name for name, value in written.items() if not torch.equal(loaded[name].float().cpu(), value)]
    if changed:
        raise ValueError(f"values changed on their way into PEFT: {changed}")
    return model


def products(model: PeftModel, written: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """s·B·A of every adapted layer in float64, by the layer's name, with the scale that PEFT has worked out."""
    found = {}
    for name in written:
        if name.endswith(".lora_A.weight"):
            module = name.removesuffix(".lora_A.weight")
            a, b = written[name].double(), written[f"{module}.lora_B.weight"].double()
            found[module.removeprefix(PREFIX)] = model.get_submodule(module).scaling["default"] * (b @ a)
    return found


def check_merged(folder: Path, changes: dict[str, torch.Tensor], changed: dict[str, torch.Tensor]) -> dict[str, float]:
    """Logits of the merged checkpoint against a merge done here; `changed` are the logits of base + adapter."""
    found = {case: logits(load(folder), case) for case in changed}
    model = load(args.dir / "checkpoint")
    with torch.no_grad():
        for module, change in changes.items():
            weight = model.get_submodule(module).weight
            weight.copy_((weight.double().cpu() + change).float().bfloat16().float())
    return {
        "merged": max(relative(found[case], logits(model, case)) for case in changed),
        # What rounding to bfloat16 costs: for reading, not a bound.
        "bf16_rounding": max(relative(found[case], wanted) for case, wanted in changed.items()),
    }


def check_gguf(path: Path, changes: dict[str, torch.Tensor], written: dict[str, torch.Tensor]) -> float:
    """The largest relative difference of a pair's product; raises where a name, shape or field is another."""
    reader = gguf.GGUFReader(path)
    field = {name: value.contents() for name, value in reader.fields.items() if not name.startswith("GGUF.")}
    expected = {"general.architecture": "qwen3vl", "general.type": "adapter", "adapter.type": "lora"}
    wrong = {name: field.get(name) for name, value in expected.items() if field.get(name) != value}
    if wrong:
        raise ValueError(f"{path}: metadata {wrong}")
    layers = json.loads((args.dir / "checkpoint/config.json").read_text())["text_config"]["num_hidden_layers"]
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN3VL, layers)
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    worst = 0.0
    for module, change in changes.items():
        # As convert_lora_to_gguf.py names them: the base's name with the factor behind it.
        base = names.get_name(f"{module}.weight".replace("model.language_model.", "model."), try_suffixes=(".weight",))
        pair = [tensors.pop(f"{base}.lora_{factor}") for factor in "ab"]
        for tensor, factor in zip(pair, "AB"):
            shape = tuple(written[f"{PREFIX}{module}.lora_{factor}.weight"].shape)
            if tensor.data.shape != shape or tensor.tensor_type != gguf.GGMLQuantizationType.F32:
                raise ValueError(f"{tensor.name}: {tensor.tensor_type} {tensor.data.shape}, expected F32 {shape}")
        a, b = (torch.from_numpy(np.array(tensor.data)).double() for tensor in pair)
        worst = max(worst, relative(field["adapter.lora.alpha"] / a.shape[0] * (b @ a), change))
    if tensors:
        raise ValueError(f"{path}: unexpected tensors {sorted(tensors)}")
    return worst


def check(folder: Path) -> dict:
    with tempfile.TemporaryDirectory() as inside:
        adapter = unzipped(folder / "adapter.zip", inside)
        written = load_file(adapter / "adapter_model.safetensors")
        model = check_peft(adapter, written)
        cases = sorted(path.stem for path in folder.glob("*.f32"))
        changed = {case: logits(model, case) for case in cases}
        with model.disable_adapter():
            plain = {case: logits(model, case) for case in cases}
        changes = products(model, written)
        report = {
            "adapter": folder.name,
            "tensors": len(written),
            "page_without_adapter": max(relative(of_page(folder.parent / f"{case}.f32"), plain[case]) for case in cases),
            "page": max(relative(of_page(folder / f"{case}.f32"), changed[case]) for case in cases),
            # How much the adapter changes, so that an adapter that does nothing proves nothing.
            "adapter_changes": min(relative(changed[case], plain[case]) for case in cases),
            **check_merged(unzipped(folder / "merged.zip", inside), changes, changed),
        }
        if (folder / "lora.gguf").exists():
            report["gguf"] = check_gguf(folder / "lora.gguf", changes, written) if gguf else "skipped: no package gguf"
    numbers = [report[name] for name in ("page_without_adapter", "page", "merged", "gguf") if name in report]
    report["pass"] = report["adapter_changes"] > 0.01 and all(
        number <= TOLERANCE for number in numbers if not isinstance(number, str)
    )
    return report


folders = sorted(path for path in args.out.iterdir() if path.is_dir())
reports = []
for folder in folders:
    try:
        reports.append(check(folder))
    except (ValueError, KeyError, UserWarning) as error:
        reports.append({"adapter": folder.name, "pass": False, "error": repr(error)})
    print(json.dumps(reports[-1]), flush=True)
sys.exit(0 if reports and all(report["pass"] for report in reports) else 1)
