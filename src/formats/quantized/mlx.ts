import { TabTuneError } from "../../errors.ts";
import type { TensorInfo } from "../checkpoint.ts";
import type { GroupedScheme } from "../weight_slot.ts";
import { groupOf, wordsOf } from "./int4.ts";
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
import { RowImages } from "./row_images.ts";

const SCALES = ".scales";
const PATCHES = "patch_embed.proj.weight";

/**
 * Weights that MLX quantized to 4 or 8 bits, value = code * scale + bias of the group, and the patch embedding, whose channels MLX
 * keeps last. Source: checkpoint-formats.md §5.
 */
export async function readMlx(raw: RawTensors): Promise<QuantizedWeight[]> {
  const found: QuantizedWeight[] = [];
  for (const tensor of raw.tensors.values()) {
    const module = moduleOf(tensor.name, SCALES);
    if (module !== undefined && raw.tensors.get(`${module}.weight`)?.dtype === "U32")
      found.push(readWeight(raw, module));
    // Two frames of square patches in three colours: [width, 2, p, p, 3] here, [width, 3, 2, p, p] elsewhere.
    const { shape } = tensor;
    if (tensor.name.endsWith(PATCHES) && shape.length === 5 && shape[4] === 3 && shape[1] !== 3) {
      found.push(channelsFirst(raw, tensor));
    }
  }
  return found;
}

function readWeight(raw: RawTensors, module: string): QuantizedWeight {
  const codes = part(raw, `${module}.weight`, [-1, -1]);
  const [out, rowWords] = codes.shape as [number, number];
  const scales = part(raw, `${module}${SCALES}`, [out, -1]);
  const biases = raw.tensors.get(`${module}.biases`);
  const { bits, group_size: groupSize, mode = "affine" } = settings(raw, module);
  const cols = (rowWords * 32) / Number(bits);
  if (!biases || mode !== "affine" || (bits !== 4 && bits !== 8)) {
    throw new TabTuneError(
      "BadCheckpoint",
      `${codes.name}: expected MLX's affine mode in 4 or 8 bits, found ${String(mode)} in ${String(bits)} bits${biases ? "" : " without biases"}. Choose a checkpoint in 4 or 8 bits, or the original one.`,
    );
  }
  part(raw, biases.name, scales.shape);
  if (biases.dtype !== scales.dtype)
    throw badPart(biases.name, `expected ${scales.dtype} as the scales, found ${biases.dtype}`);
  const groups = scales.shape[1]!;
  const group = groupOf(cols, groups, scales.name, groupSize);
  if (group % 32 !== 0) throw badPart(scales.name, `expected groups of 32, 64 or 128, found ${group}`);
  const scheme = mlxScheme(bits, group, scales.dtype);
  const metaBytes = groups * (scales.dtype === "F32" ? 4 : 2);
  return {
    info: weightInfo(codes.name, codes, [out, cols], scheme, `MLX ${bits}-bit`),
    parts: [codes.name, scales.name, biases.name],
    async readRows(row0, rows, signal) {
      const [codeBytes, scaleBytes, biasBytes] = await Promise.all([
        raw.read(codes, row0 * rowWords * 4, rows * rowWords * 4, signal),
        raw.read(scales, row0 * metaBytes, rows * metaBytes, signal),
        raw.read(biases, row0 * metaBytes, rows * metaBytes, signal),
      ]);
      const [scale, bias] = [floatsOf(scales, scaleBytes), floatsOf(biases, biasBytes)];
      const words = wordsOf(codeBytes);
      const images = new RowImages(scheme, rows, cols);
      for (let r = 0; r < rows; r++) {
        if (bits === 8) images.setBytes(r, codeBytes.subarray(r * cols, (r + 1) * cols));
        else for (let i = 0; i < rowWords; i++) images.setNibbles(r, i, words[r * rowWords + i]!);
        const at = r * groups;
        images.setMeta(
          r,
          group,
          (g) => scale[at + g]!,
          (g) => bias[at + g]!,
        );
      }
      return images.bytes;
    },
  };
}

/** The general settings with what the config says of this module alone. */
function settings(raw: RawTensors, module: string): Record<string, unknown> {
  const config = quantizationConfig(raw.config);
  const own = config[module];
  return { bits: 4, ...config, ...(typeof own === "object" && own !== null ? (own as object) : {}) };
}

function mlxScheme(bits: 4 | 8, group: number, dtype: string): GroupedScheme {
  if (bits === 8) return "q8p32";
  const size = group % 64 === 0 ? 64 : 32;
  if (dtype === "F16") return `q4a${size}`;
  return dtype === "BF16" ? `q4b${size}` : "q4p32";
}

/** [rows, t, p, p, c] read as [rows, c, t, p, p]. */
function channelsFirst(raw: RawTensors, tensor: TensorInfo): QuantizedWeight {
  const [rows, t, p, q, c] = tensor.shape as [number, number, number, number, number];
  const size = tensor.bytes / tensor.shape.reduce((product, n) => product * n, 1);
  const places = t * p * q;
  return {
    info: { ...tensor, shape: [rows, c, t, p, q] },
    parts: [tensor.name],
    async readRows(row0, count, signal) {
      const rowBytes = places * c * size;
      const from = await raw.read(tensor, row0 * rowBytes, count * rowBytes, signal);
      const to = new Uint8Array(from.length);
      for (let r = 0; r < count; r++) {
        for (let place = 0; place < places; place++) {
          for (let channel = 0; channel < c; channel++) {
            const source = r * rowBytes + (place * c + channel) * size;
            to.set(from.subarray(source, source + size), r * rowBytes + (channel * places + place) * size);
          }
        }
      }
      return to;
    },
  };
}
