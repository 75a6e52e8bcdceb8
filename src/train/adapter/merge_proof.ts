import { TabTuneError, throwIfCancelled } from "../../errors.ts";
import { type Checkpoint, decodeFloats, type WeightDtype } from "../../formats/index.ts";
import { type Adapter, type LoraPair, scaleOf } from "./adapter.ts";
import { canonicalName } from "./peft.ts";

/** What rounding to a type may change an output by, relative: half a unit in the last place of each weight, and some room. */
const MOST_DIFFERENCE: Record<string, number> = { BF16: 2 ** -8, F16: 2 ** -11, F32: 2 ** -22 };
/** Rows that are read at once. */
const CHUNK_BYTES = 8 << 20;

/** Rows of W x in float64. */
async function product(checkpoint: Checkpoint, name: string, row0: number, rows: number, x: Float64Array) {
  const { dtype } = checkpoint.tensors.get(name)!;
  const raw = await checkpoint.readRows(name, row0, rows);
  const values = new Float32Array(rows * x.length);
  decodeFloats(dtype as WeightDtype, raw, values.length, values);
  return Float64Array.from({ length: rows }, (_, i) => {
    let sum = 0;
    for (let c = 0; c < x.length; c++) sum += values[i * x.length + c]! * x[c]!;
    return sum;
  });
}

/** ‖W′x − (Wx + s·B(Ax))‖ / ‖Wx + s·B(Ax)‖ for one fixed x. */
async function layerDifference(
  [original, merged]: readonly [Checkpoint, Checkpoint],
  [from, to]: readonly [string, string],
  { r, a, b }: LoraPair,
  scale: number,
  signal?: AbortSignal,
): Promise<number> {
  const cols = a.length / r;
  const x = Float64Array.from({ length: cols }, (_, i) => Math.sin(1 + 2.4 * i));
  const down = Float64Array.from({ length: r }, (_, k) => x.reduce((sum, v, c) => sum + v * a[k * cols + c]!, 0));
  const total = b.length / r;
  const step = Math.max(1, Math.floor(CHUNK_BYTES / (4 * cols)));
  let difference = 0;
  let size = 0;
  for (let row0 = 0; row0 < total; row0 += step) {
    throwIfCancelled(signal);
    const rows = Math.min(step, total - row0);
    const [plain, found] = [await product(original, from, row0, rows, x), await product(merged, to, row0, rows, x)];
    for (let i = 0; i < rows; i++) {
      const wanted = plain[i]! + scale * down.reduce((sum, u, k) => sum + u * b[(row0 + i) * r + k]!, 0);
      difference += (found[i]! - wanted) ** 2;
      size += wanted ** 2;
    }
  }
  return Math.sqrt(difference / (size || 1));
}

/**
 * Compares a merged checkpoint, as it was written, with the original and its adapter: every adapted layer must answer one fixed input
 * as the original with the adapter on does, up to the rounding of its type. Two checkpoints at once would be too much for a GPU.
 * Throws `Internal` that names the layer, `Cancelled`. @returns layers compared, and the largest relative difference
 */
export async function proveMerged(
  original: Checkpoint,
  merged: Checkpoint,
  adapter: Adapter,
  signal?: AbortSignal,
): Promise<{ layers: number; difference: number }> {
  const named = ({ tensors }: Checkpoint) => new Map([...tensors.keys()].map((name) => [canonicalName(name), name]));
  const [from, to] = [named(original), named(merged)];
  let largest = 0;
  for (const pair of adapter.pairs) {
    const names = [from.get(`${pair.module}.weight`) ?? "", to.get(`${pair.module}.weight`) ?? ""] as const;
    const limit = MOST_DIFFERENCE[merged.tensors.get(names[1])?.dtype ?? ""];
    const found =
      limit === undefined
        ? Number.POSITIVE_INFINITY
        : await layerDifference([original, merged], names, pair, scaleOf(pair, adapter.rslora), signal);
    if (limit === undefined || !(found <= limit)) {
      throw new TabTuneError(
        "Internal",
        `The merged model was read back, and ${pair.module} answers differently from the adapter: off by ${found.toExponential(1)}, at most ${limit?.toExponential(1)} comes from rounding. Do not use these files; merge again into another folder.`,
      );
    }
    largest = Math.max(largest, found);
  }
  return { layers: adapter.pairs.length, difference: largest };
}
