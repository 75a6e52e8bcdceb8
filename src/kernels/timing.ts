import arithmeticShader from "../../shaders/arithmetic.wgsl?raw";
import arithmeticMatrixShader from "../../shaders/arithmetic_subgroup_matrix.wgsl?raw";
import readShader from "../../shaders/read.wgsl?raw";
import { type Clock, Program, submitTime } from "../gpu/index.ts";
import { compose, composeMatrix, type Gpu, type Kernel } from "./source.ts";

/** What the device can do at most, measured in the same run: bytes moved per second, FLOPs per second. */
export interface Ceilings {
  copyBandwidth: number;
  /** f32 multiply-adds. */
  arithmetic: number;
  /** The same in f16, and of f16 operands on matrix units, where the device offers them. */
  half?: number;
  matrix?: number;
}

/** Loads of 16 bytes that a thread of read.wgsl has under way. */
const READS = 8;

interface Cost {
  bytes: number;
  flops: number;
}

/**
 * Milliseconds of one run: the slope between a short and a long submit, so that the fixed cost of a submit drops out.
 * The length grows until the difference is well above the clock's grain; the median of three is taken.
 */
async function slope(gpu: Gpu, program: Program, clock?: Clock): Promise<number> {
  await program.ready();
  const time = (repeats: number) => submitTime(gpu, program, repeats, clock);
  // The first run warms up; it counts for nothing.
  await time(1);
  const once = await time(1);
  // The fixed cost of a submit, some 0.1 ms, does not matter here, and repeating would take long.
  if (once > 40) return once;
  let repeats = 4;
  let long = await time(repeats);
  while (long < 20 && repeats < 2048) {
    repeats *= 2;
    long = await time(repeats);
  }
  const base = Math.max(1, repeats >> 3);
  const samples: number[] = [];
  for (let i = 0; i < 3; i++) {
    const few = await time(base);
    const many = await time(repeats);
    samples.push(Math.max(1e-6, (many - few) / (repeats - base)));
  }
  return samples.sort((a, b) => a - b)[1]!;
}

/** Time of one run and its share of the ceiling that binds it. */
export async function timeProgram(gpu: Gpu, program: Program, cost: Cost, ceilings: Ceilings, clock?: Clock) {
  const milliseconds = await slope(gpu, program, clock);
  const byBandwidth = (cost.bytes / ceilings.copyBandwidth) * 1000;
  const byArithmetic = (cost.flops / ceilings.arithmetic) * 1000;
  return {
    milliseconds,
    share: Math.max(byBandwidth, byArithmetic) / milliseconds,
    bound: byBandwidth >= byArithmetic ? ("bandwidth" as const) : ("arithmetic" as const),
  };
}

/** Workgroups of the loops of multiply-adds. */
const GROUPS = 4096;

/** Measures the ceilings: reading and writing memory, and independent multiply-adds. */
export async function measureCeilings(gpu: Gpu): Promise<Ceilings> {
  const bytes = Math.min(2 ** 28, gpu.maxBytes);
  const from = gpu.storage("self-test", "copy source", bytes);
  const to = gpu.storage("self-test", "copy target", bytes);
  const rate = async (work: number, record: (program: Program) => void) => {
    const program = new Program(gpu, "ceiling");
    record(program);
    const milliseconds = await slope(gpu, program.seal());
    program.free();
    return (work * 1000) / milliseconds;
  };
  // Weights are read and hardly anything is written: the better of copying and reading is the ceiling.
  const copy = await rate(2 * bytes, (program) => program.copy(from, to));
  const readKernel = gpu.kernel("read", compose({}, readShader), "rw");
  const groups = Math.min(65535, bytes / 16 / 256 / READS);
  const read = await rate(groups * 256 * READS * 16, (program) =>
    program.dispatch(readKernel, { params: [groups], buffers: [from, to], grid: [groups], work: 0 }),
  );
  // More rounds until the start of a dispatch no longer counts.
  const arithmetic = async (kernel: Kernel, flopsOfRound: number) => {
    for (let rounds = 64; ; rounds *= 8) {
      const flops = GROUPS * rounds * flopsOfRound;
      const found = await rate(flops, (program) =>
        program.dispatch(kernel, { params: [rounds], buffers: [to], grid: [GROUPS], work: 0 }),
      );
      if (flops / found > 2e-3) return found;
    }
  };
  const { half, matrix } = gpu.variants;
  const plain = (head: string) => gpu.kernel("arithmetic", `${head}\n${arithmeticShader}`, "w");
  // 64 threads × 8 vec4 multiply-adds; 4 subgroups × 8 products of 16 × 16 × 16.
  const ofVectors = 64 * 8 * 4 * 2;
  const ceilings: Ceilings = {
    copyBandwidth: Math.max(copy, read),
    arithmetic: await arithmetic(plain("alias Real = f32;"), ofVectors),
    ...(half && { half: await arithmetic(plain("enable f16;\nalias Real = f16;"), ofVectors) }),
  };
  if (matrix) {
    const code = composeMatrix({ SUBGROUP: matrix.subgroup }, arithmeticMatrixShader);
    ceilings.matrix = await arithmetic(gpu.kernel("arithmetic_matrix", code, "w"), 4 * 8 * 16 ** 3 * 2);
  }
  gpu.free(from);
  gpu.free(to);
  return ceilings;
}
