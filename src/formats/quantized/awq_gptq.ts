import { TabTuneError } from "../../errors.ts";
import type { TensorInfo } from "../checkpoint.ts";
import { groupOf, int4Rows, int4Scheme, ModuleCache } from "./int4.ts";
import {
  badPart,
  moduleOf,
  part,
  type QuantizedWeight,
  quantizationConfig,
  type RawTensors,
  weightInfo,
} from "./raw_tensors.ts";
import type { RowImages } from "./row_images.ts";

const CODES = ".qweight";
/** In which nibble of a word AutoAWQ puts each of eight neighbouring outputs. */
const AWQ_NIBBLE = [0, 4, 1, 5, 2, 6, 3, 7];

/** Words side by side that are turned together: a cache line of them. */
const BAND = 16;

/** One module's tensors and what follows from their shapes. */
interface Module {
  name: string;
  codes: TensorInfo;
  zeros: TensorInfo;
  scales: TensorInfo;
  out: number;
  cols: number;
  groups: number;
  group: number;
}

/**
 * Weights that AutoAWQ (its GEMM version) and GPTQ store input by input: both keep codes, zero points and scales of all outputs side by
 * side, so a module is read as a whole and turned. Source: checkpoint-formats.md §3.2, §3.3.
 */
export async function readAwqAndGptq(raw: RawTensors): Promise<QuantizedWeight[]> {
  const cache = new ModuleCache(raw);
  return [...raw.tensors.values()].flatMap((codes) => {
    const name = moduleOf(codes.name, CODES);
    if (name === undefined) return [];
    const module = readModule(raw, name, codes);
    return [module.codes.shape[1] === module.out ? gptqWeight(raw, cache, module) : awqWeight(cache, module)];
  });
}

function readModule(raw: RawTensors, name: string, codes: TensorInfo): Module {
  const scales = part(raw, `${name}.scales`, [-1, -1]);
  const [groups, out] = scales.shape as [number, number];
  const zeros = part(raw, `${name}.qzeros`, [groups, Math.ceil(out / 8)]);
  const config = quantizationConfig(raw.config);
  const isGptq = codes.shape[1] === out;
  const cols = isGptq ? codes.shape[0]! * 8 : codes.shape[0]!;
  const isKnown =
    codes.dtype === "I32" &&
    zeros.dtype === "I32" &&
    codes.shape.length === 2 &&
    (isGptq || codes.shape[1]! * 8 === out) &&
    (config.bits ?? 4) === 4 &&
    ["gptq", "gptq_v2", "gptq_p", undefined].includes(config.checkpoint_format as string | undefined) &&
    (isGptq || config.version === undefined || String(config.version).toLowerCase() === "gemm");
  if (!isKnown) {
    throw new TabTuneError(
      "BadCheckpoint",
      `${codes.name}: expected AutoAWQ (gemm) or GPTQ in 4 bits, found ${codes.dtype} [${codes.shape.join(", ")}] with ${out} outputs (${[config.quant_method, config.version, config.checkpoint_format, `${String(config.bits ?? 4)} bits`].filter(Boolean).join(", ")}). Choose a checkpoint in one of these forms, or the original one.`,
    );
  }
  const wanted = config.group_size;
  return { name, codes, zeros, scales, out, cols, groups, group: groupOf(cols, groups, scales.name, wanted) };
}

function awqWeight(cache: ModuleCache, module: Module): QuantizedWeight {
  const { name, codes, zeros, scales, out, cols, group } = module;
  const scheme = int4Scheme(scales, group, cols);
  const perRow = out / 8;
  const nibble = (words: Uint32Array, line: number, o: number) =>
    (words[line * perRow + (o >> 3)]! >>> (4 * AWQ_NIBBLE[o & 7]!)) & 15;
  return {
    info: weightInfo(`${name}.weight`, codes, [out, cols], scheme ?? "F32", "AWQ"),
    parts: [codes.name, zeros.name, scales.name],
    async readRows(row0, rows, signal) {
      const loaded = await cache.load(name, [codes, zeros], scales, signal);
      const [codeWords, zeroWords] = loaded.words as [Uint32Array, Uint32Array];
      return int4Rows(scheme, rows, cols, {
        group,
        codes: (images) => turnWords(codeWords, perRow, cols, row0, rows, images),
        scale: (r, g) => loaded.scales[g * out + row0 + r]!,
        zero: (r, g) => nibble(zeroWords, g, row0 + r),
      });
    },
  };
}

/**
 * Words of eight outputs, input by input, as words of eight inputs, output by output: rows row0 … row0 + rows of [cols, perRow] words.
 * Eight words at a time, in bands that stay in the processor's cache: this is what an import of AWQ takes its time for.
 */
function turnWords(
  words: Uint32Array,
  perRow: number,
  cols: number,
  row0: number,
  rows: number,
  images: Pick<RowImages, "setNibbles">,
): void {
  const [first, end] = [row0 >> 3, Math.ceil((row0 + rows) / 8)];
  const square = new Uint32Array(8);
  for (let band = first; band < end; band += BAND) {
    const bandEnd = Math.min(band + BAND, end);
    for (let i = 0; 8 * i < cols; i++) {
      for (let c = band; c < bandEnd; c++) {
        for (let k = 0; k < 8; k++) square[k] = 8 * i + k < cols ? words[(8 * i + k) * perRow + c]! : 0;
        transposeNibbles(square);
        for (let j = 0; j < 8; j++) {
          const r = 8 * c + j - row0;
          if (r >= 0 && r < rows) images.setNibbles(r, i, square[AWQ_NIBBLE[j]!]!);
        }
      }
    }
  }
}

/** Nibble n of word k becomes nibble k of word n: halves are exchanged, then their halves, then theirs. */
function transposeNibbles(square: Uint32Array): void {
  for (let distance = 4, mask = 0xffff; distance > 0; distance >>= 1, mask ^= mask << (4 * distance)) {
    for (let k = 0; k < 8; k = (k + distance + 1) & ~distance) {
      const swapped = ((square[k]! >>> (4 * distance)) ^ square[k + distance]!) & mask;
      square[k]! ^= swapped << (4 * distance);
      square[k + distance]! ^= swapped;
    }
  }
}

function gptqWeight(raw: RawTensors, cache: ModuleCache, module: Module): QuantizedWeight {
  const { name, codes, zeros, scales, out, cols, groups, group } = module;
  const order = raw.tensors.get(`${name}.g_idx`);
  if (order) part(raw, order.name, [cols]);
  const config = quantizationConfig(raw.config);
  // The first version stores zero - 1; sixteen is then possible.
  const isFirst = (config.checkpoint_format ?? "gptq") === "gptq";
  const zeroWords = Math.ceil(out / 8);
  const isOrdered = order !== undefined && config.desc_act === true;
  const scheme = isOrdered ? undefined : int4Scheme(scales, group, cols);
  const words = order ? [codes, zeros, order] : [codes, zeros];
  return {
    info: weightInfo(`${name}.weight`, codes, [out, cols], scheme ?? "F32", isOrdered ? "GPTQ with act-order" : "GPTQ"),
    parts: [...words.map((tensor) => tensor.name), scales.name],
    async readRows(row0, rows, signal) {
      const loaded = await cache.load(name, words, scales, signal);
      const [codeWords, zeroPoints, groupOfColumn] = loaded.words as [Uint32Array, Uint32Array, Uint32Array?];
      const scale = (r: number, g: number) => loaded.scales[g * out + row0 + r]!;
      const zero = (r: number, g: number) => {
        const stored = (zeroPoints[g * zeroWords + ((row0 + r) >> 3)]! >>> (4 * ((row0 + r) & 7))) & 15;
        return isFirst ? stored + 1 : stored;
      };
      if (!isOrdered) {
        checkOrder(order, groupOfColumn, group);
        return int4Rows(scheme, rows, cols, {
          group,
          codes(images) {
            for (let band = 0; band < rows; band += BAND) {
              const bandEnd = Math.min(band + BAND, rows);
              for (let i = 0; i < cols / 8; i++) {
                for (let r = band; r < bandEnd; r++) images.setNibbles(r, i, codeWords[i * out + row0 + r]!);
              }
            }
          },
          scale,
          zero,
        });
      }
      const values = new Float32Array(rows * cols);
      for (let k = 0; k < cols; k++) {
        const g = groupOfColumn![k]!;
        if (g >= groups) throw badPart(order.name, `expected groups 0 to ${groups - 1}, found ${g} at column ${k}`);
        for (let r = 0; r < rows; r++) {
          const code = (codeWords[(k >> 3) * out + row0 + r]! >>> (4 * (k & 7))) & 15;
          values[r * cols + k] = (code - zero(r, g)) * scale(r, g);
        }
      }
      return new Uint8Array(values.buffer);
    },
  };
}

/** Without act-order each column belongs to the group of its place; that is what the scheme was chosen for. */
function checkOrder(order: TensorInfo | undefined, groupOfColumn: Uint32Array | undefined, group: number): void {
  const wrong = groupOfColumn?.findIndex((g, k) => g !== Math.floor(k / group)) ?? -1;
  if (wrong < 0 || !order) return;
  throw badPart(
    order.name,
    `expected column ${wrong} in group ${Math.floor(wrong / group)}, since the config has no "desc_act": true, found group ${groupOfColumn![wrong]}`,
  );
}
