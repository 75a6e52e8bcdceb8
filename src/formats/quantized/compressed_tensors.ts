import { TabTuneError } from "../../errors.ts";
import type { TensorInfo } from "../checkpoint.ts";
import { groupOf, int4Rows, int4Scheme, wordsOf } from "./int4.ts";
import {
  badPart,
  floatsOf,
  moduleOf,
  part,
  type QuantizedWeight,
  quantizationConfig,
  type RawTensors,
  weightInfo,
} from "./raw_tensors.ts";

const PACKED = ".weight_packed";
const FORMAT = "compressed-tensors";

/** Weights of llm-compressor's `pack-quantized` in 4 bits, symmetric or not, per group or channel. Source: checkpoint-formats.md §3.1. */
export async function readCompressedTensors(raw: RawTensors): Promise<QuantizedWeight[]> {
  return [...raw.tensors.values()].flatMap((packed) => {
    const module = moduleOf(packed.name, PACKED);
    return module === undefined ? [] : [readWeight(raw, module, packed)];
  });
}

function readWeight(raw: RawTensors, module: string, packed: TensorInfo): QuantizedWeight {
  const config = quantizationConfig(raw.config);
  checkConfig(config, packed);
  const [out, rowWords] = packed.shape as [number, number];
  const cols = rowWords * 8;
  const scales = part(raw, `${module}.weight_scale`, [out, -1]);
  const groups = scales.shape[1]!;
  const group = groupOf(cols, groups, scales.name, undefined);
  const shape = raw.tensors.get(`${module}.weight_shape`);
  const zeros = raw.tensors.get(`${module}.weight_zero_point`);
  if (zeros) part(raw, zeros.name, [Math.ceil(out / 8), groups]);
  else if (isAsymmetric(config)) {
    throw badPart(
      `${module}.weight_zero_point`,
      "expected zero points, since the config says that they are not all zero, found none",
    );
  }
  const order = raw.tensors.get(`${module}.weight_g_idx`);
  if (order) {
    throw new TabTuneError(
      "BadCheckpoint",
      `${order.name}: compressed-tensors with groups ordered by activation cannot be read. Choose a checkpoint without "actorder": "group".`,
    );
  }
  const scheme = int4Scheme(scales, group, cols);
  const scaleBytes = groups * (scales.dtype === "F32" ? 4 : 2);
  return {
    info: weightInfo(`${module}.weight`, packed, [out, cols], scheme ?? "F32", FORMAT),
    parts: [packed, scales, shape, zeros].flatMap((tensor) => (tensor ? [tensor.name] : [])),
    async readRows(row0, rows, signal) {
      // Zero points are packed over eight rows.
      const [zero0, zeroEnd] = [row0 >> 3, (row0 + rows + 7) >> 3];
      const [codeBytes, scaleRows, zeroRows] = await Promise.all([
        raw.read(packed, row0 * rowWords * 4, rows * rowWords * 4, signal),
        raw.read(scales, row0 * scaleBytes, rows * scaleBytes, signal),
        zeros ? raw.read(zeros, zero0 * groups * 4, (zeroEnd - zero0) * groups * 4, signal) : undefined,
      ]);
      const codes = wordsOf(codeBytes);
      const scale = floatsOf(scales, scaleRows);
      const zero = zeroRows ? wordsOf(zeroRows) : undefined;
      return int4Rows(scheme, rows, cols, {
        group,
        codes(images) {
          for (let r = 0; r < rows; r++) {
            for (let i = 0; i < rowWords; i++) images.setNibbles(r, i, codes[r * rowWords + i]!);
          }
        },
        scale: (r, g) => scale[r * groups + g]!,
        zero(r, g) {
          if (!zero) return 8;
          const row = row0 + r;
          return (zero[((row >> 3) - zero0) * groups + g]! >>> (4 * (row & 7))) & 15;
        },
      });
    },
  };
}

/** Groups of a config are objects with the settings of their weights. */
function weightSettings(config: Record<string, unknown>): Record<string, unknown>[] {
  const groups = Object.values((config.config_groups ?? {}) as Record<string, { weights?: unknown } | null>);
  return groups.map((group) => (group?.weights ?? {}) as Record<string, unknown>);
}

function isAsymmetric(config: Record<string, unknown>): boolean {
  const settings = weightSettings(config);
  return settings.length > 0 && settings.every(({ symmetric }) => symmetric === false);
}

function checkConfig(config: Record<string, unknown>, packed: TensorInfo): void {
  const bits = weightSettings(config).map(({ num_bits: bits }) => bits);
  const format = config.format ?? "pack-quantized";
  if (packed.dtype === "I32" && packed.shape.length === 2 && format === "pack-quantized" && !bits.some((b) => b !== 4))
    return;
  throw new TabTuneError(
    "BadCheckpoint",
    `${packed.name}: expected compressed-tensors in the format pack-quantized with 4 bits, found ${String(format)}, ${packed.dtype} and ${bits.join(", ") || "no"} bits. Choose a 4-bit (W4A16) checkpoint or the original one.`,
  );
}
