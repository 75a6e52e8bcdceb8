import type { Slice } from "../../gpu/index.ts";
import type { VisionConfig } from "./config.ts";
import { interpolationTaps, ropeTable, visionPositions } from "./positions.ts";

/** One picture is [1, gh, gw] patches; a video has several temporal groups of the same size. */
export type Grid = readonly [t: number, h: number, w: number];

/** Of every layer norm of the tower: qwen3-vl.md §1.2. */
export const VISION_EPS = 1e-6;

/** What the tower reads beside its weights and the pixels: it depends on the pictures' sizes alone. */
export type VisionTables = Record<"positions" | "ranges" | "index" | "weight" | "table", Slice>;

/**
 * Uploads positions, segments and interpolation taps of pictures that lie one after the other; everything trigonometric comes from
 * the CPU.
 */
export function visionTables(
  vision: VisionConfig,
  grids: readonly Grid[],
  upload: (label: string, data: Float32Array<ArrayBuffer> | Uint32Array<ArrayBuffer>) => Slice,
): VisionTables {
  const patches = grids.reduce((sum, [t, h, w]) => sum + t * h * w, 0);
  const positions = new Uint32Array(patches * 4);
  const ranges = new Uint32Array(patches * 2);
  const index = new Uint32Array(patches * 4);
  const weight = new Float32Array(patches * 4);
  const side = Math.sqrt(vision.numPositionEmbeddings);
  let first = 0;
  let reach = 1;
  for (const [t, gh, gw] of grids) {
    const rowCol = visionPositions(gh, gw, vision.spatialMergeSize);
    const taps = interpolationTaps(gh, gw, side, vision.spatialMergeSize);
    reach = Math.max(reach, gh, gw);
    // Each temporal group is a segment of its own; positions are the same in all of them.
    for (let group = 0; group < t; group++) {
      for (let i = 0; i < gh * gw; i++) {
        const at = first + i;
        positions[4 * at] = rowCol[2 * i]!;
        positions[4 * at + 1] = rowCol[2 * i + 1]!;
        positions[4 * at + 3] = at;
        ranges[2 * at] = first;
        ranges[2 * at + 1] = first + gh * gw;
      }
      index.set(taps.index, 4 * first);
      weight.set(taps.weight, 4 * first);
      first += gh * gw;
    }
  }
  const d = vision.hiddenSize / vision.numHeads;
  return {
    positions: upload("positions", positions),
    ranges: upload("segments", ranges),
    index: upload("position index", index),
    weight: upload("position weight", weight),
    table: upload("rotary table", ropeTable(reach, d, vision.ropeTheta, d / 4)),
  };
}
