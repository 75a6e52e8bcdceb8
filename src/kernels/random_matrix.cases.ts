import { type CodeKind, f16ToF32, type GroupedScheme, grouping, type MetaKind, metaWords } from "../formats/index.ts";

/** Random bf16 weights into rows of `padded` elements; returns their values [rows, cols]. */
export function fillBf16(
  random: () => number,
  codes: DataView,
  rows: number,
  cols: number,
  padded: number,
): Float64Array {
  const values = new Float64Array(rows * cols);
  for (let r = 0; r < rows; r++) {
    for (let k = 0; k < cols; k++) {
      scratch.setFloat32(0, (2 * random() - 1) * 0.1);
      const bits = scratch.getUint16(0);
      codes.setUint16((r * padded + k) * 2, bits, true);
      values[r * cols + k] = f32Of(bits << 16);
    }
  }
  return values;
}

/**
 * Random codes and metadata of a scheme into rows of `padded` elements; returns the values [rows, cols] that they stand for, from
 * formulas of their own: the kernels are compared with these, and so is what the importer writes.
 */
export function fillGroups(
  random: () => number,
  scheme: GroupedScheme,
  codes: Uint32Array,
  scales: Uint32Array,
  rows: number,
  cols: number,
  padded: number,
): Float64Array {
  const { bits, group, code: kind, meta } = grouping(scheme)!;
  const words = metaWords(meta);
  const values = new Float64Array(rows * cols);
  let [scale, offset] = [0, 0];
  for (let r = 0; r < rows; r++) {
    for (let k = 0; k < padded; k++) {
      const element = r * padded + k;
      if (element % group === 0) [scale, offset] = randomMeta(random, meta, scales, (element / group) * words);
      const code =
        kind === "e4m3"
          ? Math.floor(random() * 127) + 128 * Math.floor(random() * 2)
          : Math.floor(random() * 2 ** bits);
      // 4 bits: byte j of a word holds element j low, element j + 4 high.
      if (bits === 8) codes[element >> 2]! |= code << ((k % 4) * 8);
      else codes[element >> 3]! |= code << ((k % 4) * 8 + (k % 8 >= 4 ? 4 : 0));
      if (k < cols) values[r * cols + k] = codeValue(kind, code) * scale + offset;
    }
  }
  return values;
}

/** Metadata of one group at scales[at]: scales near 0.01, offsets that put the weights around zero. */
function randomMeta(
  random: () => number,
  meta: MetaKind,
  scales: Uint32Array,
  at: number,
): [scale: number, offset: number] {
  switch (meta) {
    case "f16_pair": {
      const [scale, offset] = [0x2000 + Math.floor(random() * 0x200), 0xac00 + Math.floor(random() * 0x300)];
      scales[at] = scale | (offset << 16);
      return [f16ToF32(scale), f16ToF32(offset)];
    }
    case "bf16_pair": {
      const [scale, offset] = [0x3c00 + Math.floor(random() * 0x80), 0xbd80 + Math.floor(random() * 0x60)];
      scales[at] = scale | (offset << 16);
      return [f32Of(scale << 16), f32Of(offset << 16)];
    }
    case "zero": {
      const zero = Math.floor(random() * 17);
      const scale = 0x3c000000 + Math.floor(random() * 0x400) * 0x2000;
      scales[at] = scale | zero;
      return [f32Of(scale), -zero * f32Of(scale)];
    }
    case "f32":
      scales[at] = 0x3c000000 + Math.floor(random() * 0x800000);
      return [f32Of(scales[at]!), 0];
    case "f32_pair":
      scales[at] = 0x3c000000 + Math.floor(random() * 0x800000);
      scales[at + 1] = 0xbd800000 + Math.floor(random() * 0x600000);
      return [f32Of(scales[at]!), f32Of(scales[at + 1]!)];
  }
}

/** The quantiles of a normal distribution as bitsandbytes rounds them, and its 4-bit floats. */
const NF4 = [
  -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
  -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
  0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
];
const FP4 = [0, 1 / 192, 2 / 3, 1, 1 / 3, 1 / 2, 1 / 6, 1 / 4];

function codeValue(kind: CodeKind, code: number): number {
  switch (kind) {
    case "unsigned":
      return code;
    case "signed":
      return code < 128 ? code : code - 256;
    case "nf4":
      return NF4[code]!;
    case "fp4":
      return (code < 8 ? 1 : -1) * FP4[code % 8]!;
    case "e4m3": {
      const exponent = (code >> 3) & 15;
      const size = exponent === 0 ? (code & 7) / 512 : (1 + (code & 7) / 8) * 2 ** (exponent - 7);
      return code < 128 ? size : -size;
    }
  }
}

const scratch = new DataView(new ArrayBuffer(4));

function f32Of(bits: number): number {
  scratch.setUint32(0, bits);
  return scratch.getFloat32(0);
}
