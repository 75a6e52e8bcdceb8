import { TabTuneError } from "../../errors.ts";
import type { Qwen3VLConfig } from "./config.ts";

type GridLike = readonly [t: number, h: number, w: number];

/**
 * M-RoPE positions of a whole sequence: text counts up on all three axes, a picture spans rows and columns and moves on by its longer side.
 * @param grids  of pictures and videos in order of appearance; a video counts as `t` grids of one frame group each
 * @returns positions [tokens, 3] (t, h, w) and delta: what decoding adds to a token's index. Source: qwen3-vl.md §6.4.
 * Throws `BadInput` when placeholder tokens and grids do not agree.
 */
export function ropePositions(ids: readonly number[], grids: readonly GridLike[], config: Qwen3VLConfig) {
  const merge = config.vision.spatialMergeSize;
  const flat = grids.flatMap(([t, h, w]) => Array.from({ length: t }, () => [h / merge, w / merge] as const));
  const positions = new Int32Array(3 * ids.length);
  const isPad = (id: number | undefined) => id === config.imageTokenId || id === config.videoTokenId;
  let current = 0;
  let next = 0;
  for (let i = 0; i < ids.length; ) {
    if (!isPad(ids[i])) {
      positions.fill(current, 3 * i, 3 * i + 3);
      current++;
      i++;
      continue;
    }
    const grid = flat[next++];
    if (!grid)
      throw new TabTuneError(
        "BadInput",
        `The prompt has more picture placeholders than the ${flat.length} pictures given.`,
      );
    const [rows, cols] = grid;
    for (let r = 0; r < rows; r++) {
      for (let c = 0; c < cols; c++, i++) {
        if (!isPad(ids[i])) {
          throw new TabTuneError(
            "BadInput",
            `Picture ${next}: expected ${rows * cols} placeholder tokens, found ${r * cols + c}.`,
          );
        }
        positions.set([current, current + r, current + c], 3 * i);
      }
    }
    current += Math.max(rows, cols);
  }
  if (next !== flat.length) {
    throw new TabTuneError("BadInput", `The prompt has placeholders for ${next} pictures; ${flat.length} were given.`);
  }
  return { positions, delta: current - ids.length };
}

/**
 * cos and sin of position × θ^(−2i/d): [positions, d/2, 2] f32. Frequencies and angles are rounded to f32 as transformers rounds
 * them, since at position 10,000 that turns the fast frequencies by 1e-4 and more; cos and sin themselves are taken in float64.
 * @param frequencies how many different ones there are before they repeat: d/2 for text, d/4 for the tower's rows and columns
 */
export function ropeTable(positions: number, d: number, theta: number, frequencies = d / 2): Float32Array<ArrayBuffer> {
  const half = d / 2;
  const table = new Float32Array(positions * d);
  for (let j = 0; j < half; j++) {
    const exponent = Math.fround((j % frequencies) / frequencies);
    const inverse = Math.fround(1 / Math.fround(theta ** exponent));
    for (let p = 0; p < positions; p++) {
      const angle = Math.fround(p * inverse);
      table[2 * (p * half + j)] = Math.cos(angle);
      table[2 * (p * half + j) + 1] = Math.sin(angle);
    }
  }
  return table;
}

/** Row and column of each patch in merge-block order: [patches, 2]. Source: qwen3-vl.md §3.6. */
export function visionPositions(gh: number, gw: number, merge: number): Uint32Array<ArrayBuffer> {
  const out = new Uint32Array(2 * gh * gw);
  let at = 0;
  for (let br = 0; br < gh; br += merge) {
    for (let bc = 0; bc < gw; bc += merge) {
      for (let r = br; r < br + merge; r++) {
        for (let c = bc; c < bc + merge; c++) {
          out[at++] = r;
          out[at++] = c;
        }
      }
    }
  }
  return out;
}

/** Corners and weights of the align-corners interpolation of a side × side table, in merge-block order: [patches, 4] each. Source: qwen3-vl.md §5.2. */
export function interpolationTaps(gh: number, gw: number, side: number, merge: number) {
  const rowCol = visionPositions(gh, gw, merge);
  const index = new Uint32Array(4 * gh * gw);
  const weight = new Float32Array(4 * gh * gw);
  for (let p = 0; p < gh * gw; p++) {
    const sy = gh > 1 ? (rowCol[2 * p]! * (side - 1)) / (gh - 1) : 0;
    const sx = gw > 1 ? (rowCol[2 * p + 1]! * (side - 1)) / (gw - 1) : 0;
    const [y0, x0] = [Math.floor(sy), Math.floor(sx)];
    const [y1, x1] = [Math.min(y0 + 1, side - 1), Math.min(x0 + 1, side - 1)];
    const [dy, dx] = [sy - y0, sx - x0];
    index.set([y0 * side + x0, y0 * side + x1, y1 * side + x0, y1 * side + x1], 4 * p);
    weight.set([(1 - dy) * (1 - dx), (1 - dy) * dx, dy * (1 - dx), dy * dx], 4 * p);
  }
  return { index, weight };
}
