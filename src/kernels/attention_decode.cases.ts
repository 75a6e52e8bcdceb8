import { type AttentionShape, attentionLabel, attentionReference, costs, kernelOf } from "./attention.cases.ts";
import { decodeAttention, decodeScratchBytes } from "./attention_decode.ts";
import { keptRow, randomCache } from "./cache.cases.ts";
import { cacheRowBytes } from "./cache.ts";
import type { Bench, BuiltCase, KernelCase } from "./case.ts";
import { ropeInputs, ropeReference, ropeUploads, STORED } from "./rope.cases.ts";
import { sliceFrom } from "./source.ts";

/** `past` is the slot. */
interface Shape extends AttentionShape {
  /** The slot is the last one of the cache. */
  full?: boolean;
}

/** `stored`: compares what is in the cache afterwards, else o. */
function buildDecode(bench: Bench, s: Shape, stored: boolean): BuiltCase {
  const { heads, kvHeads, d, past: slot = 0, cacheType = "f32" } = s;
  const capacity = slot + (s.full ? 1 : 70);
  const scale = s.sharp ? 30 : 1;
  const section = Math.floor(d / 6);
  const sections = [d / 2 - 2 * section, section, section] as const;
  const rotation = ropeInputs({ tokens: 1, heads, kvHeads, d, cacheType, sections }, () => bench.random());
  const norms = Float32Array.from(rotation.norms, (w) => w * scale);
  const { positions } = rotation;
  const inputs = { ...rotation, norms, capacity };
  positions[3] = slot;
  const qkv = bench.values((heads + 2 * kvHeads) * d, 2);
  const k = randomCache(bench, cacheType, kvHeads * capacity, d, scale);
  const v = randomCache(bench, cacheType, kvHeads * capacity, d, 1);
  const reference = ropeReference(inputs, qkv);
  const outputs: BuiltCase["outputs"] = [];
  for (const [name, to] of [
    ["k", k],
    ["v", v],
  ] as const) {
    const cache = { type: cacheType, d };
    const rows = Array.from({ length: kvHeads }, (_, h) => h * capacity + slot);
    for (const row of rows) {
      const exact = reference[name].subarray(row * d, (row + 1) * d);
      to.values.set(keptRow(cacheType, exact), row * d);
      const slice = sliceFrom(to.slice, row * cacheRowBytes(cacheType, d));
      outputs.push({ name: `${name}, row ${row}`, slice, expected: exact, cache });
    }
    outputs.push({ name, slice: to.slice, expected: to.values, cache });
  }
  const { o: expected } = attentionReference(s, reference.q, k.values, v.values, capacity);
  // What an earlier answer left behind the new key must count for nothing, whatever it is. (Shorter rows are read beyond their end.)
  if (cacheType === "f32" && d === 128 && !stored) {
    const left = new Float32Array((capacity - slot - 1) * d).fill(Number.NaN);
    for (const { slice } of [k, v]) {
      for (let h = 0; h < kvHeads; h++) bench.gpu.write(slice, left, (h * capacity + slot + 1) * d * 4);
    }
  }
  const o = bench.empty(expected.length);
  const partial = bench.empty(decodeScratchBytes({ heads, d, capacity }) / 4);
  const options = { ...ropeUploads(bench, inputs, qkv), k: k.slice, v: v.slice, cacheType, partial, o, sections };
  return {
    // For more keys than there are: a surplus workgroup must leave everything as it is.
    record: (program) => decodeAttention(program, { ...options, norms: options.norms! }).keys(capacity),
    outputs: stored ? outputs : [{ name: "o", slice: o, expected }],
  };
}

// Keys are cached in fewer bits only where one code of the new key that is rounded the other way is lost among the rest.
const decode: Shape[] = [
  { tokens: 1, heads: 4, kvHeads: 1, d: 128, past: 0 },
  { tokens: 1, heads: 8, kvHeads: 2, d: 128, past: 63, full: true },
  { tokens: 1, heads: 8, kvHeads: 2, d: 64, past: 64 },
  { tokens: 1, heads: 4, kvHeads: 2, d: 32, past: 300 },
  { tokens: 1, heads: 2, kvHeads: 1, d: 16, past: 5, sharp: true },
  { tokens: 1, heads: 16, kvHeads: 2, d: 128, past: 130 },
  { tokens: 1, heads: 2, kvHeads: 2, d: 80, past: 6 },
  // Slices of two steps, the last one not full.
  { tokens: 1, heads: 3, kvHeads: 3, d: 20, past: 8300 },
  { tokens: 1, heads: 8, kvHeads: 2, d: 128, past: 300, cacheType: "i8" },
  { tokens: 1, heads: 8, kvHeads: 1, d: 64, past: 191, cacheType: "i8", full: true },
  { tokens: 1, heads: 4, kvHeads: 2, d: 72, past: 256, cacheType: "i8" },
  { tokens: 1, heads: 2, kvHeads: 2, d: 8, past: 16400, cacheType: "i8" },
  { tokens: 1, heads: 8, kvHeads: 2, d: 128, past: 255, cacheType: "f16" },
  { tokens: 1, heads: 4, kvHeads: 2, d: 36, past: 320, cacheType: "f16" },
];

export const attentionDecodeCases: KernelCase[] = [
  ...decode.map((s) => ({
    kernel: kernelOf("attention_decode", s),
    shape: attentionLabel(s),
    tolerance: s.sharp ? 2e-3 : 1e-5,
    ...costs(s),
    build: (bench: Bench) => buildDecode(bench, s, false),
  })),
  ...decode.map((s) => ({
    kernel: kernelOf("attention_decode", s),
    shape: `what is stored, ${attentionLabel(s)}`,
    tolerance: STORED[s.cacheType ?? "f32"],
    ...costs(s),
    build: (bench: Bench) => buildDecode(bench, s, true),
  })),
];
