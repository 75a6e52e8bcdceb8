"""Trains the demo model on charts drawn as it goes, evaluates it free-running and writes the checkpoint folder.

    python3 scripts/demo/train.py --seconds 480 --template chat_template.jinja --out OUT

Needs torch, tokenizers, pillow, safetensors; transformers for the cross-check. The run that made public/models/demo is in README.md.
"""
import argparse
import json
import multiprocessing as mp
import os
import queue as queues
import sys
import threading
import time
import traceback

import numpy as np
import torch
import torch.nn.functional as F

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import charts  # noqa: E402
from charts import ask, draw_specs, loosely, talk, to_torch  # noqa: E402
from model import Demo, Quantizer, hf_config  # noqa: E402
from muon import Muon  # noqa: E402

SPECIAL = (
    "<|endoftext|> <|im_start|> <|im_end|> <|object_ref_start|> <|object_ref_end|> <|box_start|> <|box_end|> <|quad_start|> "
    "<|quad_end|> <|vision_start|> <|vision_end|> <|vision_pad|> <|image_pad|> <|video_pad|>"
).split()
PLAIN = "<tool_call> </tool_call> <|fim_prefix|> <|fim_middle|> <|fim_suffix|> <|fim_pad|> <|repo_name|> <|file_sep|> <tool_response> </tool_response> <think> </think>".split()
VOCAB = 1024
LENGTH = 224
EARLY = 0.15  # share of the time with few labels and one font
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
    lines = [text for i in range(3000) for q in charts.QUESTIONS + charts.MORE for text in ask(rng, spec, i, q)]
    lines += [text.lower() for text in lines[: len(lines) // 10]]
    lines += [text for _ in range(3000) for text in talk(rng)] + ["user\n", "assistant\n", "system\n", *charts.SYSTEM, charts.NO_CHART] * 3000
    lines += [" " + w for w in charts.WORDS] * 200 + charts.WORDS * 200 + charts.TITLES * 50
    trainer = trainers.BpeTrainer(vocab_size=VOCAB - len(SPECIAL) - len(PLAIN), initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    tok.train_from_iterator(lines, trainer)
    tok.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in SPECIAL])
    tok.add_tokens([AddedToken(t, special=False, normalized=False) for t in PLAIN])
    tok.save(path)
    return tok


class Writer:
    """Token ids of prompts and answers, laid out as the chat template does; texts are tokenized once each."""

    def __init__(self, tok):
        self.tok, self.cache = tok, {}
        self.id = {t: tok.token_to_id(t) for t in SPECIAL + PLAIN}
        e, i = self.encode, self.id
        self.system = [[i["<|im_start|>"]] + e("system\n" + text) + [i["<|im_end|>"]] + e("\n") for text in charts.SYSTEM]
        self.user = [i["<|im_start|>"]] + e("user\n")
        self.reply = [i["<|im_end|>"]] + e("\n") + [i["<|im_start|>"]] + e("assistant\n")
        self.end, self.newline = i["<|im_end|>"], e("\n")
        self.picture = [i["<|vision_start|>"]] + [i["<|image_pad|>"]] * 64 + [i["<|vision_end|>"]]
        self.pad = i["<|endoftext|>"]

    def encode(self, text):
        if text not in self.cache:
            self.cache[text] = self.tok.encode(text, add_special_tokens=False).ids
        return self.cache[text]

    def turn(self, question, picture):
        """A user turn up to where the answer begins. picture: None, or whether it comes "before" or "after" the question."""
        before, after = (self.picture if picture == place else [] for place in ("before", "after"))
        return self.user + before + self.encode(question) + after + self.reply

    def conversation(self, turns, picture, system=None):
        """ids, labels and the place of the first image token (-1: none) of as many turns as fit; answers and their end are trained."""
        ids = list(self.system[system]) if system is not None else []
        labels = [-100] * len(ids)
        for n, (question, answer) in enumerate(turns):
            head = self.turn(question, picture if n == 0 else None)
            tail = self.encode(answer) + [self.end]
            if len(ids) + len(head) + len(tail) + len(self.newline) > LENGTH:
                break
            ids += head + tail + self.newline
            labels += [-100] * len(head) + tail + [-100] * len(self.newline)
        rest = LENGTH - len(ids)
        return ids + [self.pad] * rest, labels + [-100] * rest, self.first(ids)

    def first(self, ids):
        pad = self.id["<|image_pad|>"]
        return ids.index(pad) if pad in ids else -1


def turns_of(rng, spec, i, progress):
    early = progress < EARLY  # reading first, arithmetic later
    kinds = list(charts.QUESTIONS) + ["value"] + (["kind"] if rng.random() < 0.3 else [])
    if early:
        kinds = [k for k in kinds if k not in ("sum", "difference")] + ["value"]
    turns = [ask(rng, spec, i, kinds[k]) for k in rng.permutation(len(kinds))]
    if rng.random() < (0.8 if early else 0.4):
        turns.insert(int(rng.integers(0, 6)), ask(rng, spec, i, "describe"))
    turns = [(loosely(rng, question), answer) for question, answer in turns]
    if rng.random() < 0.12:
        turns.insert(int(rng.integers(0, 4)), talk(rng))
    return turns


def conversation(writer, rng, spec, i, progress):
    system = int(rng.integers(0, len(charts.SYSTEM))) if rng.random() < 0.1 else None
    if rng.random() < 0.04:
        turns = [talk(rng) if rng.random() < 0.75 else (turns_of(rng, spec, i, 1)[0][0], charts.NO_CHART) for _ in range(6)]
        return writer.conversation(turns, None, system)
    return writer.conversation(turns_of(rng, spec, i, progress), "after" if rng.random() < 0.15 else "before", system)


def worker(seed, batch, tok_path, queue, progress):
    from tokenizers import Tokenizer
    torch.set_num_threads(1)
    writer, rng = Writer(Tokenizer.from_file(tok_path)), np.random.default_rng(seed)
    while True:
        early = progress.value < EARLY
        spec = draw_specs(rng, batch, most=4 if early else charts.MOST, fonts=1 if early else len(charts.FONTS))
        rows = [conversation(writer, rng, spec, i, progress.value) for i in range(batch)]
        queue.put((spec, *(np.asarray(x, np.int16) for x in zip(*rows))))


def feed(queue, device, out):
    """Moves what the workers made into pinned memory, beside the training loop."""
    while True:
        spec, *arrays = queue.get()
        tensors = [{k: torch.from_numpy(x) for k, x in spec.items()}, *(torch.from_numpy(x) for x in arrays)]
        if device == "cuda":
            tensors = [{k: x.pin_memory() for k, x in tensors[0].items()}, *(x.pin_memory() for x in tensors[1:])]
        out.put(tensors)


@torch.no_grad()
def answer(model, writer, pictures, prompts, steps):
    """Free-running greedy answers to prompts (token ids), one a picture."""
    device = pictures.device
    n = torch.tensor([len(p) for p in prompts], device=device)
    length = int(n.max()) + steps
    ids = torch.full((len(prompts), length), writer.pad, dtype=torch.long)
    for r, p in enumerate(prompts):
        ids[r, : len(p)] = torch.tensor(p)
    ids = ids.to(device)
    layout = model.layout(torch.tensor([writer.first(p) for p in prompts], device=device), length)
    rows = torch.arange(len(prompts), device=device)
    for t in range(steps):
        hidden = model(ids, pictures, *layout)[rows, n + t - 1]
        ids[rows, n + t] = model.logits(hidden).argmax(-1)
    out = []
    for r in range(len(prompts)):
        got = ids[r, n[r]: n[r] + steps].tolist()
        got = got[: got.index(writer.end)] if writer.end in got else got
        out.append(writer.tok.decode(got))
    return out


NUMERIC = ("value", "count", "sum", "difference")


def relaxed(about, expected, found):
    """ChartQA's relaxed accuracy: numbers within 5 %, texts equal but for case. Years are names here, not numbers."""
    found = found.strip()
    try:
        if about in NUMERIC:
            return abs(float(found) - float(expected)) <= 0.05 * abs(float(expected))
    except ValueError:
        pass
    return found.lower() == expected.lower()


def evaluate(model, writer, artist, seed, charts_per_kind, amp, kinds=range(4), questions=charts.QUESTIONS, place="before", steps=8):
    """Accuracy by kind of chart and of question on fresh charts, and some mistakes."""
    rng = np.random.default_rng(seed)
    right, total, wrong = {}, {}, []
    for kind in kinds:
        spec = draw_specs(rng, charts_per_kind, kinds=[kind])
        pictures = artist.render(to_torch(spec, artist.device))
        pairs = [ask(rng, spec, i, q) for q in questions for i in range(charts_per_kind)]
        found = []
        for at in range(0, len(pairs), 512):
            part = pairs[at: at + 512]
            shown = pictures[torch.arange(at, at + len(part), device=artist.device) % charts_per_kind]
            with torch.autocast(artist.device, torch.bfloat16, enabled=amp):
                found += answer(model, writer, shown, [writer.turn(p[0], place) for p in part], steps)
        for k, q in enumerate(questions):
            rows = range(k * charts_per_kind, (k + 1) * charts_per_kind)
            marks = [relaxed(q, pairs[r][1], found[r]) for r in rows]
            key = f"{charts.KINDS[kind]}/{q}"
            right[key], total[key] = sum(marks), len(marks)
            wrong += [(key, *pairs[r], found[r]) for r, m in zip(rows, marks) if not m][:2]
    table = {key: round(100 * right[key] / total[key], 1) for key in right}
    return round(100 * sum(right.values()) / sum(total.values()), 2), table, wrong


def export(model, writer, folder, template, tok_path):
    """The checkpoint folder, weights in bf16."""
    from safetensors.torch import save_file
    os.makedirs(folder, exist_ok=True)
    state = {}
    for name, p in model.named_parameters():
        w = p.detach().to(torch.bfloat16).cpu().contiguous()
        if name.endswith("patch_embed.proj.weight"):
            w = w.view(w.shape[0], 3, 2, 16, 16)
        state[name] = w
    save_file(state, f"{folder}/model.part", metadata={"format": "pt"})
    os.replace(f"{folder}/model.part", f"{folder}/model.safetensors")

    def dump(name, value):
        with open(f"{folder}/{name}", "w") as file:
            file.write(json.dumps(value, indent=2) + "\n")

    dump("config.json", hf_config(writer.id, VOCAB))
    dump("generation_config.json", {"eos_token_id": [writer.end, writer.pad], "do_sample": False})
    dump("preprocessor_config.json", {
        "image_processor_type": "Qwen2VLImageProcessorFast", "patch_size": 16, "temporal_patch_size": 2, "merge_size": 2,
        "image_mean": [0.5] * 3, "image_std": [0.5] * 3, "size": {"shortest_edge": 65536, "longest_edge": 65536}})
    dump("tokenizer_config.json", {"tokenizer_class": "Qwen2Tokenizer", "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "model_max_length": 4096})
    for source, name in ((template, "chat_template.jinja"), (tok_path, "tokenizer.json")):
        with open(source) as file:
            text = file.read()
        with open(f"{folder}/{name}", "w") as file:
            file.write(text)


@torch.no_grad()
def cross_check(folder, model, writer, artist):
    """The exported folder in transformers gives the same logits as the model here: largest relative error of four prompts."""
    from transformers import Qwen3VLForConditionalGeneration
    hf = Qwen3VLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").to(artist.device).eval()
    hf_state = hf.state_dict()
    ours_state = {n: p for n, p in model.named_parameters()}
    missing = [n for n in ours_state if n not in hf_state]
    assert not missing, f"names unknown to transformers: {missing[:3]}"
    kept = [p.detach().clone() for p in model.parameters()]
    for p in model.parameters():
        p.copy_(p.to(torch.bfloat16).float())
    rng = np.random.default_rng(5)
    spec = draw_specs(rng, 4)
    pictures = artist.render(to_torch(spec, artist.device))
    worst = 0.0
    for i in range(4):
        prompt = writer.turn(ask(rng, spec, i, "value")[0], "after" if i % 2 else "before")
        ids = torch.tensor([prompt], device=artist.device)
        layout = model.layout(torch.tensor([writer.first(prompt)], device=artist.device), len(prompt))
        ours = model.logits(model(ids, pictures[i:i + 1], *layout))[0]
        x = (pictures[i:i + 1].float() - 127.5) / 127.5
        x = x.view(1, 3, 8, 2, 16, 8, 2, 16).permute(0, 2, 5, 3, 6, 1, 4, 7).reshape(256, 3, 1, 256).expand(256, 3, 2, 256).reshape(256, 1536)
        theirs = hf(input_ids=ids, pixel_values=x, image_grid_thw=torch.tensor([[1, 16, 16]], device=artist.device),
                    attention_mask=torch.ones_like(ids), mm_token_type_ids=(ids == writer.id["<|image_pad|>"]).int()).logits[0]
        worst = max(worst, float((ours - theirs).norm() / theirs.norm()))
    for p, w in zip(model.parameters(), kept):
        p.copy_(w)
    return worst


def attempt(what, work):
    """Runs what is not worth losing a training run for."""
    try:
        return work()
    except Exception:
        print(f"{what} failed:", traceback.format_exc()[-1500:], flush=True)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--seconds", type=float, default=480, help="training time, compilation included")
    p.add_argument("--batch", type=int, default=256)
    p.add_argument("--workers", type=int, default=13)
    p.add_argument("--rate", type=float, default=3e-3, help="of Muon, or of AdamW for the matrices where --adam")
    p.add_argument("--adam", action="store_true", help="AdamW for everything")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--decay-from", type=float, default=0.45, help="share of the time after which the rate falls to zero")
    p.add_argument("--quantize-from", type=float, default=0.7)
    p.add_argument("--tokenizer", help="tokenizer.json to use; else it is trained")
    p.add_argument("--resume", help="a folder with model.safetensors to go on from; its state.pt, where there is one, comes first")
    p.add_argument("--abandon", type=float, default=0, help="give up when accuracy is below 30 % after so many seconds")
    p.add_argument("--template", required=True)
    p.add_argument("--out", required=True)
    p.add_argument("--state", help="folder for state.pt: weights in f32 and the optimizers' moments")
    p.add_argument("--check-charts", type=int, default=64, help="charts of each kind in the final evaluation")
    p.add_argument("--no-compile", action="store_true")
    a = p.parse_args()
    started = time.time()
    os.makedirs(a.out, exist_ok=True)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    from tokenizers import Tokenizer
    tok_path = f"{a.out}/tokenizer.json"
    given = a.tokenizer or (a.resume and f"{a.resume}/tokenizer.json")
    if given:
        Tokenizer.from_file(given).save(tok_path)
    else:
        train_tokenizer(tok_path)
    tok = Tokenizer.from_file(tok_path)
    writer = Writer(tok)

    # Workers are forked before anything touches the GPU.
    context = mp.get_context("fork")
    progress = context.Value("d", 1.0 if a.resume else 0.0)
    queue = context.Queue(3 * a.workers)
    pool = [context.Process(target=worker, args=(a.seed * 1000 + i, a.batch, tok_path, queue, progress), daemon=True) for i in range(a.workers)]
    for w in pool:
        w.start()

    device = "cuda" if torch.cuda.is_available() else "cpu"
    amp, compiled = device == "cuda", device == "cuda" and not a.no_compile
    torch.manual_seed(a.seed)
    torch.set_float32_matmul_precision("high")
    ready = queues.Queue(4)
    threading.Thread(target=feed, args=(queue, device, ready), daemon=True).start()
    artist = charts.Artist(device)
    model = Demo(VOCAB).to(device)
    parameters = sum(x.numel() for x in model.parameters())
    print(f"{parameters:,} parameters, tokenizer {tok.get_vocab_size()}, torch {torch.__version__}, {torch.cuda.get_device_name() if amp else 'cpu'}", flush=True)
    assert f"{parameters / 1e6:.2f} million" == charts.PARAMETERS and tok.get_vocab_size() <= VOCAB

    vectors = [x for n, x in model.named_parameters() if x.ndim < 2 or "embed" in n and "patch" not in n]
    matrices = [x for n, x in model.named_parameters() if not (x.ndim < 2 or "embed" in n and "patch" not in n)]
    adam_rate = a.rate if a.adam else 2e-3
    adam_groups = [{"params": vectors, "weight_decay": 0.0}] + ([{"params": matrices, "weight_decay": 0.05}] if a.adam else [])
    optimizers = [(adam_rate, torch.optim.AdamW(adam_groups, lr=adam_rate, betas=(0.9, 0.98), fused=amp))]
    if not a.adam:
        optimizers.append((a.rate, Muon(matrices, a.rate, weight_decay=0.05)))
    if a.resume:
        from safetensors.torch import load_file
        kept = f"{a.resume}/state.pt"
        if os.path.exists(kept):
            kept = torch.load(kept, map_location=device)
            model.load_state_dict(kept["model"], strict=False)
            for (_, optimizer), state in zip(optimizers, kept["optimizers"]):
                optimizer.load_state_dict(state)
            print("went on from", a.resume, "with its moments", flush=True)
        else:
            shapes = {n: x.shape for n, x in model.named_parameters()}
            model.load_state_dict({n: x.float().view(shapes[n]) for n, x in load_file(f"{a.resume}/model.safetensors").items()}, strict=False)
            print("went on from", a.resume, flush=True)

    def loss_of(ids, labels, pictures, slot, cos, sin):
        hidden = model(ids, pictures, slot, cos, sin)
        return F.cross_entropy(model.logits(hidden[:, :-1]).float().flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100)

    quantizer, run = Quantizer(model), loss_of

    def train_step(share):
        """One step; what it says stays on the GPU."""
        for rate, optimizer in optimizers:
            now = rate * min(1, (step + 1) / 200) * (1 if share < a.decay_from else max(0.0, (1 - share) / (1 - a.decay_from)))
            for group in optimizer.param_groups:
                group["lr"] = now
        spec, ids, labels, first = ready.get()
        spec = {k: x.to(device, non_blocking=True) for k, x in spec.items()}
        ids, labels, first = (x.to(device, non_blocking=True).long() for x in (ids, labels, first))
        pictures = artist.render(spec)
        if share >= a.quantize_from:
            quantizer.on()
        with torch.autocast(device, torch.bfloat16, enabled=amp):
            loss = run(ids, labels, pictures, *model.layout(first, LENGTH))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for _, optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    folder = f"{a.out}/model"

    def check(seed, charts_per_kind, **options):
        quantizer.on()
        result = evaluate(model, writer, artist, seed, charts_per_kind, amp, **options)
        quantizer.off()
        return result

    # Everything that comes at the end is tried at the start, so that a fault in it costs seconds.
    step = 0
    train_step(0.0)
    attempt("early evaluation", lambda: print("untrained:", check(1, 2)[0], flush=True))
    attempt("early export", lambda: export(model, writer, folder, a.template, tok_path))
    attempt("early cross-check", lambda: print("against transformers:", cross_check(folder, model, writer, artist), flush=True))
    print(f"ready after {time.time() - started:.0f} s", flush=True)
    if compiled:
        eager = (loss_of, artist.shapes, quantizer.fit)
        try:
            run = torch.compile(loss_of, dynamic=False)
            artist.shapes = torch.compile(charts.shapes, dynamic=False)
            quantizer = Quantizer(model, True)
            train_step(0.0)
            quantizer.on()
            quantizer.off()
            print(f"compiled after {time.time() - started:.0f} s", flush=True)
        except Exception:
            print("compilation failed, going on without:", traceback.format_exc()[-3000:], flush=True)
            run, artist.shapes, quantizer.fit = eager

    log, seen, starved, last, away = [], 0, 0, time.time(), 0.0
    next_check = time.time() - started + 60
    while True:
        share = (time.time() - started) / a.seconds
        if share >= 1:
            break
        if not a.resume:
            progress.value = share
        starved += ready.empty()
        loss = train_step(share)
        step, seen = step + 1, seen + a.batch
        if step % 200 == 0:
            log.append({"step": step, "seconds": round(time.time() - started), "pictures": seen, "loss": round(float(loss), 4)})
            rate = 200 * a.batch / (time.time() - last - away)
            last, away = time.time(), 0.0
            print(f"step {step} {time.time() - started:.0f}s pictures {seen} loss {float(loss):.4f} {rate:.0f}/s starved {starved}", flush=True)
        if time.time() - started > next_check:
            next_check += 70
            paused = time.time()
            found = attempt("evaluation", lambda: check(77, 24))
            if found:
                log.append({"step": step, "accuracy": found[0], "table": found[1]})
                print(f"  accuracy (4-bit text) {found[0]} {found[1]}", flush=True)
                if a.abandon and time.time() - started > a.abandon and found[0] < 30:
                    print("it does not learn: given up", flush=True)
                    break
            attempt("export", lambda: export(model, writer, folder, a.template, tok_path))
            away += time.time() - paused
    for w in pool:
        w.terminate()
    if a.state:
        os.makedirs(a.state, exist_ok=True)
        attempt("state", lambda: torch.save({"model": {n: x.detach() for n, x in model.named_parameters()}, "optimizers": [o.state_dict() for _, o in optimizers]}, f"{a.state}/state.pt"))
    torch.set_float32_matmul_precision("highest")
    with torch.no_grad():
        for x in model.parameters():
            x.copy_(x.to(torch.bfloat16).float())
    export(model, writer, folder, a.template, tok_path)
    result = {"steps": step, "pictures": seen, "seconds": round(time.time() - started), "log": log, "arguments": vars(a)}

    def final(name, seed, bits, **options):
        (quantizer.on if bits == 4 else quantizer.off)()
        accuracy, table, wrong = evaluate(model, writer, artist, seed, a.check_charts, False, **options)
        result[name] = {"accuracy": accuracy, "table": table, "wrong": wrong[:40]}
        print(f"{name}: {accuracy} {json.dumps(table)}\n{wrong[:16]}", flush=True)

    attempt("final", lambda: final("4-bit text", 4242, 4))
    attempt("final", lambda: final("bf16", 4242, 16))
    attempt("final", lambda: final("question first", 4244, 4, place="after"))
    attempt("final", lambda: final("more", 4245, 4, questions=charts.MORE, steps=56))
    attempt("final", lambda: final("unseen dot", 4243, 4, kinds=[4]))
    quantizer.off()
    result["transformers"] = attempt("cross-check", lambda: cross_check(folder, model, writer, artist))
    print("against transformers, relative error of logits:", result["transformers"], flush=True)
    with open(f"{a.out}/result.json", "w") as file:
        json.dump(result, file, indent=1)


if __name__ == "__main__":
    main()
