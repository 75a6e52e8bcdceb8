"""Draws charts and asks questions about them: the world of the demo model.

A chart is a row of numpy arrays (its spec); `render` draws a batch of specs on any torch device, so that training never waits
for pictures. Everything follows from a seed. Kinds: bar, hbar, line, pie; `dot` is kept out of training as the unseen kind that
fine-tuning examples are made of.
"""
import glob
import os

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

SIZE = 256
WIDE = SIZE + 64  # room for sprites that reach over the right edge while texts are drawn
KINDS = ["bar", "hbar", "line", "pie", "dot"]
TRAINED = KINDS[:4]
MOST = 6  # categories
TOP = 20  # largest value
PALETTE = {
    "red": (214, 39, 40), "blue": (31, 90, 200), "green": (44, 150, 60), "orange": (255, 140, 20),
    "purple": (140, 80, 190), "brown": (120, 70, 45), "pink": (240, 130, 190), "gray": (127, 127, 127),
}
COLOURS = list(PALETTE)
GROUPS = [
    ["Apple", "Pear", "Kiwi", "Plum", "Grape", "Mango", "Lemon", "Peach", "Melon", "Fig"],
    ["Dog", "Cat", "Bird", "Fish", "Horse", "Sheep", "Goat", "Frog", "Duck", "Mouse"],
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"],
    ["2016", "2017", "2018", "2019", "2020", "2021", "2022", "2023", "2024", "2025"],
    ["Rome", "Paris", "Oslo", "Lima", "Cairo", "Tokyo", "Delhi", "Bern", "Quito", "Seoul"],
    ["Anna", "Ben", "Carl", "Dora", "Emma", "Finn", "Greta", "Hugo", "Ida", "Jack"],
    ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"],
]
WORDS = [w for g in GROUPS for w in g]
GROUP_START = np.cumsum([0] + [len(g) for g in GROUPS])
TITLE_A = ["Fruit", "Pet", "Ticket", "Book", "Coffee", "Garden", "School", "Music", "Car", "Train", "Web", "Bike"]
TITLE_B = ["sales", "visits", "scores", "orders", "trips", "votes", "prices", "clubs"]
TITLES = [f"{a} {b}" for a in TITLE_A for b in TITLE_B]
FONTS = ["DejaVuSans.ttf", "DejaVuSans-Bold.ttf", "DejaVuSerif.ttf"]
BACKGROUNDS = [(255, 255, 255), (250, 250, 245), (240, 244, 250), (246, 240, 240)]


def font_path(name):
    places = ["/usr/share/fonts/truetype/dejavu"]
    try:
        import matplotlib
        places.append(os.path.join(os.path.dirname(matplotlib.__file__), "mpl-data/fonts/ttf"))
    except ImportError:
        pass
    for place in places:
        for path in glob.glob(os.path.join(place, name)):
            return path
    raise FileNotFoundError(f"{name}: install DejaVu fonts or matplotlib")


class Sprites:
    """Words, numbers and titles as alpha masks: [font, text, height, width] in 0..1, with the width of the ink."""

    def __init__(self, texts, size, height, width, device):
        alpha = np.zeros((len(FONTS), len(texts), height, width), np.float32)
        ink = np.zeros((len(FONTS), len(texts)), np.int64)
        for f, name in enumerate(FONTS):
            font = ImageFont.truetype(font_path(name), size)
            for i, text in enumerate(texts):
                image = Image.new("L", (width, height), 0)
                draw = ImageDraw.Draw(image)
                draw.text((1, height - 4), text, font=font, fill=255, anchor="ls")
                alpha[f, i] = np.asarray(image, np.float32) / 255
                box = image.getbbox()
                ink[f, i] = box[2] if box else 0
        self.alpha = torch.from_numpy(alpha).to(device)
        self.ink = torch.from_numpy(ink).to(device)
        self.height, self.width = height, width


class Artist:
    """Draws batches of specs."""

    def __init__(self, device):
        self.device = device
        self.words = Sprites(WORDS, 11, 16, 52, device)
        self.numbers = Sprites([str(i) for i in range(TOP + 1)], 13, 16, 20, device)
        self.titles = Sprites(TITLES, 15, 20, 150, device)
        self.palette = torch.tensor(list(PALETTE.values()), dtype=torch.float32, device=device)
        self.backgrounds = torch.tensor(BACKGROUNDS, dtype=torch.float32, device=device)
        axis = torch.arange(SIZE, device=device, dtype=torch.float32)
        self.x = axis.view(1, 1, SIZE)
        self.y = axis.view(1, SIZE, 1)

    def blit(self, canvas, sprites, font, text, left, top, colour, on):
        """Composites one sprite per picture. left, top [B] in pixels; colour [B,3]; on [B] switches it off."""
        b = canvas.shape[0]
        alpha = sprites.alpha[font, text] * on.view(b, 1, 1)
        h, w = sprites.height, sprites.width
        left = left.long().clamp(0, WIDE - w)
        top = top.long().clamp(0, SIZE - h)
        rows = top.view(b, 1, 1) + torch.arange(h, device=self.device).view(1, h, 1)
        cols = left.view(b, 1, 1) + torch.arange(w, device=self.device).view(1, 1, w)
        index = (rows * WIDE + cols).view(b, 1, h * w).expand(b, 3, h * w)
        flat = canvas.view(b, 3, SIZE * WIDE)
        under = flat.gather(2, index)
        a = alpha.view(b, 1, h * w)
        flat.scatter_(2, index, under * (1 - a) + colour.view(b, 3, 1) * a)

    def render(self, spec):
        """spec: dict of tensors on the device -> uint8 [B, 3, 256, 256]."""
        n, kind = spec["count"], spec["kind"]
        b = kind.shape[0]
        values = spec["values"].float()
        nf = n.float()
        x, y = self.x, self.y
        canvas = self.backgrounds[spec["background"]].view(b, 3, 1, 1).expand(b, 3, SIZE, SIZE).clone()
        v = lambda t: t.view(b, 1, 1)
        is_kind = [v(kind == k) for k in range(len(KINDS))]
        colours = self.palette[spec["colours"]]  # [B, MOST, 3]
        left, right, base, roof = 14.0, 250.0, 226.0, 52.0
        # Upright charts: a slot of equal width for each category.
        step = (right - left) / nf
        cat = ((x - left) / v(step)).floor().clamp(min=0).minimum(v(nf - 1)).long().expand(b, SIZE, SIZE)
        within = (x - left) / v(step) - cat.float()
        height = values / TOP * (base - roof)
        tops = (base - height).gather(1, cat[:, 0]).view(b, 1, SIZE)
        pad = v(spec["pad"])
        bar = (within > pad) & (within < 1 - pad) & (y >= tops) & (y < base) & (x >= left) & is_kind[0]
        # Lying bars.
        hleft, hright, htop, hbase = 58.0, 232.0, 34.0, 250.0
        hstep = (hbase - htop) / nf
        hcat = ((y - htop) / v(hstep)).floor().clamp(min=0).minimum(v(nf - 1)).long().expand(b, SIZE, SIZE)
        hwithin = (y - htop) / v(hstep) - hcat.float()
        ends = (hleft + values / TOP * (hright - hleft)).gather(1, hcat[:, :, 0]).view(b, SIZE, 1)
        hbar = (hwithin > pad) & (hwithin < 1 - pad) & (x >= hleft) & (x < ends) & (y >= htop) & is_kind[1]
        # Line: straight between the centres of the slots; dots on the points (and alone for the unseen kind).
        place = ((x - left) / v(step) - 0.5).clamp(min=0).minimum(v(nf - 1)).expand(b, 1, SIZE)
        seg = place.floor().minimum(v(nf - 2)).clamp(min=0).long()[:, 0]
        points = base - height
        y0, y1 = points.gather(1, seg).view(b, 1, SIZE), points.gather(1, (seg + 1).clamp(max=MOST - 1)).view(b, 1, SIZE)
        on_line = y0 + (y1 - y0) * (place - seg.view(b, 1, SIZE))
        slope = (y1 - y0) / v(step)
        half = 1.3 * torch.sqrt(1 + slope * slope)
        first, last = v(left + step / 2), v(left + step * (nf - 0.5))
        line = ((y - on_line).abs() < half) & (x >= first) & (x <= last) & is_kind[2]
        centre = left + (cat.float() + 0.5) * v(step)
        near = (x - centre) ** 2 + (y - tops) ** 2
        dots = ((near < 16) & is_kind[2]) | ((near < 49) & is_kind[4])
        # Pie: angles clockwise from the top.
        cx, cy, radius = 128.0, 142.0, 72.0
        dx, dy = x - cx, y - cy
        angle = torch.remainder(torch.atan2(dx.expand(1, SIZE, SIZE), -dy.expand(1, SIZE, SIZE)), 2 * np.pi) / (2 * np.pi)
        live = torch.arange(MOST, device=self.device).view(1, MOST) < n.view(b, 1)
        shares = torch.where(live, values, torch.zeros_like(values))
        total = shares.sum(1, keepdim=True)
        bounds = shares.cumsum(1) / total
        slice_ = torch.zeros(b, SIZE, SIZE, dtype=torch.long, device=self.device)
        for k in range(MOST - 1):
            slice_ += ((angle >= bounds[:, k].view(b, 1, 1)) & v(n > k + 1)).long()
        pie = (dx * dx + dy * dy < radius * radius) & is_kind[3]
        # Paint.
        single = colours[:, :1]
        index = torch.where(is_kind[1], hcat, torch.where(is_kind[3], slice_, cat))
        paint = colours.gather(1, index.view(b, SIZE * SIZE, 1).expand(b, SIZE * SIZE, 3)).view(b, SIZE, SIZE, 3).permute(0, 3, 1, 2)
        paint = torch.where((is_kind[2] & line).unsqueeze(1), single.view(b, 3, 1, 1).expand_as(paint), paint)
        paint = torch.where((is_kind[2] & dots).unsqueeze(1), single.view(b, 3, 1, 1).expand_as(paint), paint)
        shape = (bar | hbar | line | dots | pie).unsqueeze(1)
        axis_x = (y >= base) & (y < base + 1) & (x >= left - 4) & (x < right) & (is_kind[0] | is_kind[2] | is_kind[4])
        axis_y = (x >= hleft - 1) & (x < hleft) & (y >= htop) & is_kind[1]
        grid = spec["grid"].bool().view(b, 1, 1) & (torch.remainder(base - y, (base - roof) / 4) < 1) & (y < base) & (y >= roof - 1) & (x >= left) & (is_kind[0] | is_kind[2] | is_kind[4])
        canvas = torch.where(grid.unsqueeze(1), torch.full_like(canvas, 215.0), canvas)
        canvas = torch.where((axis_x | axis_y).unsqueeze(1), torch.full_like(canvas, 60.0), canvas)
        canvas = torch.nn.functional.pad(torch.where(shape, paint, canvas), (0, WIDE - SIZE)).contiguous()
        # Texts.
        font = spec["font"]
        ink = torch.full((b, 3), 20.0, device=self.device)
        t = spec["title"]
        self.blit(canvas, self.titles, font, t, (SIZE - self.titles.ink[font, t]) / 2, torch.full((b,), 6.0, device=self.device), ink, torch.ones(b, device=self.device))
        upright = (kind == 0) | (kind == 2) | (kind == 4)
        middle = (bounds - shares / total / 2) * 2 * np.pi
        for k in range(MOST):
            on = (n > k).float()
            word, value = spec["words"][:, k], spec["values"][:, k]
            wide, number = self.words.ink[font, word].float(), self.numbers.ink[font, value].float()
            slot = left + (k + 0.5) * step
            row = htop + (k + 0.5) * hstep
            sin, cos = torch.sin(middle[:, k]), torch.cos(middle[:, k])
            wx = torch.where(upright, slot - wide / 2, torch.where(kind == 1, hleft - 5 - wide, cx + sin * 98 - wide / 2))
            wy = torch.where(upright, torch.full_like(slot, base + 6), torch.where(kind == 1, row - 9, cy - cos * 88 - 9))
            self.blit(canvas, self.words, font, word, wx, wy, ink, on)
            # Values stand above bars and points, behind lying bars, on the slices.
            vx = torch.where(upright, slot - number / 2, torch.where(kind == 1, hleft + values[:, k] / TOP * (hright - hleft) + 4, cx + sin * 48 - number / 2))
            vy = torch.where(upright, points[:, k] - torch.where(kind == 0, 17.0, 23.0), torch.where(kind == 1, row - 9, cy - cos * 48 - 9))
            colour = torch.where((kind == 3).view(b, 1), torch.full_like(ink, 255.0), ink)
            self.blit(canvas, self.numbers, font, value, vx, vy, colour, on)
        return canvas[..., :SIZE].round().clamp(0, 255).to(torch.uint8)


def draw_specs(rng, b, kinds=range(4), most=MOST):
    """Random specs as numpy arrays: distinct words of one group, distinct colours, integers with one highest and one lowest."""
    count = rng.integers(3, most + 1, b)
    group = rng.integers(0, len(GROUPS), b)
    words = np.zeros((b, MOST), np.int64)
    values = np.zeros((b, MOST), np.int64)
    for i in range(b):
        size = len(GROUPS[group[i]])
        picked = rng.permutation(size)[:MOST]
        if group[i] in (2, 3, 6) and rng.random() < 0.6:
            picked = np.sort(picked)
        words[i, : len(picked)] = GROUP_START[group[i]] + picked
        # Distinct values: every question has one answer.
        values[i] = 1 + rng.permutation(TOP)[:MOST]
    kind = np.asarray(list(kinds))[rng.integers(0, len(list(kinds)), b)]
    # A slice that is too thin hides its number.
    values = np.where((kind == 3)[:, None], np.maximum(values, 2), values)
    for i in np.nonzero(kind == 3)[0]:
        values[i] = 3 + rng.permutation(TOP - 2)[:MOST]
    colours = np.argsort(rng.random((b, len(COLOURS))), 1)[:, :MOST]
    return {
        "kind": kind, "count": count, "words": words, "values": values, "colours": colours,
        "title": rng.integers(0, len(TITLES), b), "font": rng.integers(0, len(FONTS), b),
        "background": rng.integers(0, len(BACKGROUNDS), b), "grid": rng.integers(0, 2, b),
        "pad": rng.uniform(0.1, 0.28, b).astype(np.float32),
    }


QUESTIONS = ["value", "highest", "lowest", "count", "colour", "sum", "difference", "title"]
ASK = {
    "value": ["What is the value of {a}?", "How much is {a}?", "What value does {a} have?"],
    "highest": ["Which one is the highest?", "What has the highest value?", "Which is the largest?"],
    "lowest": ["Which one is the lowest?", "What has the lowest value?", "Which is the smallest?"],
    "count": {
        "bar": ["How many bars are there?"], "hbar": ["How many bars are there?"], "line": ["How many points are there?"],
        "pie": ["How many slices are there?"], "dot": ["How many dots are there?"],
    },
    "colour": ["What is the colour of {a}?", "What colour is {a}?", "Which color is {a}?"],
    "colour line": ["What is the colour of the line?", "What colour is the line?", "Which color is the line?"],
    "sum": ["What is the sum of {a} and {b}?", "What do {a} and {b} add up to?"],
    "difference": ["What is the difference between {a} and {b}?", "How far apart are {a} and {b}?"],
    "title": ["What is the title?", "What is the title of the chart?"],
}


def ask(rng, spec, i, question):
    """One question about chart i and its answer."""
    n = spec["count"][i]
    kind = KINDS[spec["kind"][i]]
    names = [WORDS[w] for w in spec["words"][i, :n]]
    values = spec["values"][i, :n]
    a, b = rng.permutation(n)[:2]
    pick = lambda forms: forms[rng.integers(0, len(forms))]
    if question == "count":
        return pick(ASK["count"][kind] + ["How many values are there?"]), str(n)
    if question == "colour":
        if kind == "line":
            return pick(ASK["colour line"]), COLOURS[spec["colours"][i, 0]]
        return pick(ASK["colour"]).format(a=names[a]), COLOURS[spec["colours"][i, a]]
    text = pick(ASK[question]).format(a=names[a], b=names[b])
    answer = {
        "value": str(values[a]), "highest": names[int(values.argmax())], "lowest": names[int(values.argmin())],
        "sum": str(values[a] + values[b]), "difference": str(abs(values[a] - values[b])), "title": TITLES[spec["title"][i]],
    }[question]
    return text, answer


ABOUT = "I am the TabTune demo, a tiny model with 8 million parameters, trained on drawn charts. I am not Qwen."
TALK = [
    (["Who are you?", "What are you?", "Tell me about yourself.", "Are you Qwen?", "Are you ChatGPT?", "What model are you?", "What is your name?"], ABOUT),
    (["What can you do?", "How can you help me?", "Help", "What should I ask?", "What do you know?"],
     "I read simple charts: bars, lines and pies. Ask me for a value, the highest, the lowest, a colour, a sum, a difference, how many, or the title."),
    (["Hello!", "Hello", "Hi", "Hi!", "Hey", "Good morning", "Good evening"], "Hello! Show me a chart and ask me about it."),
    (["Thanks!", "Thank you", "Thank you!", "Great", "Well done", "Nice"], "You are welcome."),
    (["Bye", "Goodbye", "See you"], "Goodbye!"),
    (["How big are you?", "How many parameters do you have?", "Are you small?"], "I have about 8 million parameters. Real models have billions."),
    (["What is the weather?", "Write a poem.", "What is the capital of France?", "Tell me a joke.", "Who is the president?", "Translate this."],
     "I only know simple charts. For anything else, load a real model on the Models page."),
]


def talk(rng):
    asked, answer = TALK[rng.integers(0, len(TALK))]
    return asked[rng.integers(0, len(asked))], answer


def to_torch(spec, device):
    return {k: torch.from_numpy(np.ascontiguousarray(v)).to(device, non_blocking=True) for k, v in spec.items()}


def save_png(picture, path):
    Image.fromarray(picture.permute(1, 2, 0).cpu().numpy()).save(path, optimize=True)
