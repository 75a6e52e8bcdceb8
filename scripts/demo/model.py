"""Qwen3-VL in plain torch for at most one 256×256 picture a conversation, so that a step needs no Python loop over pictures.

Parameter names are the checkpoint's own. `train.py` compares it with transformers.
"""
import torch
import torch.nn as nn
import torch.nn.functional as F

CONFIG = dict(
    text=dict(hidden=256, layers=6, heads=4, kv=2, d=64, ffn=512, theta=10000.0, section=[12, 10, 10]),
    vision=dict(hidden=160, depth=6, heads=5, ffn=640, patch=16, temporal=2, merge=2, positions=256, taps=[1, 3, 4], theta=10000.0),
)


def rotate(x, cos, sin):
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


def fit_groups(g):
    """What 4 bits leave of groups [G, 32]: code · scale + offset with scale and offset in f16, chosen as the app's encodeAffineRow does
    (src/formats/quant/affine4.ts, DEFAULT_SEARCH = 2): the plain range, or the best of three cut ranges refined by least squares."""
    n = g.shape[1]
    low, high, total = g.amin(1), g.amax(1), g.sum(1)
    span = high - low

    def codes(scale, offset):
        inverse = torch.where(scale > 0, 1 / scale, torch.zeros_like(scale))
        return (g * inverse[:, None] + (0.5 - offset * inverse)[:, None]).trunc().clamp(0, 15)

    def rounded(scale, offset):
        scale, offset = scale.half().float(), offset.half().float()
        values = codes(scale, offset) * scale[:, None] + offset[:, None]
        return values, (g - values).square().sum(1)

    plain, plain_error = rounded(span / 15, low)
    best_gain = torch.full_like(span, -torch.inf)
    best_scale, best_offset = torch.zeros_like(span), torch.zeros_like(span)
    for a, b in ((0.02, 0.02), (0.0, 0.06), (0.06, 0.0)):
        scale, offset = span * (1 - a - b) / 15, low + a * span
        gain, going = torch.full_like(span, -torch.inf), span > 0
        for _ in range(3):
            c = codes(scale, offset)
            sum_c, sum_cc, sum_cw = c.sum(1), (c * c).sum(1), (c * g).sum(1)
            determinant = n * sum_cc - sum_c * sum_c
            next_scale = (n * sum_cw - sum_c * total) / determinant.clamp(min=1)
            going = going & (determinant > 0) & (next_scale > 0)
            next_offset = (total - next_scale * sum_c) / n
            scale, offset = torch.where(going, next_scale, scale), torch.where(going, next_offset, offset)
            gain = torch.where(going, next_offset * total + next_scale * sum_cw, gain)
        better = gain > best_gain
        best_gain = torch.where(better, gain, best_gain)
        best_scale, best_offset = torch.where(better, scale, best_scale), torch.where(better, offset, best_offset)
    searched, error = rounded(best_scale, best_offset)
    take = (span > 0) & (best_scale > 0) & (error < plain_error)
    return torch.where(take[:, None], searched, plain)


class QLinear(nn.Linear):
    """A language linear without bias that can pretend to be 4-bit: `delta` is what quantization adds to the weights."""

    def __init__(self, i, o):
        super().__init__(i, o, bias=False)
        self.register_buffer("delta", torch.zeros(o, i), persistent=False)

    def forward(self, x):
        return F.linear(x, self.weight + self.delta)


class QEmbedding(nn.Embedding):
    """The same for the embedding, which is the head as well."""

    def __init__(self, n, d):
        super().__init__(n, d)
        self.register_buffer("delta", torch.zeros(n, d), persistent=False)

    def table(self):
        return self.weight + self.delta


class Quantizer:
    """Sets every `delta`, all groups at once. Gradients pass straight through, since deltas are constants to them."""

    def __init__(self, model, compiled=False):
        self.modules = [m for m in model.modules() if isinstance(m, (QLinear, QEmbedding))]
        self.fit = torch.compile(fit_groups, dynamic=False) if compiled else fit_groups

    @torch.no_grad()
    def on(self):
        weights = torch.cat([m.weight.detach().reshape(-1, 32) for m in self.modules])
        # The checkpoint is bf16, and that is what the app quantizes.
        delta = self.fit(weights.to(torch.bfloat16).float()) - weights
        for m, d in zip(self.modules, delta.split([m.weight.numel() // 32 for m in self.modules])):
            m.delta.copy_(d.view(m.delta.shape))

    @torch.no_grad()
    def off(self):
        for m in self.modules:
            m.delta.zero_()


class RMSNorm(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(c))

    def forward(self, x):
        y = x.float()
        return (y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + 1e-6)).to(x.dtype) * self.weight.to(x.dtype)


def holder(**modules):
    m = nn.Module()
    for name, child in modules.items():
        setattr(m, name, child)
    return m


class VisionBlock(nn.Module):
    def __init__(self, c):
        super().__init__()
        v = c["hidden"]
        self.heads = c["heads"]
        self.norm1, self.norm2 = nn.LayerNorm(v, 1e-6), nn.LayerNorm(v, 1e-6)
        self.attn = holder(qkv=nn.Linear(v, 3 * v), proj=nn.Linear(v, v))
        self.mlp = holder(linear_fc1=nn.Linear(v, c["ffn"]), linear_fc2=nn.Linear(c["ffn"], v))

    def forward(self, h, cos, sin):
        b, n, v = h.shape
        q, k, val = self.attn.qkv(self.norm1(h)).view(b, n, 3, self.heads, v // self.heads).permute(2, 0, 3, 1, 4)
        q, k = rotate(q, cos.to(q.dtype), sin.to(q.dtype)), rotate(k, cos.to(k.dtype), sin.to(k.dtype))
        h = h + self.attn.proj(F.scaled_dot_product_attention(q, k, val).transpose(1, 2).reshape(b, n, v))
        return h + self.mlp.linear_fc2(F.gelu(self.mlp.linear_fc1(self.norm2(h)), approximate="tanh"))


class Merger(nn.Module):
    def __init__(self, v, out, post):
        super().__init__()
        self.post = post
        self.norm = nn.LayerNorm(4 * v if post else v, 1e-6)
        self.linear_fc1, self.linear_fc2 = nn.Linear(4 * v, 4 * v), nn.Linear(4 * v, out)

    def forward(self, h):
        b, n, v = h.shape
        z = self.norm(h.view(b, n // 4, 4 * v)) if self.post else self.norm(h).view(b, n // 4, 4 * v)
        return self.linear_fc2(F.gelu(self.linear_fc1(z)))


class Vision(nn.Module):
    def __init__(self, c, out):
        super().__init__()
        v = c["hidden"]
        self.c = c
        self.patch_embed = holder(proj=nn.Linear(3 * c["temporal"] * c["patch"] ** 2, v))
        self.pos_embed = nn.Embedding(c["positions"], v)
        self.blocks = nn.ModuleList(VisionBlock(c) for _ in range(c["depth"]))
        self.merger = Merger(v, out, False)
        self.deepstack_merger_list = nn.ModuleList(Merger(v, out, True) for _ in c["taps"])
        side = 16
        order = torch.arange(side * side).view(side // 2, 2, side // 2, 2).permute(0, 2, 1, 3).reshape(-1)
        self.register_buffer("order", order, persistent=False)
        d = v // c["heads"]
        omega = c["theta"] ** (-torch.arange(d // 4).double() / (d // 4))
        row, col = (order // side).double(), (order % side).double()
        angle = torch.cat([row[:, None] * omega, col[:, None] * omega], 1)
        self.register_buffer("cos", angle.cos().float(), persistent=False)
        self.register_buffer("sin", angle.sin().float(), persistent=False)

    def forward(self, pictures):
        """pictures uint8 [B, 3, 256, 256] -> E and the DeepStack features, each [B, 64, D]."""
        b = pictures.shape[0]
        x = (pictures.float() - 127.5) / 127.5
        # [B, C, br, ir, y, bc, ic, x] -> merge-block order of patches; a still fills both temporal slots.
        x = x.view(b, 3, 8, 2, 16, 8, 2, 16).permute(0, 2, 5, 3, 6, 1, 4, 7).reshape(b, 256, 3, 1, 256)
        x = x.expand(b, 256, 3, 2, 256).reshape(b, 256, 1536)
        h = self.patch_embed.proj(x) + self.pos_embed.weight[self.order]
        deep = []
        for i, block in enumerate(self.blocks):
            h = block(h, self.cos, self.sin)
            if i in self.c["taps"]:
                deep.append(self.deepstack_merger_list[self.c["taps"].index(i)](h))
        return self.merger(h), deep


class TextLayer(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.c = c
        h, d = c["hidden"], c["d"]
        self.input_layernorm, self.post_attention_layernorm = RMSNorm(h), RMSNorm(h)
        self.self_attn = holder(
            q_proj=QLinear(h, c["heads"] * d), k_proj=QLinear(h, c["kv"] * d), v_proj=QLinear(h, c["kv"] * d),
            o_proj=QLinear(c["heads"] * d, h), q_norm=RMSNorm(d), k_norm=RMSNorm(d))
        self.mlp = holder(gate_proj=QLinear(h, c["ffn"]), up_proj=QLinear(h, c["ffn"]), down_proj=QLinear(c["ffn"], h))

    def forward(self, h, cos, sin):
        b, s, _ = h.shape
        c, a = self.c, self.self_attn
        y = self.input_layernorm(h)
        q = a.q_norm(a.q_proj(y).view(b, s, c["heads"], c["d"])).transpose(1, 2)
        k = a.k_norm(a.k_proj(y).view(b, s, c["kv"], c["d"])).transpose(1, 2)
        v = a.v_proj(y).view(b, s, c["kv"], c["d"]).transpose(1, 2)
        q, k = rotate(q, cos.to(q.dtype), sin.to(q.dtype)), rotate(k, cos.to(k.dtype), sin.to(k.dtype))
        times = c["heads"] // c["kv"]
        o = F.scaled_dot_product_attention(q, k.repeat_interleave(times, 1), v.repeat_interleave(times, 1), is_causal=True)
        h = h + a.o_proj(o.transpose(1, 2).reshape(b, s, -1))
        y = self.post_attention_layernorm(h)
        return h + self.mlp.down_proj(F.silu(self.mlp.gate_proj(y)) * self.mlp.up_proj(y))


class Language(nn.Module):
    def __init__(self, c, vocab):
        super().__init__()
        self.embed_tokens = QEmbedding(vocab, c["hidden"])
        self.layers = nn.ModuleList(TextLayer(c) for _ in range(c["layers"]))
        self.norm = RMSNorm(c["hidden"])


class Demo(nn.Module):
    def __init__(self, vocab, config=CONFIG):
        super().__init__()
        self.config, self.vocab = config, vocab
        t = config["text"]
        self.model = holder(visual=Vision(config["vision"], t["hidden"]), language_model=Language(t, vocab))
        for name, p in self.named_parameters():
            if p.ndim > 1:
                nn.init.normal_(p, 0, 0.02 if "embed" in name and "patch" not in name else p.shape[1] ** -0.5 * 0.7)
            elif name.endswith("bias"):
                nn.init.zeros_(p)
        for name, p in self.named_parameters():
            if name.endswith(("o_proj.weight", "down_proj.weight", "attn.proj.weight", "mlp.linear_fc2.weight")):
                p.data *= 0.4
        half = t["d"] // 2
        inverse = t["theta"] ** (-torch.arange(half).double() / half)
        self.register_buffer("angle", torch.arange(512).double()[:, None] * inverse, persistent=False)
        j = torch.arange(half)
        axis = torch.where((j % 3 == 1) & (j < 3 * t["section"][1]), 1, torch.where((j % 3 == 2) & (j < 3 * t["section"][2]), 2, 0))
        self.register_buffer("axis", axis, persistent=False)

    @torch.no_grad()
    def layout(self, first, length):
        """first [B]: index of each sequence's first image token, -1 without a picture.
        -> which image token stands where [B, S] (-1: none), cos and sin of the rotary angles [B, 1, S, 32]."""
        at = torch.arange(length, device=first.device).view(1, length)
        f = first.view(-1, 1)
        inside = (f >= 0) & (at >= f) & (at < f + 64)
        slot = torch.where(inside, at - f, -1)
        t = torch.where(inside, f, torch.where((f >= 0) & (at >= f + 64), at - 56, at))
        row, col = torch.where(inside, slot // 8, 0), torch.where(inside, slot % 8, 0)
        positions = torch.stack([t, t + row, t + col], 2)[:, :, self.axis]  # [B, S, 32]
        angle = self.angle[positions, torch.arange(self.axis.shape[0], device=first.device)]
        return slot, angle.cos().float().unsqueeze(1), angle.sin().float().unsqueeze(1)

    def forward(self, ids, pictures, slot, cos, sin):
        """ids [B, S], pictures uint8 [B, 3, 256, 256], the rest from `layout` -> hidden states after the last norm [B, S, D]."""
        lm = self.model.language_model
        h = F.embedding(ids, lm.embed_tokens.table())
        e, deep = self.model.visual(pictures)
        here = (slot >= 0).unsqueeze(2)
        index = slot.clamp(min=0).unsqueeze(2).expand(-1, -1, h.shape[2])
        h = torch.where(here, e.gather(1, index).to(h.dtype), h)
        for i, layer in enumerate(lm.layers):
            h = layer(h, cos, sin)
            if i < len(deep):
                h = h + torch.where(here, deep[i].gather(1, index), 0).to(h.dtype)
        return lm.norm(h)

    def logits(self, hidden):
        return F.linear(hidden, self.model.language_model.embed_tokens.table().to(hidden.dtype))


def hf_config(ids, vocab, config=CONFIG):
    t, v = config["text"], config["vision"]
    return {
        "architectures": ["Qwen3VLForConditionalGeneration"], "model_type": "qwen3_vl", "dtype": "bfloat16",
        "image_token_id": ids["<|image_pad|>"], "video_token_id": ids["<|video_pad|>"],
        "vision_start_token_id": ids["<|vision_start|>"], "vision_end_token_id": ids["<|vision_end|>"], "tie_word_embeddings": True,
        "text_config": {
            "model_type": "qwen3_vl_text", "vocab_size": vocab, "hidden_size": t["hidden"], "num_hidden_layers": t["layers"],
            "num_attention_heads": t["heads"], "num_key_value_heads": t["kv"], "head_dim": t["d"], "intermediate_size": t["ffn"],
            "hidden_act": "silu", "max_position_embeddings": 4096, "rms_norm_eps": 1e-6, "attention_bias": False,
            "rope_parameters": {"rope_type": "default", "rope_theta": t["theta"], "mrope_section": t["section"], "mrope_interleaved": True},
            "tie_word_embeddings": True, "bos_token_id": ids["<|endoftext|>"], "eos_token_id": ids["<|im_end|>"],
        },
        "vision_config": {
            "model_type": "qwen3_vl_vision", "depth": v["depth"], "hidden_size": v["hidden"], "num_heads": v["heads"], "intermediate_size": v["ffn"],
            "in_channels": 3, "patch_size": v["patch"], "temporal_patch_size": v["temporal"], "spatial_merge_size": v["merge"],
            "out_hidden_size": t["hidden"], "num_position_embeddings": v["positions"], "deepstack_visual_indexes": v["taps"],
            "hidden_act": "gelu_pytorch_tanh",
        },
    }
