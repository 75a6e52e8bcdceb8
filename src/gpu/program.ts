import { throwIfCancelled } from "../errors.ts";
import type { Governor } from "./governor.ts";
import type { Gpu, Kernel, Slice } from "./gpu.ts";

interface Dispatch {
  kernel: Kernel;
  buffers: readonly Slice[];
  /** Where its parameters are. */
  slot: number;
  bindGroup: GPUBindGroup;
  x: number;
  y: number;
  z: number;
  work: number;
}
interface Copy {
  from: Slice;
  to: Slice;
  bytes: number;
}

interface Clear {
  clear: Slice;
  bytes: number;
}

/** How a dispatch is described: parameters are the words of its uniform struct, `work` is its cost in FLOPs. */
export interface DispatchSpec {
  params: number[];
  buffers: Slice[];
  grid: [number, number?, number?];
  work: number;
}

/** Handle of a recorded dispatch whose grid may change between runs (decode attention grows with the context). */
export interface GridHandle {
  set(x: number, y?: number, z?: number): void;
}

/** FLOPs of a dispatch; a byte copied or cleared counts as one. */
const costOf = (step: Dispatch | Copy | Clear) => ("kernel" in step ? step.work : step.bytes);

const SLOT = 256;
/** Dispatches whose parameters share one uniform buffer. */
const PAGE = 256;
const float = new Float32Array(1);
const floatBits = new Uint32Array(float.buffer);

/** The bits of an f32, for a parameter list. */
export function f32(value: number): number {
  float[0] = value;
  return floatBits[0]!;
}

/**
 * A flat list of dispatches and copies, recorded once and run any number of times.
 * Parameters live in uniform buffers with a slot per dispatch; nothing is allocated while it runs.
 */
export class Program {
  readonly gpu: Gpu;
  readonly label: string;
  #steps: (Dispatch | Copy | Clear)[] = [];
  #pages: { uniform: GPUBuffer; words: Uint32Array<ArrayBuffer> }[] = [];
  #count = 0;
  /** Dispatches whose parameters are on the GPU. */
  #sealed = 0;
  /** Steps before those that wait. */
  #held: number | undefined;
  #isCut = false;

  constructor(gpu: Gpu, label: string) {
    this.gpu = gpu;
    this.label = label;
  }

  get work(): number {
    let sum = 0;
    for (const step of this.#steps) if ("kernel" in step) sum += step.work;
    return sum;
  }

  #costFrom(at: number): number {
    let sum = 0;
    for (let i = at; i < this.#steps.length; i++) sum += costOf(this.#steps[i]!);
    return sum;
  }

  get dispatches(): number {
    return this.#count;
  }

  dispatch(kernel: Kernel, { params, buffers, grid, work }: DispatchSpec): GridHandle {
    if (params.length * 4 > SLOT) throw new Error(`${kernel.label}: parameters larger than ${SLOT} bytes`);
    const slot = this.#count++;
    if (slot % PAGE === 0) {
      const uniform = this.gpu.uniform("parameters", `${this.label} parameters`, PAGE * SLOT);
      this.#pages.push({ uniform, words: new Uint32Array((PAGE * SLOT) / 4) });
    }
    this.#pages.at(-1)!.words.set(params, ((slot % PAGE) * SLOT) / 4);
    const bindGroup = this.#bind(kernel, buffers, slot);
    const step: Dispatch = { kernel, buffers, slot, bindGroup, x: grid[0], y: grid[1] ?? 1, z: grid[2] ?? 1, work };
    this.#steps.push(step);
    return {
      set(x, y = 1, z = 1) {
        step.x = x;
        step.y = y;
        step.z = z;
      },
    };
  }

  #bind(kernel: Kernel, buffers: readonly Slice[], slot: number): GPUBindGroup {
    const { uniform } = this.#pages[Math.floor(slot / PAGE)]!;
    const entries: GPUBindGroupEntry[] = [
      { binding: 0, resource: { buffer: uniform, offset: (slot % PAGE) * SLOT, size: SLOT } },
    ];
    for (const { buffer, offset, size } of buffers) {
      entries.push({ binding: entries.length, resource: { buffer, offset, size } });
    }
    return this.gpu.device.createBindGroup({ layout: kernel.layout, entries });
  }

  /** Puts buffers of equal size in the place of some that dispatches were recorded with. */
  replace(others: ReadonlyMap<GPUBuffer, GPUBuffer>): void {
    for (const step of this.#steps) {
      if (!("kernel" in step) || !step.buffers.some(({ buffer }) => others.has(buffer))) continue;
      step.buffers = step.buffers.map((slice) => ({ ...slice, buffer: others.get(slice.buffer) ?? slice.buffer }));
      step.bindGroup = this.#bind(step.kernel, step.buffers, step.slot);
    }
  }

  /** What is recorded from here on waits for the promise that `run` may be given. */
  hold(): void {
    this.#held ??= this.#steps.length;
  }

  /** Rows that a dispatch may take of `most`, so that none runs long on a slow device: all, or a multiple of 64. */
  rowsAtOnce(workPerRow: number, most: number): number {
    const rows = Math.ceil(this.gpu.governor.rows(workPerRow, 64, most) / 64) * 64;
    if (rows < most) this.#isCut = true;
    return rows;
  }

  /** True when a dispatch was cut for the pace that the device had: it may be another one the next time. */
  get isCut(): boolean {
    return this.#isCut;
  }

  /** Dispatches and work (FLOPs) by the label of their kernel. */
  get byKernel(): Map<string, { dispatches: number; work: number }> {
    const all = new Map<string, { dispatches: number; work: number }>();
    for (const step of this.#steps) {
      if (!("kernel" in step)) continue;
      const { dispatches, work } = all.get(step.kernel.label) ?? { dispatches: 0, work: 0 };
      all.set(step.kernel.label, { dispatches: dispatches + 1, work: work + step.work });
    }
    return all;
  }

  /** The dispatches of one kernel alone, to be timed while this list lives: its parameters are this list's. */
  only(label: string): Program {
    const part = new Program(this.gpu, `${this.label}: ${label}`);
    part.#steps = this.#steps.filter((step) => "kernel" in step && step.kernel.label === label);
    return part;
  }

  /** True when the list is one compute pass: nothing is copied or cleared behind its first dispatch. */
  get isOnePass(): boolean {
    const first = this.#steps.findIndex((step) => "kernel" in step);
    return first >= 0 && this.#steps.every((step, i) => i < first || "kernel" in step);
  }

  copy(from: Slice, to: Slice, bytes = Math.min(from.size, to.size)): void {
    this.#steps.push({ from, to, bytes });
  }

  /** Fills the first `bytes` of a slice with zeros. */
  clear(target: Slice, bytes = target.size): void {
    this.#steps.push({ clear: target, bytes });
  }

  /** Uploads the parameters of what was recorded since the last call. */
  seal(): this {
    while (this.#sealed < this.#count) {
      const { uniform, words } = this.#pages[Math.floor(this.#sealed / PAGE)]!;
      const first = this.#sealed % PAGE;
      const end = Math.min(PAGE, first + this.#count - this.#sealed);
      const word = SLOT / 4;
      this.gpu.device.queue.writeBuffer(uniform, first * SLOT, words, first * word, (end - first) * word);
      this.#sealed += end - first;
    }
    return this;
  }

  /** Resolves when every kernel from step `from` on is compiled. Throws what the device said of one that it refused. */
  async ready(from = 0): Promise<void> {
    const waited = new Set<Promise<void>>();
    for (let i = from; i < this.#steps.length; i++) {
      const step = this.#steps[i]!;
      if ("kernel" in step && !step.kernel.pipeline) waited.add(step.kernel.ready);
    }
    if (waited.size > 0) await this.gpu.guard(Promise.all(waited));
  }

  /** Appends steps `from` to `to` to an encoder, as one compute pass wherever no copy stands between. `ready` must have resolved. */
  encode(
    encoder: GPUCommandEncoder,
    from = 0,
    to = this.#steps.length,
    timestamps?: GPUComputePassTimestampWrites,
  ): void {
    let pass: GPUComputePassEncoder | undefined;
    let pipeline: GPUComputePipeline | undefined;
    for (let i = from; i < to; i++) {
      const step = this.#steps[i]!;
      if ("kernel" in step) {
        if (!pass) {
          pass = encoder.beginComputePass(timestamps && { timestampWrites: timestamps });
          pipeline = undefined;
        }
        if (!pipeline || step.kernel.pipeline !== pipeline) {
          pipeline = step.kernel.pipeline;
          if (!pipeline) throw new Error(`${step.kernel.label} is used before it is compiled`);
          pass.setPipeline(pipeline);
        }
        pass.setBindGroup(0, step.bindGroup);
        pass.dispatchWorkgroups(step.x, step.y, step.z);
      } else {
        pass?.end();
        pass = undefined;
        if ("clear" in step) encoder.clearBuffer(step.clear.buffer, step.clear.offset, step.bytes);
        else encoder.copyBufferToBuffer(step.from.buffer, step.from.offset, step.to.buffer, step.to.offset, step.bytes);
      }
    }
    pass?.end();
  }

  /**
   * Runs the whole list in submits that the governor keeps short, at most three in flight.
   * Stops between two submits when the signal fires. Resolves when the GPU has finished.
   * @param until  awaited while the GPU works on what was recorded before `hold`
   */
  async run(signal?: AbortSignal, onProgress?: (share: number) => void, until?: Promise<unknown>): Promise<void> {
    const flight = new Flight(this.gpu.governor);
    await this.#submit(0, flight, signal, (end) => onProgress?.(end / this.#steps.length), until);
    await flight.landed();
    throwIfCancelled(signal);
  }

  /**
   * Records and runs a list that is used once: the GPU works on one piece while the next is recorded. Otherwise as `run`.
   * @param pieces records another piece each time it is asked for the next, and the last one when it ends; yields the share of the
   * whole that has been recorded, where someone wants to know
   */
  async stream(
    pieces: Iterable<number | undefined>,
    signal?: AbortSignal,
    onProgress?: (share: number) => void,
  ): Promise<void> {
    const flight = new Flight(this.gpu.governor);
    let at = 0;
    for (const share of pieces) {
      // What takes no time is not worth a submit of its own, but for the first, for which the device waits.
      if (at > 0 && this.#costFrom(at) < this.gpu.governor.budget / 8) continue;
      this.seal();
      at = await this.#submit(at, flight, signal, () => share !== undefined && onProgress?.(share));
    }
    this.seal();
    await this.#submit(at, flight, signal, () => onProgress?.(1));
    await flight.landed();
    throwIfCancelled(signal);
  }

  /** Submits all steps from `at` on; returns how many there are. */
  async #submit(
    at: number,
    flight: Flight,
    signal: AbortSignal | undefined,
    onDone?: (end: number) => void,
    until?: Promise<unknown>,
  ): Promise<number> {
    const { device, governor } = this.gpu;
    await this.ready(at);
    let stop = until ? (this.#held ?? 0) : this.#steps.length;
    while (at < this.#steps.length) {
      if (at === stop) {
        await until;
        stop = this.#steps.length;
      }
      throwIfCancelled(signal);
      let work = 0;
      let end = at;
      while (end < stop) {
        const cost = costOf(this.#steps[end]!);
        if (end > at && work + cost > governor.budget) break;
        work += cost;
        end++;
      }
      const encoder = device.createCommandEncoder({ label: this.label });
      this.encode(encoder, at, end);
      device.queue.submit([encoder.finish()]);
      at = end;
      await flight.join(work, this.gpu.guard(device.queue.onSubmittedWorkDone()), () => onDone?.(end));
    }
    return at;
  }

  /** Frees the parameters' buffers. */
  free(): void {
    for (const { uniform } of this.#pages) this.gpu.free(uniform);
    this.#pages = [];
    this.#steps = [];
  }
}

/** Submits under way. The governor learns from each how fast the device is. */
class Flight {
  #governor: Governor;
  #inFlight: Promise<void>[] = [];
  #lastDone = 0;

  constructor(governor: Governor) {
    this.#governor = governor;
  }

  /** Takes a submit along; waits for the oldest one when there are three. */
  async join(work: number, done: Promise<unknown>, onDone: () => void): Promise<void> {
    const submitted = performance.now();
    const learned = done.then(() => {
      const now = performance.now();
      // The GPU worked on this one since it was submitted or since the one before it was done.
      this.#governor.learn(work, now - Math.max(submitted, this.#lastDone));
      this.#lastDone = now;
      onDone();
    });
    learned.catch(() => {});
    this.#inFlight.push(learned);
    if (this.#inFlight.length >= 3) await this.#inFlight.shift();
  }

  async landed(): Promise<void> {
    await Promise.all(this.#inFlight);
  }
}
