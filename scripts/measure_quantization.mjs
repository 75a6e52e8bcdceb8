// node scripts/measure_quantization.mjs DIR [--match REGEX] [--rows N]
//
// Measures ways of storing weights in about 4 bits on the matrices of a safetensors checkpoint: stored bits per weight, relative error
// (root mean square over all weights / root mean square of the weights) and speed on one thread. The affine schemes are the app's own
// code; symmetric groups and NF4 are written out here as the candidates that were not taken.
import { openAsBlob, readdirSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { runnerImport } from "vite";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    match: { type: "string", default: "(embed_tokens|lm_head|_proj)\\.weight$" },
    rows: { type: "string", default: "100000" },
  },
});
if (!positionals[0]) {
  console.error("usage: node scripts/measure_quantization.mjs DIR [--match REGEX] [--rows N]");
  process.exit(2);
}
const load = async (path) => (await runnerImport(join(import.meta.dirname, path), { logLevel: "error" })).module;
const { BlobFileSet, openCheckpoint, rowLayout } = await load("../src/formats/index.ts");
const { dequantizeRows, encodeRows } = await load("../src/formats/quant/rows.ts");
const { f16ToF32, f32ToF16 } = await load("../src/formats/dtype.ts");
const roundF16 = (x) => f16ToF32(f32ToF16(x));

const affine = (scheme, search) => (row) => {
  const job = { scheme, dtype: "F32", rows: 1, cols: row.length, tensor: "", row0: 0 };
  const planes = encodeRows({ ...job, raw: new Uint8Array(row.buffer) }, search);
  const layout = rowLayout(scheme, row.length);
  return { values: dequantizeRows(scheme, planes, 1, row.length), bits: 8 * (layout.codesBytes + layout.metaBytes) };
};

/** Codes -8…7 times an f16 scale; the scale is searched on a grid of both signs, each refined by least squares. */
const symmetric = (group) => (row) => {
  const out = new Float32Array(row.length);
  let bits = 0;
  for (let start = 0; start < row.length; start += group) {
    const w = row.subarray(start, start + group);
    const largest = w.reduce((a, x) => (Math.abs(x) > Math.abs(a) ? x : a), 0);
    let best = { error: Number.POSITIVE_INFINITY, scale: 0 };
    for (let step = 0; step < 12 && largest !== 0; step++) {
      let scale = -largest / (8.4 - 0.15 * step);
      for (let round = 0; round < 2; round++) {
        let cc = 0;
        let cw = 0;
        for (const x of w) {
          const c = Math.max(-8, Math.min(7, Math.round(x / scale)));
          cc += c * c;
          cw += c * x;
        }
        if (cc > 0 && cw !== 0) scale = cw / cc;
      }
      scale = roundF16(scale);
      if (scale === 0) continue;
      let error = 0;
      for (const x of w) error += (x - scale * Math.max(-8, Math.min(7, Math.round(x / scale)))) ** 2;
      if (error < best.error) best = { error, scale };
    }
    for (let i = 0; i < w.length; i++) {
      out[start + i] = best.scale && best.scale * Math.max(-8, Math.min(7, Math.round(w[i] / best.scale)));
    }
    bits += 4 * group + 16;
  }
  return { values: out, bits };
};

/** The sixteen NF4 levels (checkpoint-formats.md §2.3). */
const NF4 = [
  -1, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
  -0.09105003625154495, 0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
  0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1,
];
const nearest = (x) => NF4.reduce((best, level) => (Math.abs(level - x) < Math.abs(best - x) ? level : best), NF4[0]);
const nf4 = (group, scaleBits) => (row) => {
  const out = new Float32Array(row.length);
  let bits = 0;
  for (let start = 0; start < row.length; start += group) {
    const w = row.subarray(start, start + group);
    const largest = w.reduce((a, x) => Math.max(a, Math.abs(x)), 0);
    const scale = scaleBits === 16 ? roundF16(largest) : largest;
    for (let i = 0; i < w.length; i++) out[start + i] = scale && scale * nearest(w[i] / scale);
    bits += 4 * group + scaleBits;
  }
  return { values: out, bits };
};

const schemes = {
  ...Object.fromEntries([0, 1, 2, 3, 5].map((n) => [`affine g32, search ${n}`, affine("q4a32", n)])),
  ...Object.fromEntries([0, 1, 2, 3, 5].map((n) => [`affine g64, search ${n}`, affine("q4a64", n)])),
  "symmetric g32, searched": symmetric(32),
  "symmetric g64, searched": symmetric(64),
  "NF4 g64, f32 scale": nf4(64, 32),
  "NF4 g64, f16 scale": nf4(64, 16),
  "NF4 g32, f16 scale": nf4(32, 16),
};

const folder = positionals[0];
const names = readdirSync(folder).filter((name) => /\.(safetensors|json)$/.test(name));
const parts = await Promise.all(names.map(async (path) => ({ path, file: await openAsBlob(join(folder, path)) })));
const checkpoint = await openCheckpoint(new BlobFileSet("measured", parts));
const totals = Object.fromEntries(Object.keys(schemes).map((name) => [name, { error: 0, bits: 0, seconds: 0 }]));
let norm = 0;
let fourth = 0;
let count = 0;
for (const { name, shape, dtype } of checkpoint.tensors.values()) {
  if (!new RegExp(values.match).test(name) || shape.length !== 2) continue;
  const [rows, cols] = shape;
  const step = Math.max(1, Math.ceil(rows / Number(values.rows)));
  for (let r = 0; r < rows; r += step) {
    const raw = await checkpoint.readRows(name, r, 1);
    const planes = encodeRows({ scheme: "f32", dtype, raw, rows: 1, cols, tensor: name, row0: r });
    const row = new Float32Array(planes.codes.buffer);
    for (const x of row) {
      norm += x * x;
      fourth += x ** 4;
    }
    count += cols;
    for (const [scheme, run] of Object.entries(schemes)) {
      const started = performance.now();
      const found = run(row);
      totals[scheme].seconds += (performance.now() - started) / 1000;
      totals[scheme].bits += found.bits;
      for (let k = 0; k < cols; k++) totals[scheme].error += (row[k] - found.values[k]) ** 2;
    }
  }
}
console.log(
  `${count} weights, rms ${Math.sqrt(norm / count).toExponential(3)}, kurtosis ${((fourth * count) / norm ** 2).toFixed(2)} (a normal distribution has 3)`,
);
console.log("scheme | bits per weight | relative error | dB below the weights | dB per bit");
for (const [scheme, { error, bits }] of Object.entries(totals)) {
  const decibels = -10 * Math.log10(error / norm);
  const perWeight = bits / count;
  console.log(
    `${scheme} | ${perWeight.toFixed(3)} | ${Math.sqrt(error / norm).toFixed(5)} | ${decibels.toFixed(2)} | ${(decibels / perWeight).toFixed(3)}`,
  );
}
