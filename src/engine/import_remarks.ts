import {
  type Checkpoint,
  dequantizeRows,
  encodeRows,
  rowFormat,
  type SlotScheme,
  type TensorInfo,
  type WeightSlot,
} from "../formats/index.ts";

/** Tensors of a format, and rows of each, on which the error of quantizing anew is measured before an import. */
const SAMPLED_TENSORS = 3;
const SAMPLED_ROWS = 4;

interface Source {
  tensor: TensorInfo;
  slot: WeightSlot;
}

/**
 * What becomes of the weights of a checkpoint that comes quantized, for the visitor: how many are kept as they are, which are not and
 * what that costs, and what of the rest is quantized. Empty for a dense checkpoint. Reads a few rows of what is quantized anew.
 */
export async function quantizedRemarks(
  slots: readonly WeightSlot[],
  checkpoint: Checkpoint,
  signal?: AbortSignal,
): Promise<string[]> {
  const sources = slots.flatMap((slot) =>
    slot.sources.map(({ tensor }): Source => ({ tensor: checkpoint.tensors.get(tensor)!, slot })),
  );
  const quantized = sources.filter(({ tensor }) => formatOf(tensor) !== undefined);
  if (quantized.length === 0) return [];
  const remarks: string[] = [];
  for (const format of new Set(quantized.map(({ tensor }) => formatOf(tensor)!))) {
    const own = quantized.filter(({ tensor }) => formatOf(tensor) === format);
    const kept = own.filter(({ tensor, slot }) => isKept(tensor, slot.scheme));
    if (kept.length > 0) remarks.push(`Kept exactly: ${count(kept)} in ${format}.`);
    const changed = own.filter((source) => !kept.includes(source));
    for (const scheme of new Set(changed.map(({ slot }) => slot.scheme))) {
      const some = changed.filter(({ slot }) => slot.scheme === scheme);
      const error = await measure(some.slice(0, SAMPLED_TENSORS), checkpoint, signal);
      remarks.push(
        `Not kept exactly: ${count(some)} in ${format}, stored as ${scheme} with a relative error of ${error.toPrecision(2)} (RMS, measured on a sample).`,
      );
    }
  }
  const rest = sources.filter(({ tensor, slot }) => formatOf(tensor) === undefined && slot.scheme.startsWith("q4a"));
  if (rest.length > 0) {
    remarks.push(
      `Quantized to 4 bits: ${count(rest)} that the checkpoint keeps in 16 or 32 bits. Choose bf16 to keep them so.`,
    );
  }
  return remarks;
}

/** True when a slot stores exactly what the tensor's rows stand for. */
function isKept(tensor: TensorInfo, scheme: SlotScheme): boolean {
  return scheme === "f32" || tensor.dtype.toLowerCase() === scheme || isExact(tensor, scheme);
}

function isExact({ dtype }: TensorInfo, scheme: SlotScheme): boolean {
  return rowFormat(dtype)!.exact?.some((way) => way.scheme === scheme) ?? false;
}

/** The published format of a weight, for a person; undefined for one that was never quantized. */
function formatOf({ format, dtype }: TensorInfo): string | undefined {
  return format ?? (rowFormat(dtype)!.exact ? dtype : undefined);
}

function count(sources: readonly Source[]): string {
  return `${sources.length} ${sources.length === 1 ? "matrix" : "matrices"}`;
}

/** ‖stored − read‖ / ‖read‖ over the first rows of some tensors. */
async function measure(
  sources: readonly Source[],
  checkpoint: Checkpoint,
  signal: AbortSignal | undefined,
): Promise<number> {
  let error = 0;
  let norm = 0;
  for (const { tensor, slot } of sources) {
    const { cols, scheme } = slot;
    const rows = Math.min(SAMPLED_ROWS, tensor.shape[0]!);
    const raw = await checkpoint.readRows(tensor.name, 0, rows, signal);
    const job = { dtype: tensor.dtype, raw, rows, cols, tensor: tensor.name, row0: 0 };
    const read = dequantizeRows("f32", encodeRows({ ...job, scheme: "f32" }), rows, cols);
    const stored = dequantizeRows(scheme, encodeRows({ ...job, scheme }), rows, cols);
    read.forEach((value, i) => {
      error += (stored[i]! - value) ** 2;
      norm += value ** 2;
    });
  }
  return norm > 0 ? Math.sqrt(error / norm) : 0;
}
