"""Writes fresh charts with questions and answers: one PNG a chart and a list.

    python3 scripts/demo/write_charts.py --per-kind 4 --seed 20261124 --out e2e/demo_charts
    python3 scripts/demo/write_charts.py --examples --seed 7 --out public/examples

The list of a test set, charts.json, is read by e2e/demo_accuracy.ts; that of the page's examples, index.json, by the page.
Needs torch (CPU is enough), numpy, pillow and the DejaVu fonts. Training draws its charts from other seeds (1000 and up to some thousands).
"""
import argparse
import json
import os
import sys

import numpy as np

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import charts  # noqa: E402
from charts import ask, draw_specs, save_png, to_torch  # noqa: E402

# kind, title, group of words (see charts.GROUPS), categories, what is asked
EXAMPLES = [
    ("bar", "Fruit sales", 0, 5, ["highest", "value", "describe"]), ("line", "Train trips", 2, 6, ["difference", "lowest", "count"]),
    ("pie", "Pet votes", 1, 4, ["colour", "value", "lowest"]), ("hbar", "Ticket orders", 4, 5, ["sum", "highest", "describe"]),
    ("line", "Book prices", 3, 5, ["value", "colour", "title"]), ("pie", "Music scores", 5, 5, ["sum", "highest", "count"]),
]


def write(out, name, picture):
    save_png(picture, f"{out}/{name}")
    return name


def test_set(artist, rng, out, per_kind, kinds):
    """`per_kind` charts of each kind, every question once to each."""
    rows = []
    for kind in kinds:
        spec = draw_specs(rng, per_kind, kinds=[charts.KINDS.index(kind)])
        pictures = artist.render(to_torch(spec, "cpu"))
        for i in range(per_kind):
            asked = [(question, *ask(rng, spec, i, question)) for question in charts.QUESTIONS]
            rows.append({
                "file": write(out, f"{kind}-{i}.png", pictures[i]), "kind": kind,
                "questions": [{"about": about, "question": text, "answer": answer} for about, text, answer in asked],
            })
    return rows


def examples(artist, rng, out):
    rows = []
    for number, (kind, title, group, count, about) in enumerate(EXAMPLES):
        spec = draw_specs(rng, 1, kinds=[charts.KINDS.index(kind)])
        words = rng.permutation(charts.GROUP_SIZE[group])[: charts.MOST]
        spec["words"][0] = charts.GROUP_START[group] + (np.sort(words) if group in (2, 3) else words)
        spec["title"][0], spec["count"][0] = charts.TITLES.index(title), count
        rows.append({
            "file": write(out, f"{kind}-{number + 1}.png", artist.render(to_torch(spec, "cpu"))[0]),
            "title": f"{title}, a {charts.NAMES[charts.KINDS.index(kind)]}", "questions": [ask(rng, spec, 0, q, plain=True)[0] for q in about],
        })
    return rows


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--out", required=True)
    p.add_argument("--seed", type=int, required=True)
    p.add_argument("--per-kind", type=int, default=4)
    p.add_argument("--kinds", nargs="+", default=charts.TRAINED, choices=charts.KINDS)
    p.add_argument("--examples", action="store_true", help="the page's example charts instead of a test set")
    a = p.parse_args()
    os.makedirs(a.out, exist_ok=True)
    artist, rng = charts.Artist("cpu"), np.random.default_rng(a.seed)
    rows = examples(artist, rng, a.out) if a.examples else test_set(artist, rng, a.out, a.per_kind, a.kinds)
    with open(f"{a.out}/{'index' if a.examples else 'charts'}.json", "w") as file:
        file.write(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
