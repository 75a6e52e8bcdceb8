import activation from "../../shaders/lib/activation.wgsl?raw";
import inputScalar from "../../shaders/lib/input_scalar.wgsl?raw";
import inputVec4 from "../../shaders/lib/input_vec4.wgsl?raw";
import matrixStep from "../../shaders/lib/matrix_step.wgsl?raw";
import octetF16 from "../../shaders/lib/octet_f16.wgsl?raw";
import octetF32 from "../../shaders/lib/octet_f32.wgsl?raw";
import tileOperands from "../../shaders/lib/tile_operands.wgsl?raw";
import tileParams from "../../shaders/lib/tile_params.wgsl?raw";
import tileShader from "../../shaders/matmul_tile.wgsl?raw";
import fragmentsShader from "../../shaders/matmul_tile_fragments.wgsl?raw";
import halfShader from "../../shaders/matmul_tile_half.wgsl?raw";
import matrixShader from "../../shaders/matmul_tile_subgroup_matrix.wgsl?raw";
import type { Program } from "../gpu/index.ts";
import type { Matrix, MatrixBlock } from "./matrix.ts";
import { compose, composeHalf, composeMatrix, type Gpu, joined, type Slice, sliceFrom } from "./source.ts";
import { type WeightLibrary, weightLibrary } from "./weight_library.ts";

export type Activation = "none" | "gelu_tanh" | "gelu_erf";

/** What a tile product reads and makes; `cols` of the weight is a multiple of 4. */
export interface TileOptions {
  /** [m, cols] f32; backward [m, rows]. */
  x: Slice;
  /** [m, rows] f32; backward [m, cols]. */
  y: Slice;
  m: number;
  weight: Matrix;
  /** Y = X · W instead of X · Wᵀ: the gradient of a product by its input. Without bias and activation. */
  backward?: boolean;
  bias?: Slice;
  accumulate?: boolean;
  activation?: Activation;
  /** Elements between rows of X; as wide as X by default. */
  ldx?: number;
}

/** One way of running a product with many rows: tiles of bm × bn outputs in steps of bk. */
interface TileShape {
  bm: number;
  bn: number;
  bk: number;
  /** Teams of threads that share the steps. */
  split?: number;
  /** Operands in f16, multiplied and added up in it over one step; bk is 32 and split 1. */
  half?: boolean;
  /** On matrix units instead: rows and columns of subgroups that share the tile. */
  subgroups?: readonly [rows: number, columns: number];
  /** The same: tiles from which on a device that has measured nothing takes this shape. */
  many?: number;
}

/** What a device may choose from: each in f32 fits 256 threads and 16 KiB of workgroup memory; what others need, `Gpu.variants` knows. */
export const TILE_SHAPES: readonly TileShape[] = [
  { bm: 128, bn: 128, bk: 16, split: 1 },
  { bm: 128, bn: 64, bk: 16, split: 1 },
  { bm: 64, bn: 64, bk: 16, split: 1 },
  { bm: 64, bn: 64, bk: 16, split: 2 },
  { bm: 64, bn: 64, bk: 8, split: 4 },
  { bm: 128, bn: 128, bk: 32, subgroups: [2, 2], many: 400 },
  { bm: 128, bn: 64, bk: 32, subgroups: [2, 2], many: 256 },
  { bm: 64, bn: 64, bk: 64, subgroups: [2, 2] },
  { bm: 64, bn: 64, bk: 32, half: true },
];

/** The shapes by what they compute in; in f32 large, middle, small, and small for two teams. */
const IN_F32 = TILE_SHAPES.filter(({ half, subgroups }) => !half && !subgroups);
const IN_HALF = TILE_SHAPES.find(({ half }) => half)!;
/** On matrix units from large to small. */
const ON_UNITS = TILE_SHAPES.filter(({ subgroups }) => subgroups);

/** True where the device has what a shape runs on. */
export function canTile(gpu: Gpu, { subgroups, half }: TileShape): boolean {
  const { variants } = gpu;
  return subgroups ? variants.matrix !== undefined : !half || variants.half;
}

/** The name under which a device keeps its choice for a product of m rows: rounded up to a power of two. */
export function tileChoice(weight: Matrix, m: number, backward = false): string {
  const rows = 2 ** Math.ceil(Math.log2(m));
  return `matmul_tile ${weight.scheme} ${weight.rows}×${weight.cols} ${rows}${backward ? " backward" : ""}`;
}

/** Workgroups from which on a large device stays busy with large tiles, and with small ones. */
const MANY_LARGE = 384;
const MANY_SMALL = 512;

/**
 * The choice of the device; else matrix units or f16, and in f32 the largest tile if there are many; with few small tiles, two teams
 * share each.
 */
function tileShape(gpu: Gpu, { weight, m, backward }: TileOptions): TileShape {
  const k = backward ? Math.max(...weight.blocks.map(({ rows }) => rows)) : weight.cols;
  const fits = (shape: TileShape) => canTile(gpu, shape) && (!shape.subgroups || fragmentRows(gpu, shape, k).most > 0);
  const chosen = TILE_SHAPES[gpu.choices.get(tileChoice(weight, m, backward)) ?? -1];
  if (chosen && fits(chosen)) return chosen;
  const columns = backward ? weight.cols : weight.rows;
  const tiles = ({ bm, bn }: TileShape) => Math.ceil(m / bm) * Math.ceil(columns / bn);
  const onUnits = ON_UNITS.find((shape) => fits(shape) && tiles(shape) >= (shape.many ?? 0));
  if (onUnits) return onUnits;
  if (canTile(gpu, IN_HALF)) return IN_HALF;
  const [large, , small, shared] = IN_F32;
  if (tiles(large!) >= MANY_LARGE) return large!;
  return tiles(small!) >= MANY_SMALL ? small! : shared!;
}

/** A shader for matrix units, which round to f16; a portable one in f16 where sums over steps are f32; or in f32 throughout. */
function composeTiles(
  gpu: Gpu,
  shape: TileShape,
  flags: Flags,
  { raw, raw8 }: WeightLibrary,
  input: string,
  act: string,
) {
  const { subgroups, half, split = 1, ...o } = shape;
  const sizes = { BM: o.bm, BN: o.bn, BK: o.bk, SPLIT: split, INPUT: 4 };
  if (!subgroups) {
    const libraries = [raw, input, act, tileParams, tileOperands];
    if (!half) return compose({ ...flags, ...sizes }, ...libraries, tileShader);
    const octet = gpu.device.features.has("shader-f16") ? octetF16 : octetF32;
    return composeHalf(gpu, { ...flags, ...sizes }, ...libraries, octet, raw8, halfShader);
  }
  const units = { SUBGROUP: gpu.variants.matrix!.subgroup, SG_ROWS: subgroups[0], SG_COLS: subgroups[1] };
  return composeMatrix({ ...flags, ...sizes, ...units }, raw, act, tileParams, octetF16, raw8, writtenOut(o.bk));
}

/** The shader for matrix units with its steps of 32 along K put in, since a loop over them is slow; once for each BK. */
function writtenOut(bk: number): string {
  let text = written.get(bk);
  if (!text) {
    const step = (half: string, k: number) => `{\nconst NOW = ${half};\nconst K = ${k}u;\n${matrixStep}}\n`;
    const steps = (half: string) => Array.from({ length: bk / 32 }, (_, i) => step(half, 32 * i)).join("");
    text = matrixShader
      .replace("// STEPS OF THE FIRST HALF", steps("0u"))
      .replace("// STEPS OF THE SECOND HALF", steps("HALF"));
    written.set(bk, text);
  }
  return text;
}
const written = new Map<number, string>();

type Flags = Record<string, number | boolean>;

/** The function that a product applies to what it stores. */
export function activate(kind: Activation = "none"): string {
  return joined(activation, `fn activate(v: f32) -> f32 {\n  return ${kind === "none" ? "v" : `${kind}(v)`};\n}\n`);
}

/** The bias of a block's rows; another buffer, never read, when there is none. */
export function biasOf({ bias }: { bias?: Slice }, block: MatrixBlock): Slice {
  if (!bias) return block.scales;
  return { buffer: bias.buffer, offset: bias.offset + block.row0 * 4, size: block.rows * 4 };
}

/** Bytes that products on matrix units share for X in f16: enough for 1,152 rows of the 4B's widest. */
const FRAGMENT_BYTES = 48 * 2 ** 20;
const fragmentsOf = new WeakMap<Gpu, Slice>();

/** GPU bytes that products with many rows take on a device beside their operands. */
export function tileScratchBytes({ variants, maxBytes }: Pick<Gpu, "variants" | "maxBytes">): number {
  return variants.matrix ? Math.min(FRAGMENT_BYTES, maxBytes) : 0;
}

function fragments(gpu: Gpu): Slice {
  let slice = fragmentsOf.get(gpu);
  if (!slice) {
    slice = gpu.storage("activations", "X in f16", tileScratchBytes(gpu));
    fragmentsOf.set(gpu, slice);
  }
  return slice;
}

/** Allocates them, once for each device; the first product that needs them would without knowing whether they fit. Throws `OutOfMemory`. */
export async function reserveTileScratch(gpu: Gpu): Promise<void> {
  if (tileScratchBytes(gpu) === 0 || fragmentsOf.has(gpu)) return;
  try {
    await gpu.allocating("products on matrix units", () => fragments(gpu));
  } catch (error) {
    const refused = fragmentsOf.get(gpu);
    if (refused) gpu.free(refused);
    fragmentsOf.delete(gpu);
    throw error;
  }
}

/** How wide a shape for matrix units lays rows of k elements out, and how many of them fit at once. */
function fragmentRows(gpu: Gpu, { bm, bk }: TileShape, k: number) {
  // Steps go in pairs.
  const width = Math.ceil(k / (2 * bk)) * 2 * bk;
  return { width, most: Math.floor(tileScratchBytes(gpu) / (2 * width * bm)) * bm };
}

/** Records a product with many rows of X, block after block of the weight. */
export function matmulTiles(program: Program, o: TileOptions): void {
  const { gpu } = program;
  const { weight, m, backward = false } = o;
  const library = weightLibrary(weight.scheme);
  const shape = tileShape(gpu, o);
  const ldx = o.ldx ?? (backward ? weight.rows : weight.cols);
  const ldy = backward ? weight.cols : weight.rows;
  for (const [index, block] of weight.blocks.entries()) {
    const { row0, rows } = block;
    // Backward, every block of rows adds its share.
    const accumulate = (o.accumulate ?? false) || (backward && index > 0);
    const flags = { ...library.constants, BIAS: o.bias !== undefined, ACCUMULATE: accumulate, BACKWARD: backward };
    const isAligned = !backward || (ldx % 4 === 0 && row0 % 4 === 0 && rows % 4 === 0 && o.x.offset % 16 === 0);
    const input = isAligned ? inputVec4 : inputScalar;
    const code = composeTiles(gpu, shape, flags, library, input, activate(o.activation));
    const stem = shape.subgroups ? "matmul_tile_subgroup_matrix" : shape.half ? "matmul_tile_half" : "matmul_tile";
    const kernel = gpu.kernel(`${stem} ${weight.scheme}${backward ? " backward" : ""}`, code, "rrrrw");
    const [n, k] = backward ? [weight.cols, rows] : [rows, weight.cols];
    const [xColumn, yColumn] = backward ? [row0, 0] : [0, row0];
    const plan = shape.subgroups && { scratch: fragments(gpu), ...fragmentRows(gpu, shape, k) };
    // A dispatch on a slow device is cut by rows of X, so that none runs long; offsets stay multiples of 256 bytes.
    const workPerRow = 2 * rows * weight.cols;
    const step = Math.min(program.rowsAtOnce(workPerRow, m), plan?.most ?? m);
    for (let row = 0; row < m; row += step) {
      const here = Math.min(step, m - row);
      const x = sliceFrom(o.x, row * ldx * 4);
      if (plan) {
        const { scratch, width } = plan;
        const constants = { INPUT: 1, SCALE: backward ? 4096 : 1, PAIRED: !backward };
        program.dispatch(
          gpu.kernel("matmul_tile_fragments", composeHalf(gpu, constants, input, fragmentsShader), "rw"),
          {
            params: [here, k, width, ldx, xColumn],
            buffers: [x, scratch],
            grid: [Math.ceil(width / 256), Math.ceil(here / shape.bm) * shape.bm],
            work: here * width,
          },
        );
      }
      program.dispatch(kernel, {
        params: [here, n, k, weight.rowWords, ldx, ldy, xColumn, yColumn],
        buffers: [block.codes, block.scales, biasOf(o, block), plan?.scratch ?? x, sliceFrom(o.y, row * ldy * 4)],
        grid: [Math.ceil(n / shape.bn), Math.ceil(here / shape.bm)],
        work: workPerRow * here,
      });
    }
  }
}
