import { TabTuneError, throwIfCancelled } from "../errors.ts";
import { Program } from "../gpu/index.ts";
import { allCases } from "./all_cases.ts";
import { openCache } from "./cache.cases.ts";
import { cacheRowBytes } from "./cache.ts";
import { Bench, type BuiltCase, canRun, type KernelCase } from "./case.ts";
import type { Gpu } from "./source.ts";
import { type Ceilings, measureCeilings, timeProgram } from "./timing.ts";

/** Outcome of one case. `error` is the largest relative L2 error of its outputs. */
export interface CaseResult {
  kernel: string;
  shape: string;
  error: number;
  tolerance: number;
  pass: boolean;
  message?: string;
  milliseconds?: number;
  share?: number;
  bound?: "bandwidth" | "arithmetic";
}

export interface HarnessOptions {
  /** Only cases whose kernel and shape contain this text. */
  filter?: string;
  timing: boolean;
  signal?: AbortSignal;
}

export interface HarnessSummary {
  passed: number;
  failed: number;
  ceilings?: Ceilings;
}

/** ‖a−b‖ / ‖b‖; the plain norm of a when b is zero; Infinity as soon as anything is not finite. */
function relativeError(actual: ArrayLike<number>, expected: Float64Array): number {
  let difference = 0;
  let norm = 0;
  for (let i = 0; i < expected.length; i++) {
    const a = actual[i]!;
    if (!Number.isFinite(a)) return Number.POSITIVE_INFINITY;
    difference += (a - expected[i]!) ** 2;
    norm += expected[i]! ** 2;
  }
  return Math.sqrt(difference / (norm || 1));
}

/** Matrix units round operands to f16, and products in f16 their sums too, in a case that may run on them. */
function toleranceOf(gpu: Gpu, c: KernelCase): number {
  const { matrix, half } = gpu.variants;
  if (c.needs === "half" && half) return c.inHalf!;
  return (matrix && c.onMatrixUnits) || (half && !matrix && c.inHalf) || c.tolerance;
}

interface BegunCase {
  c: KernelCase;
  bench: Bench;
  program: Program;
  built?: BuiltCase;
  fault?: unknown;
}

/** Inputs and dispatches of a case, whose shaders are being compiled from now on. */
function beginCase(gpu: Gpu, c: KernelCase): BegunCase {
  const begun: BegunCase = { c, bench: new Bench(gpu), program: new Program(gpu, c.kernel) };
  try {
    begun.built = c.build(begun.bench);
    begun.built.record(begun.program);
  } catch (fault) {
    begun.fault = fault;
  }
  return begun;
}

async function finishCase(gpu: Gpu, begun: BegunCase, ceilings: Ceilings | undefined): Promise<CaseResult> {
  const { c, bench, program, built, fault } = begun;
  const result: CaseResult = {
    kernel: c.kernel,
    shape: c.shape,
    error: 0,
    tolerance: toleranceOf(gpu, c),
    pass: false,
  };
  try {
    if (!built) throw fault;
    await program.seal().run();
    for (const { slice, expected, type, cache } of built.outputs) {
      const bytes = cache ? (expected.length / cache.d) * cacheRowBytes(cache.type, cache.d) : 4 * expected.length;
      const words = await gpu.read(slice, bytes);
      const actual = cache
        ? openCache(cache.type, words, cache.d)
        : type === "u32"
          ? new Uint32Array(words)
          : new Float32Array(words);
      result.error = Math.max(result.error, relativeError(actual, expected));
    }
    result.pass = result.error <= result.tolerance;
    if (ceilings) Object.assign(result, await timeProgram(gpu, program, c, ceilings));
  } catch (error) {
    result.error = Number.POSITIVE_INFINITY;
    result.message = error instanceof Error ? error.message : String(error);
    // The error belongs to this row; the next case starts clean.
    if (gpu.lostReason === undefined) gpu.firstError = undefined;
  } finally {
    program.free();
    bench.free();
  }
  return result;
}

/** Runs the cases that match, one row at a time. Stops between rows when cancelled or when the device is lost. */
export async function runCases(
  gpu: Gpu,
  options: HarnessOptions,
  onRow: (row: CaseResult) => void,
): Promise<HarnessSummary> {
  const words = (options.filter ?? "").toLowerCase().split(/\s+/).filter(Boolean);
  const cases = allCases.filter((c) => {
    const name = `${c.kernel} ${c.shape}`.toLowerCase();
    return words.every((word) => name.includes(word)) && canRun(gpu, c);
  });
  const ceilings = options.timing ? await measureCeilings(gpu) : undefined;
  let passed = 0;
  for (const c of cases) {
    throwIfCancelled(options.signal);
    const row = await finishCase(gpu, beginCase(gpu, c), ceilings);
    if (row.pass) passed++;
    onRow(row);
  }
  return { passed, failed: cases.length - passed, ...(ceilings ? { ceilings } : {}) };
}

/** Kernel, and how its shape begins: small cases that an answer rests on, in variants that a model then uses, so that nothing is compiled for them alone. */
const QUICK: [kernel: string, shape: string][] = [
  ["matmul q4a32 norm", "1×2560"],
  ["matmul q4a32 +=", "150×104"],
  ["matmul bf16 bias gelu_tanh", "97×72"],
  ["attention i8", "35 queries"],
  ["attention_decode i8", "1 queries, 300 cached"],
  ["rope m-rope i8", "7 tokens"],
  ["rms_norm", "3×2560"],
  ["layer_norm", "5×1024"],
  ["sample", "everything"],
];

/** What must be right before a model is used on a device. Not the backward kernels: nobody should wait for them to chat. @internal */
export function quickCases(): KernelCase[] {
  return QUICK.map(([kernel, shape]) => {
    const found = allCases.find((c) => c.kernel === kernel && c.shape.startsWith(shape));
    if (!found) throw new Error(`no case of ${kernel} begins with ${shape}`);
    return found;
  });
}

const checked = new WeakMap<Gpu, ReturnType<typeof checkVariants>>();

/**
 * The short self-test, once for each device. A device whose subgroup variants compute wrongly falls back to the portable ones.
 * @returns notes for the visitor, empty when all is well; failures when a portable kernel is wrong, too: then no answer of this
 * device could be trusted.
 */
export async function quickCheck(gpu: Gpu): ReturnType<typeof checkVariants> {
  let result = checked.get(gpu);
  if (!result) {
    result = checkVariants(gpu);
    checked.set(gpu, result);
    // A device that was lost meanwhile has not been checked.
    result.catch(() => checked.delete(gpu));
  }
  return await result;
}

async function checkVariants(gpu: Gpu): Promise<{ notes: string[]; failures: CaseResult[] }> {
  const check = async () => {
    const failures: CaseResult[] = [];
    // All are compiled at the same time.
    for (const begun of quickCases().map((c) => beginCase(gpu, c))) {
      const row = await finishCase(gpu, begun, undefined);
      if (!row.pass) failures.push(row);
    }
    if (gpu.lostReason !== undefined) {
      throw new TabTuneError("DeviceLost", `The GPU device was lost during its self-test (${gpu.lostReason}).`);
    }
    return failures;
  };
  const failures = await check();
  const names = [...new Set(failures.map((f) => f.kernel))].join(", ");
  let left = failures;
  if (left.length > 0 && gpu.variants.matrix) {
    gpu.variants.matrix = undefined;
    left = await check();
    if (left.length === 0) return { notes: [note(names, "matrix units")], failures: [] };
  }
  if (left.length > 0 && gpu.variants.half) {
    gpu.variants.half = false;
    left = await check();
    if (left.length === 0) return { notes: [note(names, "16-bit floats")], failures: [] };
  }
  if (left.length === 0 || !gpu.variants.subgroups) return { notes: [], failures: left };
  gpu.variants.subgroups = false;
  left = await check();
  return { notes: left.length ? [] : [note(names, "subgroup operations")], failures: left };
}

function note(names: string, what: string): string {
  return `${names} computed wrongly here with ${what}; the portable version is used.`;
}
