"""Qwen3-VL in plain torch for one fixed layout (a 256×256 picture first, then text), so that a step needs no Python loop over pictures.

Parameter names are the checkpoint's own. Formulas: ../shared/spec/qwen3-vl.md §5 and §6; `train.py` compares it with transformers.
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


def fake_quant(w, group=32):
    """4-bit affine groups along the rows as the app stores them (scale and offset in f16), gradient straight through."""
    with torch.no_grad():
        g = w.reshape(w.shape[0], -1, group).float()
        low, high = g.amin(-1, keepdim=True), g.amax(-1, keepdim=True)
        scale = ((high - low) / 15).half().float().clamp(min=1e-8)
        low = low.half().float()
        q = ((g - low) / scale).round().clamp(0, 15) * scale + low
        delta = q.reshape(w.shape) - w
    return w + delta


class QLinear(nn.Linear):
    """A language linear without bias that can pretend to be 4-bit."""

    quantized = False

    def __init__(self, i, o):
        super().__init__(i, o, bias=False)

    def forward(self, x):
        return F.linear(x, fake_quant(self.weight) if QLinear.quantized else self.weight)


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
        self.embed_tokens = nn.Embedding(vocab, c["hidden"])
        self.layers = nn.ModuleList(TextLayer(c) for _ in range(c["layers"]))
        self.norm = RMSNorm(c["hidden"])


class Demo(nn.Module):
    """`first`: index of the first of the 64 image tokens; None in `forward` for text without a picture."""

    def __init__(self, vocab, first=4, config=CONFIG):
        super().__init__()
        self.config, self.first, self.vocab = config, first, vocab
        t = config["text"]
        self.model = holder(visual=Vision(config["vision"], t["hidden"]), language_model=Language(t, vocab))
        for name, p in self.named_parameters():
            if p.ndim > 1:
                nn.init.normal_(p, 0, 0.02 if "embed" in name else p.shape[1] ** -0.5 * 0.7)
            elif name.endswith("bias"):
                nn.init.zeros_(p)
        for name, p in self.named_parameters():
            if name.endswith(("o_proj.weight", "down_proj.weight", "attn.proj.weight", "mlp.linear_fc2.weight")):
                p.data *= 0.4

    def positions(self, length, picture):
        pos = torch.arange(length).repeat(3, 1)
        if picture:
            f = self.first
            pos[0, f:f + 64] = f
            pos[1, f:f + 64] = f + torch.arange(64) // 8
            pos[2, f:f + 64] = f + torch.arange(64) % 8
            pos[:, f + 64:] = torch.arange(length - f - 64) + f + 8
        return pos

    def angles(self, length, picture, device):
        t = self.config["text"]
        half = t["d"] // 2
        inverse = t["theta"] ** (-torch.arange(half).double() / half)
        axis = torch.zeros(half, dtype=torch.long)
        for j in range(half):
            if j % 3 == 1 and j < 3 * t["section"][1]:
                axis[j] = 1
            elif j % 3 == 2 and j < 3 * t["section"][2]:
                axis[j] = 2
        angle = self.positions(length, picture).double()[axis].T * inverse
        return angle.cos().float().to(device), angle.sin().float().to(device)

    def forward(self, ids, pictures, cos, sin):
        """ids [B, S], pictures uint8 [B, 3, 256, 256] or None -> hidden states after the last norm [B, S, D]."""
        lm = self.model.language_model
        table = fake_quant(lm.embed_tokens.weight) if QLinear.quantized else lm.embed_tokens.weight
        h = F.embedding(ids, table)
        deep = []
        if pictures is not None:
            e, deep = self.model.visual(pictures)
            f = self.first
            h = torch.cat([h[:, :f], e.to(h.dtype), h[:, f + 64:]], 1)
        for i, layer in enumerate(lm.layers):
            h = layer(h, cos, sin)
            if i < len(deep):
                h = torch.cat([h[:, :f], h[:, f:f + 64] + deep[i].to(h.dtype), h[:, f + 64:]], 1)
        return lm.norm(h)

    def logits(self, hidden):
        w = self.model.language_model.embed_tokens.weight
        return F.linear(hidden, (fake_quant(w) if QLinear.quantized else w).to(hidden.dtype))


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
