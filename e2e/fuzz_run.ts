import { TabTuneError } from "../src/errors.ts";
import { mutate } from "./fuzz_mutate.ts";
import type { Files, Target } from "./fuzz_target.ts";

/** A call may take this long, in milliseconds of the processor: what other programs take is no hang. */
const MOST_TIME = 1000;
/** Buffers of a fixed size that a parser may have whatever the file's, in bytes: decoders, hashes. */
const FIXED_BYTES = 64 << 10;
/** JavaScript heap and buffers together may grow by this much during one call on a file of a few kilobytes. */
const MOST_GROWTH = 96 << 20;

export interface Finding {
  target: string;
  /** `npm run fuzz -- --only <target> --from <index> --files 1 --seed <seed>` shows it again. */
  index: number;
  what: string;
}

export interface FuzzReport {
  target: string;
  files: number;
  /** Read without complaint in spite of the damage. */
  accepted: number;
  /** Refused, by code. */
  refused: Record<string, number>;
  findings: Finding[];
  slowestMilliseconds: number;
  /** The largest buffer that was asked for, over the size of its file. */
  largestRequest: number;
  seconds: number;
}

const TYPED = [
  ...[Int8Array, Uint8Array, Uint8ClampedArray, Int16Array, Uint16Array, Int32Array, Uint32Array],
  ...[Float32Array, Float64Array, BigInt64Array, BigUint64Array],
];

/**
 * Stands in for the constructors of ArrayBuffer and all typed arrays, so that every buffer that a parser asks for by size is seen, also
 * one that is then refused. What the platform makes inside (a Blob's bytes, a copy of a part) is no larger than its source.
 */
export class AllocationWatch {
  largest = 0;
  #restore: (() => void)[] = [];

  start(): void {
    this.#watch("ArrayBuffer", ArrayBuffer, 1);
    for (const type of TYPED) this.#watch(type.name, type as never, type.BYTES_PER_ELEMENT);
  }

  stop(): void {
    for (const restore of this.#restore) restore();
    this.#restore = [];
  }

  #watch(name: string, original: new (...args: unknown[]) => object, bytes: number): void {
    const scope = globalThis as unknown as Record<string, unknown>;
    scope[name] = new Proxy(original, {
      construct: (target, args, newTarget) => {
        if (typeof args[0] === "number") this.largest = Math.max(this.largest, args[0] * bytes);
        return Reflect.construct(target, args, newTarget === scope[name] ? target : newTarget) as object;
      },
    });
    this.#restore.push(() => {
      scope[name] = original;
    });
  }
}

const memory = () => {
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
};

/** One call, watched: what is wrong with it, if anything. */
async function attempt(
  target: Target,
  files: Files,
): Promise<{ fault?: string; code?: string; time: number; request: number }> {
  const size = [...files.values()].reduce((sum, bytes) => sum + bytes.length, 0);
  const allowed = Math.max(FIXED_BYTES, size);
  const watch = new AllocationWatch();
  const before = memory();
  let failure: unknown;
  const began = process.cpuUsage();
  watch.start();
  try {
    await target.read(files);
  } catch (error) {
    failure = error;
  } finally {
    watch.stop();
  }
  const used = process.cpuUsage(began);
  const time = (used.user + used.system) / 1000;
  const growth = memory() - before;
  const result = { time, request: watch.largest / Math.max(1, size) };
  if (watch.largest > allowed) return { ...result, fault: `asked for ${watch.largest} bytes, of ${size} of the file` };
  if (growth > MOST_GROWTH) return { ...result, fault: `memory grew by ${growth} bytes for a file of ${size}` };
  if (failure === undefined) return result;
  if (failure instanceof TabTuneError) return { ...result, code: failure.name };
  const { stack } = failure as Error;
  return { ...result, fault: `threw ${String(failure)}\n${stack?.split("\n").slice(1, 4).join("\n")}` };
}

/** Reads `count` damaged files, numbers `from` on. Every fault is found again before it is reported: machines have pauses. */
export async function fuzz(
  target: Target,
  {
    count,
    from = 0,
    seed = 1,
    onFinding,
  }: { count: number; from?: number; seed?: number; onFinding?: (f: Finding) => void },
): Promise<FuzzReport> {
  for (const files of target.seeds) await target.read(files);
  const report: FuzzReport = {
    ...{ target: target.name, files: count, accepted: 0, refused: {}, findings: [] },
    ...{ slowestMilliseconds: 0, largestRequest: 0, seconds: 0 },
  };
  let index = from;
  const note = (what: string) => {
    const finding = { target: target.name, index, what };
    report.findings.push(finding);
    onFinding?.(finding);
  };
  const onRejection = (error: unknown) => note(`left a rejected promise behind: ${String(error)}`);
  process.on("unhandledRejection", onRejection);
  const began = performance.now();
  for (; index < from + count; index++) {
    const files = mutate(target.seeds[index % target.seeds.length]!, Math.imul(seed, 0x9e3779b1) ^ index);
    let result = await attempt(target, files);
    if (result.time > MOST_TIME || result.fault?.startsWith("memory")) result = await attempt(target, files);
    if (result.time > MOST_TIME) note(`took ${Math.round(result.time)} ms`);
    if (result.fault) note(result.fault);
    else if (result.code) report.refused[result.code] = (report.refused[result.code] ?? 0) + 1;
    else report.accepted++;
    report.slowestMilliseconds = Math.max(report.slowestMilliseconds, result.time);
    report.largestRequest = Math.max(report.largestRequest, result.request);
  }
  await new Promise((resolve) => setTimeout(resolve));
  process.off("unhandledRejection", onRejection);
  report.seconds = (performance.now() - began) / 1000;
  return report;
}
