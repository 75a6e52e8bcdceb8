#!/usr/bin/env python3
"""ONNX exports of a small Qwen3-VL made by the tools that publishers use, to be opened by this app.

Writes OUT/ (config, tokenizer, graphs with their weights quantized to MatMulNBits) and OUT/expected.safetensors: what ONNX Runtime makes
of each quantized weight, under Hugging Face's names. Which tensor is whose is found there by its values, not by its name.

usage: make_onnx.py CHECKPOINT OUT [--builder DIR] [--bits 4|8] [--block 32] [--asymmetric] [--half] [--plain]
  without --builder  all three graphs by torch.onnx.export (the TorchScript exporter) from transformers' modules, named as for transformers.js
  --builder DIR      the text model by onnxruntime-genai's builder (DIR holds its builder.py: src/python/py/models), named as it names files
  --half             weights in f16 before they are quantized      --plain  not quantized at all
then:  npm run parity -- REFERENCE --converted OUT
needs: torch, transformers >= 5, onnx, onnxruntime, safetensors (with --builder: onnx_ir, tqdm)
"""
import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
import transformers
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer
from safetensors.torch import load_file, save_file

arguments = argparse.ArgumentParser()
arguments.add_argument("checkpoint", type=Path)
arguments.add_argument("out", type=Path)
arguments.add_argument("--builder", type=Path)
arguments.add_argument("--bits", type=int, default=4)
arguments.add_argument("--block", type=int, default=32)
arguments.add_argument("--asymmetric", action="store_true")
arguments.add_argument("--half", action="store_true")
arguments.add_argument("--plain", action="store_true")
args = arguments.parse_args()


class Text(torch.nn.Module):
    def __init__(self, whole: torch.nn.Module) -> None:
        super().__init__()
        self.model, self.lm_head = whole.model, whole.lm_head

    def forward(self, embedded: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        out = self.model.language_model(inputs_embeds=embedded, position_ids=positions, use_cache=False)
        return self.lm_head(out.last_hidden_state)


class Vision(torch.nn.Module):
    def __init__(self, whole: torch.nn.Module) -> None:
        super().__init__()
        self.visual = whole.model.visual

    def forward(self, pixels: torch.Tensor, grid: torch.Tensor) -> tuple[torch.Tensor, ...]:
        out = self.visual(pixels, grid_thw=grid)
        return (out.pooler_output, *out.deepstack_features)


class Embedding(torch.nn.Module):
    def __init__(self, whole: torch.nn.Module) -> None:
        super().__init__()
        self.language_model = torch.nn.Module()
        self.language_model.embed_tokens = whole.model.language_model.embed_tokens

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.language_model.embed_tokens(ids)


def export(module: torch.nn.Module, inputs: tuple, path: Path) -> None:
    with torch.no_grad():
        torch.onnx.export(module.eval(), inputs, str(path), dynamo=False, opset_version=20)


def quantize(path: Path) -> None:
    """In place; the weights go into a file beside the graph."""
    model = onnx.load(path)
    if args.half:
        for tensor in model.graph.initializer:
            if tensor.data_type == TensorProto.FLOAT:
                tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name))
    if not args.plain:
        kinds = ("MatMul", "Gather") if args.bits == 4 else ("MatMul",)
        quantizer = MatMulNBitsQuantizer(
            model, bits=args.bits, block_size=args.block, is_symmetric=not args.asymmetric, op_types_to_quantize=kinds
        )
        quantizer.process()
        model = quantizer.model.model
    place = path.name + "_data"
    onnx.save(model, path, save_as_external_data=True, all_tensors_to_one_file=True, location=place, size_threshold=256)


def run(node: onnx.NodeProto, tensors: dict[str, np.ndarray], first: np.ndarray, at: int) -> np.ndarray:
    """What one node gives for `first` at input `at`, all computed in f32."""
    protos = []
    for name in filter(None, node.input):
        if name in tensors:
            array = numpy_helper.to_array(tensors[name])
            protos.append(numpy_helper.from_array(array.astype(np.float32), name) if array.dtype == np.float16 else tensors[name])
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    for attribute in list(copy.attribute):
        # How exactly to compute is a wish of the exporter; here it is f32.
        if attribute.name == "accuracy_level":
            copy.attribute.remove(attribute)
    copy.output[:] = ["y"]
    info = helper.make_tensor_value_info(node.input[at], helper.np_dtype_to_tensor_dtype(first.dtype), list(first.shape))
    graph = helper.make_graph([copy], "one", [info], [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)], protos)
    imports = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {node.input[at]: first})[0]


def weights(path: Path) -> list[np.ndarray]:
    """Every quantized weight of a file as [out, in] numbers, and every tensor of floats as it is and turned round."""
    model = onnx.load(path)
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    found = []
    for node in model.graph.node:
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        if node.op_type == "MatMulNBits":
            found.append(run(node, tensors, np.eye(attributes["K"], dtype=np.float32), 0).T)
        elif node.op_type == "GatherBlockQuantized":
            rows = tensors[node.input[0]].dims[0]
            found.append(run(node, tensors, np.arange(rows, dtype=np.int64), 1))
    for tensor in tensors.values():
        if tensor.data_type in (TensorProto.FLOAT, TensorProto.FLOAT16):
            array = numpy_helper.to_array(tensor).astype(np.float32)
            found += [array, array.T] if array.ndim == 2 else [array]
    return found


def expected(paths: list[Path]) -> dict[str, torch.Tensor]:
    names = dict(load_file(args.checkpoint / "model.safetensors"))
    found = [array for path in paths for array in weights(path)]
    # A head of its own, where the tools have made the embedding's copy one.
    embedding = names["model.language_model.embed_tokens.weight"]
    result = {}
    for name, tensor in names.items():
        wanted = tensor.float().numpy()
        errors = [(np.linalg.norm(array - wanted) / np.linalg.norm(wanted), i) for i, array in enumerate(found) if array.shape == wanted.shape]
        error, best = min(errors)
        assert error < 0.25, (name, error)
        result[name] = torch.from_numpy(np.array(found[best]))
    text = weights(paths[0])
    heads = [array for array in text if array.shape == tuple(embedding.shape)]
    if heads and "lm_head.weight" not in result:
        result["lm_head.weight"] = torch.from_numpy(np.array(heads[0]))
        own = [array for path in paths[1:] for array in weights(path) if array.shape == tuple(embedding.shape)]
        result["model.language_model.embed_tokens.weight"] = torch.from_numpy(np.array(own[0]))
    return {name: tensor.contiguous() for name, tensor in result.items()}


def main() -> None:
    config = json.loads((args.checkpoint / "config.json").read_text())
    args.out.mkdir(parents=True, exist_ok=True)
    for path in args.checkpoint.iterdir():
        if path.suffix in (".json", ".jinja"):
            shutil.copyfile(path, args.out / path.name)
    whole = transformers.Qwen3VLForConditionalGeneration.from_pretrained(
        args.checkpoint, dtype=torch.float32, attn_implementation="eager"
    )
    folder = args.out if args.builder else args.out / "onnx"
    folder.mkdir(exist_ok=True)
    ending = "" if args.builder else ("_fp16" if args.half else "") if args.plain else "_q4f16" if args.half else "_q4"
    names = ["text", "embedding", "vision"] if args.builder else ["decoder_model_merged", "embed_tokens", "vision_encoder"]
    text, embedding, vision = paths = [folder / f"{name}{ending}.onnx" for name in names]
    if args.builder:
        precision = ["-p", "fp16" if args.plain else "int4", "-e", "webgpu" if args.half else "cpu"]
        extra = ["filename=text.onnx", f"int4_block_size={args.block}", f"int4_is_symmetric={str(not args.asymmetric).lower()}"]
        script = [sys.executable, args.builder / "builder.py", "-i", args.checkpoint, "-o", folder, "-c", args.out / "cache"]
        subprocess.run([*script, *precision, "--extra_options", *extra], check=True, stdout=subprocess.DEVNULL)
        shutil.rmtree(args.out / "cache", ignore_errors=True)
    else:
        embedded = torch.randn(1, 12, config["text_config"]["hidden_size"])
        export(Text(whole), (embedded, torch.arange(12)[None, None].expand(3, 1, 12).contiguous()), text)
        quantize(text)
    patch = config["vision_config"]["patch_size"] ** 2 * 3 * config["vision_config"]["temporal_patch_size"]
    export(Vision(whole), (torch.randn(48, patch), torch.tensor([[1, 6, 8]])), vision)
    export(Embedding(whole), (torch.arange(12)[None],), embedding)
    for path in (vision, embedding):
        quantize(path)
    save_file(expected(paths), args.out / "expected.safetensors")
    for tool in (torch, transformers, onnx, onnxruntime):
        print(tool.__name__, tool.__version__)
    for path in sorted(args.out.rglob("*")):
        if path.is_file():
            print(path.relative_to(args.out), path.stat().st_size)


if __name__ == "__main__":
    main()
