import { type Checkpoint, encodeRows } from "../src/formats/index.ts";
import { dequantizeRows } from "../src/formats/quant/planes.ts";
import { parseConfig, weightSlots } from "../src/models/index.ts";
import type { ReferenceWeights } from "./reference_model.ts";

/** The weights that the GPU holds after an import of plain ones in a scheme, by their names in the checkpoint. */
export async function gpuWeights(
  checkpoint: Checkpoint,
  scheme: "bf16" | "q4a32" | "q4a64",
): Promise<ReferenceWeights> {
  const out = new Map<string, { shape: readonly number[]; data: Float32Array }>();
  for (const slot of weightSlots(parseConfig(checkpoint.config), checkpoint, scheme)) {
    for (const { tensor, rows } of slot.sources) {
      const { shape, dtype } = checkpoint.tensors.get(tensor)!;
      const raw = await checkpoint.readRows(tensor, 0, shape[0]!);
      const { cols } = slot;
      const job = { scheme: slot.scheme, dtype, raw, rows, cols, tensor, row0: 0 };
      out.set(tensor, { shape, data: dequantizeRows(slot.scheme, encodeRows(job), rows, cols) });
    }
  }
  return out;
}
