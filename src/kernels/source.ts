import reduce from "../../shaders/lib/reduce.wgsl?raw";
import reduceSubgroup from "../../shaders/lib/reduce_subgroup.wgsl?raw";
import type { Gpu, Kernel, Slice } from "../gpu/index.ts";

/**
 * Writes the head of a shader: constants first, then library files, then the shader itself.
 * There is no other preprocessing; a variant that differs in structure is another file.
 */
export function compose(constants: Record<string, number | boolean>, ...parts: string[]): string {
  const head = Object.entries(constants).map(
    ([name, value]) => `const ${name}${typeof value === "number" ? ": u32" : ": bool"} = ${value};`,
  );
  return [...head, ...parts].join("\n");
}

/** The head of a shader that sums over its workgroup: subgroup operations where they exist and compute rightly. */
export function composeReduce(gpu: Gpu, wg: number, constants: Record<string, number | boolean>, ...parts: string[]) {
  if (!gpu.variants.subgroups) return compose({ WG: wg, ...constants }, reduce, ...parts);
  return `enable subgroups;\n${compose({ WG: wg, ...constants }, reduceSubgroup, ...parts)}`;
}

/** The head of a shader for matrix units. */
export function composeMatrix(constants: Record<string, number | boolean>, ...parts: string[]): string {
  const head = ["f16", "subgroups", "chromium_experimental_subgroup_matrix"].map((name) => `enable ${name};`);
  head.push("diagnostic(off, chromium.subgroup_matrix_uniformity);");
  return [...head, compose(constants, ...parts)].join("\n");
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
