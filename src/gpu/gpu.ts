import { TabTuneError } from "../errors.ts";
import { Governor } from "./governor.ts";
import { Ledger } from "./ledger.ts";

/** A range of a buffer, ready to be bound. Offsets are multiples of 256 bytes. */
export interface Slice {
  buffer: GPUBuffer;
  /** Bytes. */
  offset: number;
  /** Bytes. */
  size: number;
}

/** What a storage buffer for so many bytes takes, for plans that must agree with the ledger. */
export function storageBytes(bytes: number): number {
  return Math.max(16, Math.ceil(bytes / 16) * 16);
}

/** A shader with its binding layout, compiled while others are. */
export interface Kernel {
  label: string;
  layout: GPUBindGroupLayout;
  /** There once `ready` has resolved, unless the device refused the shader: it then is the device's first error. */
  pipeline?: GPUComputePipeline;
  ready: Promise<void>;
}

export interface DeviceOptions {
  /** Features to leave out, for tests of the portable tier. */
  without?: string[];
  /** Ask for the specification's default limits only: 8 storage buffers, 16 KiB workgroup memory, 128 MiB bindings. */
  defaultLimits?: boolean;
  /** Where to ask for an adapter; the browser's own by default. Node hands in Dawn here. */
  gpu?: GPU;
}

/** What multiplies matrices of 16 × 16 in hardware: f16 operands, sums in f32, by `subgroup` threads together. */
export interface MatrixUnits {
  subgroup: number;
}

const MATRIX_FEATURE = "chromium-experimental-subgroup-matrix";
const MATRIX_NEEDS = ["shader-f16", "subgroups"];
/** Bytes of workgroup memory that shaders in f16, and those for matrix units, take at most. */
const HALF_STORAGE = 24 * 1024;
const MATRIX_STORAGE = 48 * 1024;
const WANTED_FEATURES = ["subgroups", "timestamp-query", "shader-f16", MATRIX_FEATURE] as const;
const RAISED_LIMITS = [
  "maxBufferSize",
  "maxStorageBufferBindingSize",
  "maxComputeWorkgroupStorageSize",
  "maxComputeInvocationsPerWorkgroup",
  "maxComputeWorkgroupSizeX",
  "maxStorageBuffersPerShaderStage",
] as const;

/** As browsers that try the proposal describe what their device multiplies. */
interface MatrixConfig {
  componentType: string;
  resultComponentType: string;
  M: number;
  N: number;
  K: number;
}

/** Units of 16 × 16 × 16 on a device whose subgroups are of one size and that has the limits for shaders made for them. */
function matrixUnits(device: GPUDevice, info: GPUAdapterInfo): MatrixUnits | undefined {
  const { subgroupMatrixConfigs } = info as GPUAdapterInfo & { subgroupMatrixConfigs?: Iterable<MatrixConfig> };
  const { subgroupMinSize: least, subgroupMaxSize: subgroup } = info;
  const { maxComputeInvocationsPerWorkgroup: threads, maxComputeWorkgroupStorageSize: storage } = device.limits;
  const isOffered = [MATRIX_FEATURE, ...MATRIX_NEEDS].every((name) => device.features.has(name));
  if (!isOffered || !subgroupMatrixConfigs || !subgroup || least !== subgroup) return undefined;
  // A thread of a product's four subgroups has at most four octets of weights on their way.
  if (subgroup < 32 || 4 * subgroup > threads || storage < MATRIX_STORAGE) return undefined;
  const hasUnits = [...subgroupMatrixConfigs].some(
    (c) => c.componentType === "f16" && c.resultComponentType === "f32" && c.M === 16 && c.N === 16 && c.K === 16,
  );
  return hasUnits ? { subgroup } : undefined;
}

/**
 * One GPU device with what belongs to it: the memory ledger, the compile cache and the pace of submits.
 * The only place that calls `navigator.gpu` and `device.create*`.
 */
export class Gpu {
  readonly device: GPUDevice;
  readonly info: GPUAdapterInfo;
  readonly ledger = new Ledger();
  readonly governor = new Governor();
  /** Faster variants that the device offers; the short self-test switches off the ones that compute wrongly here. */
  readonly variants: { subgroups: boolean; half: boolean; matrix: MatrixUnits | undefined };
  /** What was measured to be best on this device, by the name of the question; kernels have a default for each. */
  readonly choices = new Map<string, number>();
  /** Each gives back memory that is kept for speed alone; all do when memory is asked for elsewhere. */
  readonly spares = new Set<() => void>();
  /** Set once the device is gone. */
  lostReason: string | undefined;
  /** First validation or internal error that no scope caught; reported with the next read-back. */
  firstError: string | undefined;
  #kernels = new Map<string, Kernel>();
  #buffers = new Map<GPUBuffer, { owner: string; bytes: number }>();

  private constructor(device: GPUDevice, info: GPUAdapterInfo) {
    this.device = device;
    this.info = info;
    this.variants = {
      subgroups: device.features.has("subgroups"),
      half: device.features.has("shader-f16") && device.limits.maxComputeWorkgroupStorageSize >= HALF_STORAGE,
      matrix: matrixUnits(device, info),
    };
    device.addEventListener("uncapturederror", (event) => {
      this.firstError ??= event.error.message;
      console.error("GPU:", event.error.message);
    });
    void device.lost.then((lost) => {
      this.lostReason = `${lost.reason}: ${lost.message}`;
    });
  }

  /** The adapter, or a `NoWebGPU` error that says what is missing. */
  static async adapter(gpu: GPU | undefined = globalThis.navigator?.gpu): Promise<GPUAdapter> {
    if (!gpu) {
      throw new TabTuneError(
        "NoWebGPU",
        "This browser does not offer WebGPU (navigator.gpu is missing). Use a current Chrome, Edge or Safari 26.",
      );
    }
    const adapter = await gpu.requestAdapter({ powerPreference: "high-performance" });
    if (!adapter) {
      throw new TabTuneError(
        "NoWebGPU",
        "The browser has WebGPU but found no graphics adapter. Switch on hardware acceleration in its settings, update the graphics driver and restart the browser.",
      );
    }
    return adapter;
  }

  /** Opens the device with the largest limits that the adapter offers. Throws `NoWebGPU`. */
  static async open(options: DeviceOptions = {}): Promise<Gpu> {
    const adapter = await Gpu.adapter(options.gpu);
    const left = (name: string) => adapter.features.has(name) && !options.without?.includes(name);
    // A device that opens with matrix units opens with subgroups too.
    const features = WANTED_FEATURES.filter((f) => left(f) && (f !== MATRIX_FEATURE || MATRIX_NEEDS.every(left)));
    const requiredLimits: Record<string, number> = {};
    if (!options.defaultLimits) for (const name of RAISED_LIMITS) requiredLimits[name] = adapter.limits[name];
    try {
      const requiredFeatures = features as GPUFeatureName[];
      const device = await adapter.requestDevice({ requiredFeatures, requiredLimits });
      return new Gpu(device, adapter.info);
    } catch (cause) {
      throw new TabTuneError("NoWebGPU", `The graphics adapter refused to open a device: ${String(cause)}`, { cause });
    }
  }

  /** True for a software adapter such as SwiftShader: works, slowly. */
  get isSoftware(): boolean {
    const { architecture, description, device } = this.info;
    return /swiftshader|llvmpipe|software/i.test(`${architecture} ${description} ${device}`);
  }

  get limits(): GPUSupportedLimits {
    return this.device.limits;
  }

  /** Largest buffer that can also be bound whole. */
  get maxBytes(): number {
    return Math.min(this.limits.maxBufferSize, this.limits.maxStorageBufferBindingSize);
  }

  /**
   * A storage buffer, counted in the ledger under `owner`, for `more` uses where these are given.
   * Throws `OutOfMemory` with the sizes when it is larger than the device can bind.
   */
  storage(owner: string, label: string, bytes: number, more: GPUBufferUsageFlags = 0): Slice {
    const size = storageBytes(bytes);
    if (size > this.maxBytes) {
      throw new TabTuneError(
        "OutOfMemory",
        `${label} needs one buffer of ${size} bytes; this device binds at most ${this.maxBytes}. Choose a shorter context or a smaller picture.`,
      );
    }
    const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST | more;
    return { buffer: this.#create(owner, label, size, usage), offset: 0, size };
  }

  uniform(owner: string, label: string, bytes: number): GPUBuffer {
    return this.#create(owner, label, bytes, GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST);
  }

  staging(owner: string, label: string, bytes: number): GPUBuffer {
    return this.#create(owner, label, bytes, GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST);
  }

  /** Two points in time, for a stopwatch. */
  timestamps(): GPUQuerySet {
    return this.device.createQuerySet({ type: "timestamp", count: 2 });
  }

  /** A buffer that is mapped for writing, for copies from it. */
  mapped(owner: string, label: string, bytes: number): GPUBuffer {
    return this.#create(owner, label, bytes, GPUBufferUsage.MAP_WRITE | GPUBufferUsage.COPY_SRC, true);
  }

  #create(owner: string, label: string, size: number, usage: GPUBufferUsageFlags, mappedAtCreation = false): GPUBuffer {
    const buffer = this.device.createBuffer({ label, size, usage, mappedAtCreation });
    this.ledger.add(owner, size);
    this.#buffers.set(buffer, { owner, bytes: size });
    return buffer;
  }

  /** Destroys a buffer and takes it off the ledger. */
  free(target: Slice | GPUBuffer): void {
    const buffer = "buffer" in target ? target.buffer : target;
    const entry = this.#buffers.get(buffer);
    if (!entry) return;
    this.#buffers.delete(buffer);
    this.ledger.remove(entry.owner, entry.bytes);
    buffer.destroy();
  }

  /** Runs `allocate` and turns a GPU out-of-memory into an `OutOfMemory` error that names `what`. */
  async allocating<T>(what: string, allocate: () => T): Promise<T> {
    for (const giveBack of this.spares) giveBack();
    // What is then done with a buffer that could not be had is invalid too, and no fault of ours.
    this.device.pushErrorScope("validation");
    this.device.pushErrorScope("out-of-memory");
    let result: T | undefined;
    let thrown: unknown;
    try {
      result = allocate();
    } catch (error) {
      thrown = error;
    }
    const [error, invalid] = await Promise.all([this.device.popErrorScope(), this.device.popErrorScope()]);
    if (!error && invalid) this.firstError ??= invalid.message;
    // A buffer that is mapped when it is made says so by a RangeError.
    if (thrown && !(thrown instanceof RangeError)) throw thrown;
    if (error || thrown) {
      throw new TabTuneError(
        "OutOfMemory",
        `The GPU ran out of memory for ${what} (${Math.round(this.ledger.total / 2 ** 20)} MiB are in use by this page). Close other tabs that use the GPU, or choose a shorter context.`,
      );
    }
    return result as T;
  }

  write(target: Slice, data: ArrayBufferView<ArrayBuffer>, byteOffset = 0): void {
    this.device.queue.writeBuffer(
      target.buffer,
      target.offset + byteOffset,
      data.buffer,
      data.byteOffset,
      data.byteLength,
    );
  }

  /** A storage buffer that holds a copy of `data`. */
  upload(owner: string, label: string, data: ArrayBufferView<ArrayBuffer>): Slice {
    const slice = this.storage(owner, label, data.byteLength);
    this.write(slice, data);
    return slice;
  }

  /** Copies a range back to the CPU. Throws `DeviceLost`. */
  async read(source: Slice, bytes = source.size, byteOffset = 0): Promise<ArrayBuffer> {
    const size = Math.ceil(bytes / 4) * 4;
    const staging = this.staging("read-back", "read-back", Math.max(16, size));
    try {
      const encoder = this.device.createCommandEncoder();
      encoder.copyBufferToBuffer(source.buffer, source.offset + byteOffset, staging, 0, size);
      this.device.queue.submit([encoder.finish()]);
      await this.guard(staging.mapAsync(GPUMapMode.READ, 0, size));
      return staging.getMappedRange(0, size).slice(0, bytes);
    } finally {
      this.free(staging);
    }
  }

  async readFloats(source: Slice, count = source.size / 4, byteOffset = 0): Promise<Float32Array<ArrayBuffer>> {
    return new Float32Array(await this.read(source, count * 4, byteOffset));
  }

  /** Awaits GPU work and turns a lost device or an uncaught GPU error into an error with a name. */
  async guard<T>(work: Promise<T>): Promise<T> {
    try {
      const result = await work;
      if (this.lostReason !== undefined) throw new Error(this.lostReason);
      if (this.firstError !== undefined) throw new TabTuneError("Internal", `The GPU reported: ${this.firstError}`);
      return result;
    } catch (cause) {
      if (cause instanceof TabTuneError) throw cause;
      // A failed map races with the lost promise: give that one turn to settle.
      await Promise.race([this.device.lost, new Promise((resolve) => setTimeout(resolve, 50))]);
      throw new TabTuneError("DeviceLost", `The GPU device was lost (${this.lostReason ?? String(cause)}).`, { cause });
    }
  }

  /**
   * Begins to compile a shader, once per source text: devices compile several at a time.
   * @param access  one letter per storage binding, in order from binding 1: "rrw".
   */
  kernel(label: string, code: string, access: string): Kernel {
    const known = this.#kernels.get(code);
    if (known) return known;
    const { device } = this;
    const layout = device.createBindGroupLayout({
      label,
      entries: [
        { binding: 0, visibility: GPUShaderStage.COMPUTE, buffer: { type: "uniform" } },
        ...Array.from(access, (a, i) => ({
          binding: i + 1,
          visibility: GPUShaderStage.COMPUTE,
          buffer: { type: (a === "r" ? "read-only-storage" : "storage") as GPUBufferBindingType },
        })),
      ],
    });
    const module = device.createShaderModule({ label, code });
    void module.getCompilationInfo().then(({ messages }) => {
      for (const m of messages) if (m.type === "error") console.error(`${label}:${m.lineNum}: ${m.message}`);
    });
    const compiled = device.createComputePipelineAsync({
      label,
      layout: device.createPipelineLayout({ bindGroupLayouts: [layout] }),
      compute: { module },
    });
    const kernel: Kernel = {
      label,
      layout,
      ready: compiled.then(
        (pipeline) => {
          kernel.pipeline = pipeline;
        },
        (error: unknown) => {
          this.firstError ??= `${label}: ${error instanceof Error ? error.message : String(error)}`;
        },
      ),
    };
    this.#kernels.set(code, kernel);
    return kernel;
  }

  /** Frees everything. `device.lost` then resolves with the reason "destroyed". */
  close(): void {
    this.device.destroy();
  }
}
