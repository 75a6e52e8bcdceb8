"""Writes the example data set of the Train page: dot charts, a kind the demo model has never seen, asked about in German.

    python3 scripts/demo/write_dataset.py --seed 20261125 --out public/datasets/dots

Makes dots.zip with train.jsonl, test.jsonl and pictures/, in the form that TRL and the page read.
Needs torch (CPU is enough), numpy, pillow and the DejaVu fonts.
"""
import argparse
import io
import json
import os
import sys
import zipfile

import numpy as np
from PIL import Image

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import charts  # noqa: E402
from charts import ask, draw_specs, to_torch  # noqa: E402

GERMAN = {
    "highest": ["Wer liegt ganz oben?", "Wo ist der höchste Punkt?"],
    "lowest": ["Wer liegt ganz unten?", "Wo ist der tiefste Punkt?"],
    "count": ["Wie viele Punkte sind es?", "Zähle die Punkte."],
    "title": ["Wie heißt das Diagramm?", "Was steht oben?"],
}


def rows_of(rng, spec, i, path):
    for about, forms in GERMAN.items():
        answer = ask(rng, spec, i, about)[1]
        content = [{"type": "image", "image": path}, {"type": "text", "text": forms[int(rng.integers(0, len(forms)))]}]
        yield {"messages": [{"role": "user", "content": content},
                            {"role": "assistant", "content": [{"type": "text", "text": answer}]}]}


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--out", required=True)
    p.add_argument("--seed", type=int, required=True)
    p.add_argument("--train", type=int, default=40, help="charts to learn from; each is asked four questions")
    p.add_argument("--test", type=int, default=10, help="charts held back")
    a = p.parse_args()
    rng = np.random.default_rng(a.seed)
    spec = draw_specs(rng, a.train + a.test, kinds=[charts.KINDS.index("dot")])
    pictures = charts.Artist("cpu").render(to_torch(spec, "cpu"))
    files = {}
    for part, numbers in (("train", range(a.train)), ("test", range(a.train, a.train + a.test))):
        lines = []
        for i in numbers:
            path = f"pictures/dots-{i:03d}.png"
            png = io.BytesIO()
            # A palette of 64 colours is invisible here and makes a third of the size.
            Image.fromarray(pictures[i].permute(1, 2, 0).numpy()).quantize(64).save(png, "PNG", optimize=True)
            files[path] = png.getvalue()
            lines += [json.dumps(row, ensure_ascii=False) for row in rows_of(rng, spec, i, path)]
        files[f"{part}.jsonl"] = ("\n".join(lines) + "\n").encode()
    os.makedirs(a.out, exist_ok=True)
    with zipfile.ZipFile(f"{a.out}/dots.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(files):
            # A fixed time, so that the same seed gives the same file.
            archive.writestr(zipfile.ZipInfo(name, (2026, 11, 24, 0, 0, 0)), files[name], zipfile.ZIP_DEFLATED)
    print(f"{len(files) - 2} charts, {os.path.getsize(f'{a.out}/dots.zip')} bytes")


if __name__ == "__main__":
    main()
