import { TabTuneError } from "../../errors.ts";
import type { TensorInfo } from "../checkpoint.ts";
import {
  badPart,
  floatsOf,
  once,
  part,
  type QuantizedWeight,
  quantizationConfig,
  type RawTensors,
  weightInfo,
} from "./raw_tensors.ts";
import { RowImages } from "./row_images.ts";

/**
 * Weights in 8-bit floats (e4m3) with one factor for each block of rows and columns, as Qwen publishes them:
 * weight = code * weight_scale_inv of its block.
 */
export async function readFp8(raw: RawTensors): Promise<QuantizedWeight[]> {
  return [...raw.tensors.values()].filter(({ dtype }) => dtype === "F8_E4M3").map((codes) => readWeight(raw, codes));
}

function readWeight(raw: RawTensors, codes: TensorInfo): QuantizedWeight {
  const scales = raw.tensors.get(`${codes.name}_scale_inv`);
  if (!scales || codes.shape.length !== 2) {
    throw new TabTuneError(
      "BadCheckpoint",
      `${codes.name}: expected FP8 with a factor for each block (${codes.name}_scale_inv), found none. Choose Qwen's own FP8 checkpoint or the original one.`,
    );
  }
  const [out, cols] = codes.shape as [number, number];
  const [blockRows, blockCols] = blockSize(raw, scales);
  const perRow = Math.ceil(cols / blockCols);
  part(raw, scales.name, [Math.ceil(out / blockRows), perRow]);
  const factors = once(async (signal) => floatsOf(scales, await raw.read(scales, 0, undefined, signal)));
  return {
    info: weightInfo(codes.name, codes, [out, cols], "f8s64", "FP8"),
    parts: [codes.name, scales.name],
    async readRows(row0, rows, signal) {
      const [bytes, factor] = await Promise.all([raw.read(codes, row0 * cols, rows * cols, signal), factors(signal)]);
      const images = new RowImages("f8s64", rows, cols);
      for (let r = 0; r < rows; r++) {
        images.setBytes(r, bytes.subarray(r * cols, (r + 1) * cols));
        const block = Math.floor((row0 + r) / blockRows) * perRow;
        images.setMeta(
          r,
          blockCols,
          (g) => factor[Math.min(block + g, block + perRow - 1)]!,
          () => 0,
        );
      }
      return images.bytes;
    },
  };
}

function blockSize(raw: RawTensors, scales: TensorInfo): [rows: number, cols: number] {
  const wanted = quantizationConfig(raw.config).weight_block_size ?? [128, 128];
  const isPair = Array.isArray(wanted) && wanted.length === 2 && wanted.every((n) => Number.isSafeInteger(n) && n > 0);
  if (!isPair || wanted[1] % 64 !== 0) {
    throw badPart(scales.name, `expected blocks of a multiple of 64 columns, found ${JSON.stringify(wanted)}`);
  }
  return wanted as [number, number];
}
