import { TabTuneError } from "../../errors.ts";
import { rowFormat } from "../row_format.ts";
import { readAwqAndGptq } from "./awq_gptq.ts";
import { readBitsAndBytes } from "./bitsandbytes.ts";
import { readCompressedTensors } from "./compressed_tensors.ts";
import { readFp8 } from "./fp8.ts";
import { readMlx } from "./mlx.ts";
import {
  checkRow,
  type QuantizedReader,
  type QuantizedWeight,
  quantizationConfig,
  type RawTensors,
} from "./raw_tensors.ts";

const READERS: readonly QuantizedReader[] = [readBitsAndBytes, readCompressedTensors, readAwqAndGptq, readMlx, readFp8];

/** Formats that are refused, by tensors that only they have. */
const REFUSED: readonly [sign: RegExp, name: string, instead: string][] = [
  [/\.SCB$|\.weight_format$/, "bitsandbytes in 8 bits", "a bitsandbytes 4-bit (bnb-4bit) checkpoint"],
  [/\.W_q$/, "HQQ", "an AWQ, GPTQ or bitsandbytes 4-bit checkpoint"],
  [/\.codebooks$/, "AQLM", "an AWQ, GPTQ or bitsandbytes 4-bit checkpoint"],
  [/\.weight_scale_2$|\.weight_global_scale$/, "NVFP4", "an FP8, AWQ or GPTQ checkpoint"],
];

/**
 * The weights of a checkpoint that are quantized in one of the published formats. The tensors that are there decide, module by module;
 * lists in the config are not asked. Throws `BadCheckpoint` naming a format that cannot be read.
 */
export async function readQuantized(raw: RawTensors, signal?: AbortSignal): Promise<QuantizedWeight[]> {
  for (const name of raw.tensors.keys()) {
    const refused = REFUSED.find(([sign]) => sign.test(name));
    if (refused) throw notRead(refused[1], name, refused[2]);
  }
  const found: QuantizedWeight[] = [];
  for (const read of READERS) found.push(...(await read(raw, signal)));
  for (const { info, parts } of found) {
    checkRow(
      info,
      parts.reduce((sum, part) => sum + (raw.tensors.get(part)?.bytes ?? 0), 0),
    );
  }
  const parts = new Set(found.flatMap((weight) => weight.parts));
  const method = quantizationConfig(raw.config).quant_method;
  const strange = [...raw.tensors.values()].find(
    ({ name, dtype }) => name.endsWith(".weight") && !parts.has(name) && !rowFormat(dtype),
  );
  if (strange && typeof method === "string") {
    throw notRead(`quantization "${method.slice(0, 40)}"`, `${strange.name} (${strange.dtype})`, "another form");
  }
  return found;
}

function notRead(format: string, name: string, instead: string): TabTuneError {
  return new TabTuneError(
    "BadCheckpoint",
    `${name} is stored in ${format}, which cannot be read. Choose ${instead}, or the original checkpoint in BF16.`,
  );
}
