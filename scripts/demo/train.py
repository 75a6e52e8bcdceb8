"""Trains the demo model on charts drawn as it goes, evaluates it free-running and writes the checkpoint folder.

    python3 scripts/demo/train.py --seconds 520 --template chat_template.jinja --out OUT

Needs torch, tokenizers, pillow, safetensors; transformers for the cross-check. The run that made public/models/demo is in README.md.
"""
import argparse
import json
import math
import multiprocessing as mp
import os
import sys
import tarfile
import time

import numpy as np
import torch
import torch.nn.functional as F

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import charts  # noqa: E402
from charts import ask, draw_specs, talk, to_torch  # noqa: E402
from model import CONFIG, Demo, QLinear, hf_config  # noqa: E402

SPECIAL = (
    "<|endoftext|> <|im_start|> <|im_end|> <|object_ref_start|> <|object_ref_end|> <|box_start|> <|box_end|> <|quad_start|> "
    "<|quad_end|> <|vision_start|> <|vision_end|> <|vision_pad|> <|image_pad|> <|video_pad|>"
).split()
PLAIN = "<tool_call> </tool_call> <|fim_prefix|> <|fim_middle|> <|fim_suffix|> <|fim_pad|> <|repo_name|> <|file_sep|> <tool_response> </tool_response> <think> </think>".split()
VOCAB = 1024
LENGTH = 224
PATTERN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def train_tokenizer(path):
    """A byte-level BPE with Qwen's normaliser, regex and special tokens, on the questions and answers of this world."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    tok = Tokenizer(models.BPE())
    tok.normalizer = normalizers.NFC()
    tok.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(PATTERN), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tok.decoder = decoders.ByteLevel()
    tok.post_processor = processors.ByteLevel(trim_offsets=False)
    rng = np.random.default_rng(0)
    spec = draw_specs(rng, 3000)
    lines = [text for i in range(3000) for q in charts.QUESTIONS for text in ask(rng, spec, i, q)]
    lines += [text for _ in range(3000) for text in talk(rng)] + ["user\n", "assistant\n", "system\n"] * 3000
    lines += [" " + w for w in charts.WORDS] * 200 + charts.WORDS * 200 + charts.TITLES * 50
    trainer = trainers.BpeTrainer(vocab_size=VOCAB - len(SPECIAL) - len(PLAIN), initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    tok.train_from_iterator(lines, trainer)
    tok.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in SPECIAL])
    tok.add_tokens([AddedToken(t, special=False, normalized=False) for t in PLAIN])
    tok.save(path)
    return tok


class Writer:
    """Token ids of prompts and answers; texts are tokenized once each."""

    def __init__(self, tok):
        self.tok, self.cache = tok, {}
        self.id = {t: tok.token_to_id(t) for t in SPECIAL + PLAIN}
        e, i = self.encode, self.id
        self.user = [i["<|im_start|>"]] + e("user\n")
        self.reply = [i["<|im_end|>"]] + e("\n") + [i["<|im_start|>"]] + e("assistant\n")
        self.end = [i["<|im_end|>"]] + e("\n")
        self.picture = [i["<|vision_start|>"]] + [i["<|image_pad|>"]] * 64 + [i["<|vision_end|>"]]
        self.first = len(self.user) + 1
        self.pad = i["<|endoftext|>"]

    def encode(self, text):
        if text not in self.cache:
            self.cache[text] = self.tok.encode(text, add_special_tokens=False).ids
        return self.cache[text]

    def conversation(self, turns, picture, length):
        """ids and labels of as many turns as fit; only answers, their end of turn and its newline are trained."""
        ids, labels = [], []
        for n, (question, answer) in enumerate(turns):
            head = self.user + (self.picture if picture and n == 0 else []) + self.encode(question) + self.reply
            tail = self.encode(answer) + self.end
            if len(ids) + len(head) + len(tail) > length:
                break
            ids += head + tail
            labels += [-100] * len(head) + tail
        rest = length - len(ids)
        return ids + [self.pad] * rest, labels + [-100] * rest

    def prompt(self, question):
        return self.user + self.picture + self.encode(question) + self.reply


def turns_of(rng, spec, i, progress):
    kinds = list(rng.permutation(len(charts.QUESTIONS))) + [0, int(rng.integers(0, 8)), int(rng.integers(0, 8))]
    if progress < 0.06:  # reading first, arithmetic later
        kinds = [k for k in kinds if k not in (5, 6)]
    turns = [ask(rng, spec, i, charts.QUESTIONS[k]) for k in kinds]
    if rng.random() < 0.12:
        turns.insert(int(rng.integers(0, 3)), talk(rng))
    return turns


def worker(seed, batch, tok_path, queue, progress):
    from tokenizers import Tokenizer
    torch.set_num_threads(1)
    writer, rng = Writer(Tokenizer.from_file(tok_path)), np.random.default_rng(seed)
    made = 0
    while True:
        made += 1
        if made % 24 == 0:
            rows = [writer.conversation([talk(rng) for _ in range(3)], False, 128) for _ in range(128)]
            spec = None
        else:
            spec = draw_specs(rng, batch, most=4 if progress.value < 0.06 else charts.MOST)
            rows = [writer.conversation(turns_of(rng, spec, i, progress.value), True, LENGTH) for i in range(batch)]
        ids, labels = (np.asarray(x, np.int16) for x in zip(*rows))
        queue.put((spec, ids, labels))


@torch.no_grad()
def answer(model, writer, pictures, questions, steps=10):
    """Free-running greedy answers, one question a picture."""
    device = pictures.device
    prompts = [writer.prompt(q) for q in questions]
    n = torch.tensor([len(p) for p in prompts], device=device)
    length = int(n.max()) + steps
    ids = torch.full((len(prompts), length), writer.pad, dtype=torch.long)
    for r, p in enumerate(prompts):
        ids[r, : len(p)] = torch.tensor(p)
    ids = ids.to(device)
    cos, sin = model.angles(length, True, device)
    rows = torch.arange(len(prompts), device=device)
    for t in range(steps):
        hidden = model(ids, pictures, cos, sin)[rows, n + t - 1]
        ids[rows, n + t] = model.logits(hidden).argmax(-1)
    out = []
    for r in range(len(prompts)):
        got = ids[r, n[r]: n[r] + steps].tolist()
        got = got[: got.index(writer.id["<|im_end|>"])] if writer.id["<|im_end|>"] in got else got
        out.append(writer.tok.decode(got))
    return out


def relaxed(expected, found):
    """ChartQA's relaxed accuracy: numbers within 5 %, texts equal but for case."""
    found = found.strip()
    try:
        return abs(float(found) - float(expected)) <= 0.05 * abs(float(expected))
    except ValueError:
        return found.lower() == expected.lower()


def evaluate(model, writer, artist, seed, charts_per_kind, amp, kinds=range(4)):
    """Accuracy by kind of chart and of question on fresh charts, and some mistakes."""
    rng = np.random.default_rng(seed)
    right, total, wrong = {}, {}, []
    for kind in kinds:
        spec = draw_specs(rng, charts_per_kind, kinds=[kind])
        pictures = artist.render(to_torch(spec, artist.device))
        for q in charts.QUESTIONS:
            pairs = [ask(rng, spec, i, q) for i in range(charts_per_kind)]
            with torch.autocast(artist.device, torch.bfloat16, enabled=amp):
                found = answer(model, writer, pictures, [p[0] for p in pairs])
            marks = [relaxed(p[1], f) for p, f in zip(pairs, found)]
            key = (charts.KINDS[kind], q)
            right[key], total[key] = sum(marks), len(marks)
            wrong += [(key, p[0], p[1], f) for p, f, m in zip(pairs, found, marks) if not m][:3]
    table = {f"{a}/{b}": round(100 * right[a, b] / total[a, b], 1) for a, b in right}
    return 100 * sum(right.values()) / sum(total.values()), table, wrong


def export(model, writer, folder, template, tok_path):
    from safetensors.torch import save_file
    os.makedirs(folder, exist_ok=True)
    state = {}
    for name, p in model.named_parameters():
        w = p.detach().to(torch.bfloat16).cpu().contiguous()
        if name.endswith("patch_embed.proj.weight"):
            w = w.view(w.shape[0], 3, 2, 16, 16)
        state[name] = w
    save_file(state, f"{folder}/model.safetensors", metadata={"format": "pt"})
    dump = lambda name, value: json.dump(value, open(f"{folder}/{name}", "w"), indent=1)
    dump("config.json", hf_config(writer.id, VOCAB))
    dump("generation_config.json", {"eos_token_id": [writer.id["<|im_end|>"], writer.id["<|endoftext|>"]], "do_sample": False})
    dump("preprocessor_config.json", {
        "image_processor_type": "Qwen2VLImageProcessorFast", "patch_size": 16, "temporal_patch_size": 2, "merge_size": 2,
        "image_mean": [0.5] * 3, "image_std": [0.5] * 3, "size": {"shortest_edge": 65536, "longest_edge": 65536}})
    dump("tokenizer_config.json", {"tokenizer_class": "Qwen2Tokenizer", "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "model_max_length": 4096})
    open(f"{folder}/chat_template.jinja", "w").write(open(template).read())
    if os.path.abspath(tok_path) != os.path.abspath(f"{folder}/tokenizer.json"):
        open(f"{folder}/tokenizer.json", "w").write(open(tok_path).read())


def cross_check(folder, model, writer, artist):
    """The exported folder in transformers gives the same logits as the model here."""
    from transformers import Qwen3VLForConditionalGeneration
    QLinear.quantized = False
    hf = Qwen3VLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").to(artist.device).eval()
    rng = np.random.default_rng(5)
    spec = draw_specs(rng, 4)
    pictures = artist.render(to_torch(spec, artist.device))
    worst = 0.0
    for i in range(4):
        ids = torch.tensor([writer.prompt(ask(rng, spec, i, "value")[0])], device=artist.device)
        cos, sin = model.angles(ids.shape[1], True, artist.device)
        with torch.no_grad():
            ours = model.logits(model(ids, pictures[i:i + 1], cos, sin))[0]
            x = (pictures[i:i + 1].float() - 127.5) / 127.5
            x = x.view(1, 3, 8, 2, 16, 8, 2, 16).permute(0, 2, 5, 3, 6, 1, 4, 7).reshape(256, 3, 1, 256).expand(256, 3, 2, 256).reshape(256, 1536)
            theirs = hf(input_ids=ids, pixel_values=x, image_grid_thw=torch.tensor([[1, 16, 16]], device=artist.device),
                        attention_mask=torch.ones_like(ids), mm_token_type_ids=(ids == writer.id["<|image_pad|>"]).int()).logits[0]
        worst = max(worst, float((ours - theirs).norm() / theirs.norm()))
    return worst


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--seconds", type=float, default=520, help="training time, compilation included")
    p.add_argument("--batch", type=int, default=512)
    p.add_argument("--workers", type=int, default=13)
    p.add_argument("--rate", type=float, default=1.5e-3)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--quantize-from", type=float, default=0.7)
    p.add_argument("--resume", help="a folder written by an earlier run, to go on from")
    p.add_argument("--template", required=True)
    p.add_argument("--out", required=True)
    p.add_argument("--check-charts", type=int, default=64, help="charts of each kind in the final evaluation")
    p.add_argument("--no-compile", action="store_true")
    a = p.parse_args()
    started = time.time()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(a.seed)
    torch.backends.cuda.matmul.allow_tf32 = True
    os.makedirs(a.out, exist_ok=True)
    tok_path = f"{a.out}/tokenizer.json"
    if a.resume:
        from tokenizers import Tokenizer
        open(tok_path, "w").write(open(f"{a.resume}/tokenizer.json").read())
        tok = Tokenizer.from_file(tok_path)
    else:
        tok = train_tokenizer(tok_path)
    writer = Writer(tok)
    artist = charts.Artist(device)
    model = Demo(VOCAB, writer.first).to(device)
    if a.resume:
        from safetensors.torch import load_file
        state = load_file(f"{a.resume}/model.safetensors")
        model.load_state_dict({k: v.float().view(model.state_dict()[k].shape) for k, v in state.items()}, strict=False)
    print(f"{sum(x.numel() for x in model.parameters()):,} parameters, first image token at {writer.first}, tokenizer {tok.get_vocab_size()}", flush=True)

    context = mp.get_context("spawn")
    progress = context.Value("d", 1.0 if a.resume else 0.0)
    queue = context.Queue(4 * a.workers)
    pool = [context.Process(target=worker, args=(a.seed * 1000 + i, a.batch, tok_path, queue, progress), daemon=True) for i in range(a.workers)]
    for w in pool:
        w.start()

    decay = [x for n, x in model.named_parameters() if x.ndim > 1 and "embed" not in n]
    rest = [x for n, x in model.named_parameters() if not (x.ndim > 1 and "embed" not in n)]
    optimizer = torch.optim.AdamW([{"params": decay, "weight_decay": 0.05}, {"params": rest, "weight_decay": 0.0}],
                                  lr=a.rate, betas=(0.9, 0.98), fused=device == "cuda")

    def loss_of(ids, labels, pictures, cos, sin):
        hidden = model(ids, pictures, cos, sin)
        return F.cross_entropy(model.logits(hidden[:, :-1]).float().flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100)

    compiled = loss_of if a.no_compile or device == "cpu" else torch.compile(loss_of)
    chart_angles, text_angles = model.angles(LENGTH, True, device), model.angles(128, False, device)
    log, step, seen, running, waited = [], 0, 0, 0.0, 0.0
    next_check = 100.0
    while True:
        share = (time.time() - started) / a.seconds
        if share >= 1:
            break
        if not a.resume:
            progress.value = share
        QLinear.quantized = share >= a.quantize_from
        rate = a.rate * min(1, (step + 1) / 300) * (1 if share < 0.5 else max(0.01, 0.5 * (1 + math.cos(math.pi * (share - 0.5) / 0.5))))
        for group in optimizer.param_groups:
            group["lr"] = rate
        before = time.time()
        spec, ids, labels = queue.get()
        waited += time.time() - before
        ids, labels = (torch.from_numpy(x).to(device).long() for x in (ids, labels))
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            if spec is None:
                loss = loss_of(ids, labels, None, *text_angles) * 0.3
            else:
                loss = compiled(ids, labels, artist.render(to_torch(spec, device)), *chart_angles)
                seen += len(ids)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        step += 1
        if step % 100 == 0:
            running = float(loss.detach())
            log.append({"step": step, "seconds": round(time.time() - started), "pictures": seen, "loss": round(running, 4), "rate": rate})
            print(f"step {step} {time.time() - started:.0f}s pictures {seen} loss {running:.4f} waited {waited:.1f}s", flush=True)
        if time.time() - started > next_check:
            next_check += 100
            was, QLinear.quantized = QLinear.quantized, True
            accuracy, table, _ = evaluate(model, writer, artist, 77, 24, device == "cuda")
            QLinear.quantized = was
            log[-1]["accuracy"] = round(accuracy, 1) if log else 0
            print(f"  accuracy (4-bit text) {accuracy:.1f} {table}", flush=True)
            export(model, writer, f"{a.out}/model", a.template, tok_path)
    for w in pool:
        w.terminate()
    with torch.no_grad():
        for x in model.parameters():
            x.copy_(x.to(torch.bfloat16).float())
    folder = f"{a.out}/model"
    export(model, writer, folder, a.template, tok_path)
    result = {"steps": step, "pictures": seen, "seconds": round(time.time() - started), "log": log}
    for name, quantized in (("bf16", False), ("4-bit text", True)):
        QLinear.quantized = quantized
        accuracy, table, wrong = evaluate(model, writer, artist, 4242, a.check_charts, False)
        result[name] = {"accuracy": round(accuracy, 2), "table": table}
        print(f"{name}: {accuracy:.2f} {json.dumps(table)}\n{wrong[:24]}", flush=True)
    QLinear.quantized = True
    unseen, table, _ = evaluate(model, writer, artist, 4243, a.check_charts, False, kinds=[4])
    result["unseen dot"] = {"accuracy": round(unseen, 2), "table": table}
    print("unseen kind (dot):", round(unseen, 1), table, flush=True)
    try:
        result["transformers"] = cross_check(folder, model, writer, artist)
        print("against transformers, relative error of logits:", result["transformers"], flush=True)
    except Exception as error:  # the weights are what counts: report and go on
        print("cross-check failed:", repr(error), flush=True)
    json.dump(result, open(f"{a.out}/result.json", "w"), indent=1)
    with tarfile.open(f"{a.out}/small.tar.gz", "w:gz") as tar:
        for name in sorted(os.listdir(folder)):
            if name != "model.safetensors":
                tar.add(f"{folder}/{name}", name)
    os.replace(f"{folder}/model.safetensors", f"{a.out}/model.safetensors")


if __name__ == "__main__":
    main()
