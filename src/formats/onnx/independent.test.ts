import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { BlobFileSet } from "../blob_files.ts";
import { RecentReads } from "../recent_reads.ts";
import { rowFormat } from "../row_format.ts";
import { readSafetensors } from "../safetensors.ts";
import { readOnnxGraph } from "./graph.ts";
import { weightRows } from "./rows.ts";
import { findWeights } from "./weights.ts";

/*
 * Nodes that ONNX Runtime's quantizer made, and what ONNX Runtime computes with them: scripts/fixtures/onnx_blocks.py. Symmetric ones are
 * compared bit by bit; where a zero point becomes an offset in f32, that offset is rounded once.
 */
const at = (name: string) => readFileSync(`${import.meta.dirname}/../testdata/onnx/${name}`);
const files = new BlobFileSet("independent", [{ path: "blocks.onnx", file: new Blob([at("blocks.onnx")]) }]);
const expected = new Map(readSafetensors("expected.safetensors", at("expected.safetensors")).map((t) => [t.name, t]));

/** In the order of the script's cases: how each is kept, and whether that is to the bit. */
const CASES = [
  ["F32", true],
  ["F32", true],
  ["q4p32", true],
  ["q4p32", false],
  ["q4p32", true],
  ["q4p32", false],
  ["q8s16", true],
  ["q8p16", false],
  ["q8s32", true],
  ["q8p32", false],
  ["q8s32", true],
  ["q8p32", false],
  ["q4z32", true],
  ["q4z32", true],
  ["q4p32", true],
  ["q4p32", false],
] as const;

test.each(CASES.map(([dtype, isExact], layer) => [layer, dtype, isExact] as const))(
  "case %i is kept as %s with ONNX Runtime's values",
  async (layer, dtype, isExact) => {
    const { weights } = findWeights([await readOnnxGraph(files, "blocks.onnx")]);
    expect(weights.size).toBe(CASES.length);
    const name = `model.language_model.layers.${layer}.mlp.up_proj.weight`;
    const rows = weightRows(
      name,
      weights.get(name)!,
      ({ file, offset, bytes }, from = 0, length = bytes - from) => files.read(file, offset + from, length),
      new RecentReads(),
    );
    const { values, shape } = expected.get(`layers.${layer}`)!;
    expect(rows.info).toMatchObject({ dtype, shape });
    const [count, cols] = shape as [number, number];
    const { rowBytes, decode } = rowFormat(dtype)!;
    const out = new Float32Array(count * cols);
    // Row by row: zero points that are packed without a gap begin inside a byte.
    for (let r = 0; r < count; r++) {
      const raw = await rows.readRows(r, 1);
      expect(raw.length).toBe(rowBytes(cols));
      expect(decode(raw, cols, out.subarray(r * cols, (r + 1) * cols))).toBe(-1);
    }
    const largest = values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    const off = out.findIndex((value, i) => !(Math.abs(value - values[i]!) <= (isExact ? 0 : largest * 2 ** -22)));
    expect(off).toBe(-1);
  },
);
