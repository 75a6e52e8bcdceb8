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
GROUP_SIZE = np.array([len(g) for g in GROUPS])
GROUP_START = np.cumsum(GROUP_SIZE) - GROUP_SIZE
TITLE_A = ["Fruit", "Pet", "Ticket", "Book", "Coffee", "Garden", "School", "Music", "Car", "Train", "Web", "Bike"]
TITLE_B = ["sales", "visits", "scores", "orders", "trips", "votes", "prices", "clubs"]
TITLES = [f"{a} {b}" for a in TITLE_A for b in TITLE_B]
FONTS = ["DejaVuSans.ttf", "DejaVuSans-Bold.ttf", "DejaVuSerif.ttf"]
# Pixels. A unit of value is 8 high, the base line lies between two rows of patches, and texts stand in as few rows of patches as can be.
LEFT, WIDTH, BASE, UNIT = 14.0, 228.0, 224.0, 8.0
ROW_LEFT, ROW_TOP = 62.0, 40.0
PIE_X, PIE_Y, RADIUS = 128.0, 146.0, 72.0
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

    def __init__(self, texts, size, height, width, device, fonts):
        alpha = np.zeros((len(fonts), len(texts), height, width), np.float32)
        ink = np.zeros((len(fonts), len(texts)), np.int64)
        for f, name in enumerate(fonts):
            # The plain layout, which every build of pillow has: with another kerning the model would meet other pictures.
            font = ImageFont.truetype(font_path(name), size, layout_engine=ImageFont.Layout.BASIC)
            for i, text in enumerate(texts):
                image = Image.new("L", (width, height), 0)
                draw = ImageDraw.Draw(image)
                draw.text((1, height - 4), text, font=font, fill=255, anchor="ls")
                alpha[f, i] = np.asarray(image, np.float32) / 255
                box = image.getbbox()
                ink[f, i] = box[2] if box else 0
        self.alpha = torch.from_numpy(alpha).to(device)
        self.halo = torch.nn.functional.max_pool2d(self.alpha.view(-1, 1, height, width), 5, 1, 2).view(self.alpha.shape)
        self.ink = torch.from_numpy(ink).to(device)
        self.height, self.width = height, width


class Artist:
    """Draws batches of specs. `compiled` fuses the shapes into few kernels where torch.compile works."""

    def __init__(self, device, compiled=False):
        self.device = device
        self.words = Sprites(WORDS, 11, 16, 52, device, ["DejaVuSans.ttf", "DejaVuSans.ttf", "DejaVuSerif.ttf"])
        self.numbers = Sprites([str(i) for i in range(TOP + 1)], 13, 16, 20, device, FONTS)
        self.titles = Sprites(TITLES, 15, 20, 150, device, FONTS)
        self.palette = torch.tensor(list(PALETTE.values()), dtype=torch.float32, device=device)
        self.backgrounds = torch.tensor(BACKGROUNDS, dtype=torch.float32, device=device)
        self.x = (torch.arange(WIDE, device=device, dtype=torch.float32) + 0.5).view(1, 1, WIDE)
        self.y = (torch.arange(SIZE, device=device, dtype=torch.float32) + 0.5).view(1, SIZE, 1)
        self.row_steps = torch.tensor([0, 0, 0, 64, 48, 40, 32], dtype=torch.float32, device=device)
        self.shapes = torch.compile(shapes, dynamic=False) if compiled else shapes

    def blit(self, canvas, sprites, font, text, left, top, colour, on, alpha=None):
        """Composites one sprite per picture. left, top [B] in pixels; colour [B,3]; on [B] switches it off.

        Places are rounded to 4 pixels: the eye does not see it, and the model meets each text at few offsets within its patches.
        """
        b = canvas.shape[0]
        alpha = (sprites.alpha if alpha is None else alpha)[font, text] * on.view(b, 1, 1)
        h, w = sprites.height, sprites.width
        left = (left / 4).round().long().clamp(0, (WIDE - w) // 4) * 4
        top = (top / 4).round().long().clamp(0, (SIZE - h) // 4) * 4
        rows = top.view(b, 1, 1) + torch.arange(h, device=self.device).view(1, h, 1)
        cols = left.view(b, 1, 1) + torch.arange(w, device=self.device).view(1, 1, w)
        index = (rows * WIDE + cols).view(b, 1, h * w).expand(b, 3, h * w)
        flat = canvas.view(b, 3, SIZE * WIDE)
        under = flat.gather(2, index)
        a = alpha.view(b, 1, h * w)
        flat.scatter_(2, index, under * (1 - a) + colour.view(b, 3, 1) * a)

    def render(self, spec):
        """spec: dict of tensors on the device -> uint8 [B, 3, 256, 256]."""
        n, kind, values, font = spec["count"], spec["kind"], spec["values"].float(), spec["font"]
        b = kind.shape[0]
        step, row_step = WIDTH / n.float(), self.row_steps[n]
        live = torch.arange(MOST, device=self.device).view(1, MOST) < n.view(b, 1)
        shares = torch.where(live, values, torch.zeros_like(values))
        shares = shares / shares.sum(1, keepdim=True)
        ends = shares.cumsum(1)
        background = self.backgrounds[spec["background"]]
        canvas = self.shapes(self.x, self.y, kind, live.float(), values, self.palette[spec["colours"]], background,
                             spec["pad"], spec["grid"].float(), step, row_step, ends - shares, ends).contiguous()
        ink = torch.full((b, 3), 20.0, device=self.device)
        white = torch.full_like(ink, 255.0)
        one = torch.ones(b, device=self.device)
        t = spec["title"]
        self.blit(canvas, self.titles, font, t, (SIZE - self.titles.ink[font, t]) / 2, 12 * one, ink, one)
        upright, lying, pie = (kind == 0) | (kind == 2) | (kind == 4), kind == 1, kind == 3
        middle = (ends - shares / 2) * 2 * np.pi
        for k in range(MOST):
            on = (n > k).float()
            word, value = spec["words"][:, k], spec["values"][:, k]
            wide, number = self.words.ink[font, word].float(), self.numbers.ink[font, value].float()
            slot = LEFT + (k + 0.5) * step
            row = ROW_TOP + (k + 0.5) * row_step
            sin, cos = torch.sin(middle[:, k]), torch.cos(middle[:, k])
            wx = torch.where(upright, slot - wide / 2, torch.where(lying, ROW_LEFT - 6 - wide, PIE_X + sin * 98 - wide / 2))
            wy = torch.where(upright, BASE * one, torch.where(lying, row - 8, PIE_Y - cos * 86 - 9))
            self.blit(canvas, self.words, font, word, wx, wy, ink, on)
            # Values stand above bars and points, behind lying bars, on the slices.
            point = BASE - values[:, k] * UNIT
            vx = torch.where(upright, slot - number / 2, torch.where(lying, ROW_LEFT + values[:, k] * UNIT + 5, PIE_X + sin * 48 - number / 2))
            vy = torch.where(upright, point - torch.where(kind == 0, 16.0, 24.0), torch.where(lying, row - 8, PIE_Y - cos * 48 - 8))
            # A halo keeps a number readable where a line passes behind it.
            self.blit(canvas, self.numbers, font, value, vx, vy, background, on * (kind == 2).float(), self.numbers.halo)
            self.blit(canvas, self.numbers, font, value, vx, vy, torch.where(pie.view(b, 1), white, ink), on)
        return canvas[..., :SIZE].round().clamp(0, 255).to(torch.uint8)


def shapes(x, y, kind, live, values, colours, background, pad, grid, step, row_step, starts, ends):
    """Everything but the texts: x [1,1,W], y [1,H,1] pixel centres, the rest per picture -> float [B, 3, H, W]."""
    b = kind.shape[0]
    v = lambda t: t.view(b, 1, 1)
    on = [v((kind == k).float()) for k in range(len(KINDS))]
    upright = on[0] + on[2] + on[4]

    def over(canvas, colour, cover):
        """Composites a colour [B, 3] with a coverage [B, H, W]."""
        cover = cover.unsqueeze(1)
        return canvas * (1 - cover) + colour.view(-1, 3, 1, 1) * cover

    edge = lambda inside: (inside + 0.5).clamp(0, 1)  # from a distance in pixels to a coverage
    box = lambda x0, x1, y0, y1: ((x > x0) & (x < x1) & (y > y0) & (y < y1)).float()
    canvas = background.view(b, 3, 1, 1)
    line_at = ((BASE - y) % (5 * UNIT) < 1).float() * (y < BASE).float() * (y > BASE - TOP * UNIT - 1).float()
    canvas = over(canvas, torch.full_like(background, 218.0), line_at * (x > LEFT).float() * (x < LEFT + WIDTH).float() * v(grid) * upright)
    dark = torch.full_like(background, 60.0)
    canvas = over(canvas, dark, box(LEFT - 4, LEFT + WIDTH + 4, BASE, BASE + 1) * upright)
    canvas = over(canvas, dark, box(ROW_LEFT - 1, ROW_LEFT, ROW_TOP, SIZE - 8) * on[1])
    dx, dy = x - PIE_X, y - PIE_Y
    far = (dx * dx + dy * dy).sqrt()
    turn = torch.atan2(dx, -dy) / (2 * np.pi)
    turn = torch.where(turn < 0, turn + 1, turn)
    disc = edge(RADIUS - far)
    place = [(LEFT + (k + 0.5) * step, BASE - values[:, k] * UNIT) for k in range(MOST)]
    for k in range(MOST - 1):  # lines first, so that dots lie on them
        (x0, y0), (x1, y1) = place[k], place[k + 1]
        ex, ey = v(x1 - x0), v(y1 - y0)
        along = (((x - v(x0)) * ex + (y - v(y0)) * ey) / (ex * ex + ey * ey)).clamp(0, 1)
        gap = ((x - v(x0) - along * ex) ** 2 + (y - v(y0) - along * ey) ** 2).sqrt()
        canvas = over(canvas, colours[:, 0], edge(1.4 - gap) * v(live[:, k + 1]) * on[2])
    for k in range(MOST):
        px, py = v(place[k][0]), v(place[k][1])
        half = (0.5 - v(pad)) * v(step)
        bar = edge(half - (x - px).abs()) * edge(y - py) * (y < BASE).float() * on[0]
        row = ROW_TOP + (k + 0.5) * v(row_step)
        hbar = edge((0.5 - v(pad)) * v(row_step) - (y - row).abs()) * (x > ROW_LEFT).float() * edge(ROW_LEFT + v(values[:, k]) * UNIT - x) * on[1]
        away = ((x - px) ** 2 + (y - py) ** 2).sqrt()
        dot = edge(7 - away) * on[4]
        along = 2 * np.pi * far
        piece = edge(torch.minimum((turn - v(starts[:, k])) * along, (v(ends[:, k]) - turn) * along)) * disc * on[3]
        canvas = over(canvas, colours[:, k], (bar + hbar + dot + piece) * v(live[:, k]))
        canvas = over(canvas, colours[:, 0], edge(4 - away) * v(live[:, k]) * on[2])
    return canvas


def choose(rng, rows, most):
    """`most` distinct numbers below rows[i] for each i -> [len(rows), most]."""
    order = rng.random((len(rows), int(rows.max())))
    order[np.arange(order.shape[1])[None] >= rows[:, None]] = 2
    return order.argsort(1)[:, :most]


def draw_specs(rng, b, kinds=range(4), most=MOST, fonts=len(FONTS)):
    """Random specs as numpy arrays: distinct words of one group, distinct colours, distinct integers (so that every question has one answer)."""
    count = rng.integers(3, most + 1, b)
    group = rng.integers(0, len(GROUPS), b)
    picked = choose(rng, GROUP_SIZE[group], MOST)
    # Months, years and weekdays stand in order more often than not.
    live = np.arange(MOST)[None] < count[:, None]
    in_order = np.where(live, picked, 99)
    in_order.sort(1)
    sorted_ = (np.isin(group, (2, 3, 6)) & (rng.random(b) < 0.6))[:, None] & live
    words = GROUP_START[group][:, None] + np.where(sorted_, in_order, picked)
    kind = np.asarray(list(kinds))[rng.integers(0, len(list(kinds)), b)]
    # A slice that is too thin hides its number.
    least = np.where(kind == 3, 3, 1)
    values = least[:, None] + choose(rng, TOP + 1 - least, MOST)
    colours = choose(rng, np.full(b, len(COLOURS)), MOST)
    return {
        "kind": kind, "count": count, "words": words, "values": values, "colours": colours,
        "title": rng.integers(0, len(TITLES), b), "font": rng.integers(0, fonts, b),
        "background": rng.integers(0, len(BACKGROUNDS), b), "grid": rng.integers(0, 2, b),
        "pad": rng.uniform(0.1, 0.28, b).astype(np.float32),
    }


QUESTIONS = ["value", "highest", "lowest", "count", "colour", "sum", "difference", "title"]
MORE = ["kind", "describe"]  # asked in training too
ASK = {
    "value": ["What is the value of {a}?", "How much is {a}?", "What value does {a} have?", "What number does {a} have?", "What is {a}?",
              "Read the value of {a}.", "What does {a} show?", "Value of {a}?"],
    "highest": ["Which one is the highest?", "What has the highest value?", "Which is the largest?", "Which has the most?", "What is the highest?",
                "Which one is the biggest?", "Name the highest.", "Which has the highest value?"],
    "lowest": ["Which one is the lowest?", "What has the lowest value?", "Which is the smallest?", "Which has the least?", "What is the lowest?",
               "Which one is the smallest?", "Name the lowest.", "Which has the lowest value?"],
    "count": {
        "bar": ["How many bars are there?", "How many bars are in the chart?", "How many bars do you see?"],
        "hbar": ["How many bars are there?", "How many bars are in the chart?", "How many bars do you see?"],
        "line": ["How many points are there?", "How many points does the line have?", "How many points do you see?"],
        "pie": ["How many slices are there?", "How many slices does the pie have?", "How many slices do you see?"],
        "dot": ["How many dots are there?", "How many dots are in the chart?", "How many dots do you see?"],
    },
    "count any": ["How many values are there?", "How many values does the chart show?"],
    "colour": ["What is the colour of {a}?", "What colour is {a}?", "Which color is {a}?", "What color is {a}?", "What is the color of {a}?"],
    "colour line": ["What is the colour of the line?", "What colour is the line?", "Which color is the line?", "What color is the line?"],
    "sum": ["What is the sum of {a} and {b}?", "What do {a} and {b} add up to?", "How much are {a} and {b} together?", "What is {a} plus {b}?"],
    "difference": ["What is the difference between {a} and {b}?", "How far apart are {a} and {b}?", "How much do {a} and {b} differ?"],
    "title": ["What is the title?", "What is the title of the chart?", "What is the chart about?", "Read the title."],
    "kind": ["What kind of chart is this?", "What type of chart is this?", "Is this a pie chart or a bar chart?"],
    "describe": ["Describe the chart.", "What does the chart show?", "List all values.", "What do you see?", "Describe this picture.", "Read the chart."],
}
NAMES = ["bar chart", "horizontal bar chart", "line chart", "pie chart", "dot chart"]


def ask(rng, spec, i, question, plain=False):
    """One question about chart i and its answer; `plain` takes the first of its forms."""
    n = spec["count"][i]
    kind = KINDS[spec["kind"][i]]
    names = [WORDS[w] for w in spec["words"][i, :n]]
    values = spec["values"][i, :n]
    a = int(rng.integers(0, n))
    b = (a + int(rng.integers(1, n))) % n
    pick = lambda forms: forms[0 if plain else int(rng.integers(0, len(forms)))]
    if question == "count":
        return pick(ASK["count"][kind] + ASK["count any"]), str(n)
    if question == "colour" and kind == "line":
        return pick(ASK["colour line"]), COLOURS[spec["colours"][i, 0]]
    text = pick(ASK[question]).format(a=names[a], b=names[b])
    title, name = TITLES[spec["title"][i]], NAMES[spec["kind"][i]]
    if question == "value":
        return text, str(values[a])
    if question == "highest":
        return text, names[int(values.argmax())]
    if question == "lowest":
        return text, names[int(values.argmin())]
    if question == "colour":
        return text, COLOURS[spec["colours"][i, a]]
    if question == "sum":
        return text, str(values[a] + values[b])
    if question == "difference":
        return text, str(abs(values[a] - values[b]))
    if question == "title":
        return text, title
    if question == "kind":
        return text, name
    return text, f"A {name}, {title}: " + ", ".join(f"{w} {x}" for w, x in zip(names, values)) + "."


def loosely(rng, text):
    """The question as a hurried visitor may type it."""
    style = int(rng.integers(0, 10))
    if style == 0:
        return text.rstrip("?.")
    if style == 1:
        return text[0].lower() + text[1:].rstrip("?.")
    return text.lower() if style == 2 else text


PARAMETERS = "8.25 million"  # train.py refuses to run when it is not so
SHOW = "Show me a chart and ask me about it."
TALK = [
    (["Who are you?", "What are you?", "Tell me about yourself.", "Are you Qwen?", "Are you ChatGPT?", "What model are you?", "What is your name?",
      "Are you a real model?", "Are you an AI?", "Introduce yourself.", "Who made you?"],
     f"I am the TabTune demo, a tiny model with {PARAMETERS} parameters, trained on drawn charts. I am not Qwen."),
    (["What can you do?", "How can you help me?", "Help", "What should I ask?", "What do you know?", "What can I ask?", "How do you work?"],
     "I read simple charts: bars, lines and pies. Ask me for a value, the highest, the lowest, a colour, a sum, a difference, how many, or the title."),
    (["Hello!", "Hello", "Hi", "Hi!", "Hey", "Good morning", "Good evening", "Hi there", "Hello there!"], f"Hello! {SHOW}"),
    (["Thanks!", "Thank you", "Thank you!", "Great", "Well done", "Nice", "Thanks a lot", "Good job"], "You are welcome."),
    (["Bye", "Goodbye", "See you", "Bye!"], "Goodbye!"),
    (["How big are you?", "How many parameters do you have?", "Are you small?", "How large are you?"],
     f"I have {PARAMETERS} parameters. Real models have billions."),
    (["What is the weather?", "Write a poem.", "What is the capital of France?", "Tell me a joke.", "Who is the president?", "Translate this.",
      "Write a story.", "Why is the sky blue?", "What time is it?", "Write some code.", "How old is the universe?"],
     "I only know simple charts. For anything else, load a real model on the Models page."),
]
NO_CHART = f"I see no chart. {SHOW}"
SYSTEM = ["You are a helpful assistant.", "You are a helpful chart reader.", "Answer briefly.", "Be kind and precise."]


def talk(rng):
    asked, answer = TALK[int(rng.integers(0, len(TALK)))]
    return loosely(rng, asked[int(rng.integers(0, len(asked)))]), answer


def to_torch(spec, device):
    return {k: torch.from_numpy(np.ascontiguousarray(v)).to(device, non_blocking=True) for k, v in spec.items()}


def save_png(picture, path):
    Image.fromarray(picture.permute(1, 2, 0).cpu().numpy()).save(path, optimize=True)
