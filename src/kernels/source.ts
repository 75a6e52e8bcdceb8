import reduce from "../../shaders/lib/reduce.wgsl?raw";
import reduceSubgroup from "../../shaders/lib/reduce_subgroup.wgsl?raw";
import type { Gpu, Kernel, Slice } from "../gpu/index.ts";

/** Texts by their parts, one after the other. */
interface Known {
  text?: string;
  next: Map<string, Known>;
}
const known: Known = { next: new Map() };

/**
 * The parts under each other. Equal parts give the same string, so that a device finds its kernel by a hash that is known already:
 * thousands of dispatches are recorded before a step, and a shader has 20 kB.
 */
export function joined(...parts: string[]): string {
  let at = known;
  for (const part of parts) {
    let next = at.next.get(part);
    if (!next) {
      next = { next: new Map() };
      at.next.set(part, next);
    }
    at = next;
  }
  at.text ??= parts.join("\n");
  return at.text;
}

type Constants = Record<string, number | boolean>;

function head(constants: Constants): string {
  let text = "";
  for (const [name, value] of Object.entries(constants)) {
    text += `const ${name}: ${typeof value === "number" ? "u32" : "bool"} = ${value};\n`;
  }
  return text;
}

/**
 * Writes the head of a shader: constants first, then library files, then the shader itself.
 * There is no other preprocessing; a variant that differs in structure is another file.
 */
export function compose(constants: Constants, ...parts: string[]): string {
  return joined(head(constants), ...parts);
}

/** The head of a shader that computes in f16; in tests of its arithmetic on a device that has none, f32 takes its place. */
export function composeHalf({ device }: Gpu, constants: Constants, ...parts: string[]): string {
  const type = device.features.has("shader-f16") ? "enable f16;" : "alias f16 = f32;";
  return joined(type, head(constants), ...parts);
}

/** The head of a shader that sums over its workgroup: subgroup operations where they exist and compute rightly. */
export function composeReduce(gpu: Gpu, wg: number, constants: Constants, ...parts: string[]) {
  const all = head({ WG: wg, ...constants });
  if (!gpu.variants.subgroups) return joined(all, reduce, ...parts);
  return joined("enable subgroups;", all, reduceSubgroup, ...parts);
}

const MATRIX_HEAD = `enable f16;
enable subgroups;
enable chromium_experimental_subgroup_matrix;
diagnostic(off, chromium.subgroup_matrix_uniformity);`;

/** The head of a shader for matrix units. */
export function composeMatrix(constants: Constants, ...parts: string[]): string {
  return joined(MATRIX_HEAD, head(constants), ...parts);
}

/** A one-dimensional grid folded over y, since no dimension may pass 65,535 workgroups. */
export function fold(groups: number): [number, number] {
  if (groups <= 65535) return [groups, 1];
  const y = Math.ceil(groups / 65535);
  return [Math.ceil(groups / y), y];
}

/** What of a slice lies behind its first `bytes`, a multiple of 256. */
export function sliceFrom(slice: Slice, bytes: number): Slice {
  return { buffer: slice.buffer, offset: slice.offset + bytes, size: slice.size - bytes };
}

export interface NormShape {
  rows: number;
  /** Elements of a row. */
  c: number;
  eps: number;
}

export type { Gpu, Kernel, Slice };
