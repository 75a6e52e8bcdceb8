import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { configOf, PRESETS } from "../../e2e/checkpoint_shapes.ts";
import { nullDevice } from "../../e2e/null_device.ts";
import { RandomCheckpoint } from "../../e2e/random_checkpoint.ts";
import { TabTuneError } from "../errors.ts";
import { openCheckpoint } from "../formats/index.ts";
import { Gpu, type Slice } from "../gpu/index.ts";
import { GpuWeights, parseConfig, weightSlots } from "../models/index.ts";
import { fitCache } from "./fit_cache.ts";
import { longestContext, planMemory, visionBytes } from "./memory.ts";

const entry = await nullDevice();

describe.skipIf(!entry)("memory (skipped where the package webgpu has no binary)", () => {
  const checkpoint = new RandomCheckpoint({
    ...{ layers: 3, hidden: 256, heads: 4, kvHeads: 2, headDim: 64, ffn: 512, tied: true, vocabulary: 1000 },
    vision: { depth: 2, hidden: 128, heads: 2, ffn: 256, taps: [0, 1], positions: 64 },
  });
  const { config } = checkpoint;
  let gpu: Gpu;
  let weights: GpuWeights;

  beforeAll(async () => {
    gpu = await Gpu.open({ gpu: entry!, defaultLimits: true });
    weights = await GpuWeights.allocate(gpu, weightSlots(config, await openCheckpoint(checkpoint.files), "q4a32"));
  });
  afterAll(() => {
    checkpoint.remove();
    gpu?.close();
  });
  const within = (found: number, planned: number) => {
    expect(planned).toBeGreaterThanOrEqual(0.98 * found);
    expect(planned).toBeLessThanOrEqual(1.05 * found);
  };

  it("is planned as it is then allocated", async () => {
    const plan = planMemory(gpu, config, { contextLength: 4096 });
    const { model, used } = await fitCache(gpu, config, weights, plan);
    expect(used).toEqual(plan);
    const ledger = gpu.ledger.byOwner();
    expect(ledger["KV cache"]).toBe(plan.cacheBytes);
    within(ledger.activations! + ledger.sampling!, plan.activationBytes);
    expect(ledger["vision workspace"]).toBeUndefined();

    const side = 48;
    let encoding: Record<string, number> = {};
    const tap = () => {
      encoding = gpu.ledger.byOwner();
    };
    const pixels = new Float32Array(side * side * 1536);
    await model.vision.encode(pixels, [1, side, side], { tap });
    within(encoding["vision workspace"]! + encoding["image features"]!, visionBytes(config, side * side));
    model.vision.release();
    model.language.free();
    expect(gpu.ledger.byOwner()["vision workspace"]).toBeUndefined();
  });

  it("for pictures is kept between them up to what was planned, and given back when asked for elsewhere", async () => {
    const plan = planMemory(gpu, config, { contextLength: 512 });
    const { model } = await fitCache(gpu, config, weights, plan);
    const workspace = () => gpu.ledger.byOwner()["vision workspace"] ?? 0;
    /** Encodes a square of so many patches; says how many buffers and bind groups that took. */
    const encode = async (side: number) => {
      const { device } = gpu;
      const made = { createBuffer: 0, createBindGroup: 0 };
      for (const name of Object.keys(made) as (keyof typeof made)[]) {
        const original = device[name] as (descriptor: never) => unknown;
        Object.assign(device, {
          [name]: (descriptor: never) => {
            made[name]++;
            return original.call(device, descriptor);
          },
        });
      }
      try {
        const { features } = await model.vision.encode(new Float32Array(side * side * 1536), [1, side, side]);
        for (const slice of features) gpu.free(slice);
        return made;
      } finally {
        for (const name of Object.keys(made)) Reflect.deleteProperty(device, name);
      }
    };
    // The first of all are cut for a device whose pace is unknown.
    gpu.governor.learn(1e12, 1);
    for (let i = 0; i < 8; i++) gpu.governor.learn(1e12, 1);
    const first = await encode(16);
    expect(first.createBindGroup).toBeGreaterThan(20);
    // Only the features of this picture, and the products that write them.
    expect(await encode(16)).toEqual({ createBuffer: 3, createBindGroup: 3 });
    const kept = workspace();
    expect(kept).toBeGreaterThan(0);
    expect(kept).toBeLessThanOrEqual(visionBytes(config, 256));
    // A smaller one has room in it: its tables, its parameters, its features.
    expect((await encode(8)).createBuffer).toBe(5 + 1 + 3);
    expect(await encode(16)).toEqual({ createBuffer: 3, createBindGroup: 3 });

    await gpu.allocating("something else", () => undefined);
    expect(workspace()).toBe(0);
    expect((await encode(16)).createBindGroup).toBe(first.createBindGroup);

    // Planned is a picture of 80 × 80 patches.
    expect(plan.visionBytes).toBe(visionBytes(config, 80 ** 2));
    await encode(100);
    expect(workspace()).toBe(0);
    model.vision.release();
    model.language.free();
  });

  it("that a picture lacks is looked for in what earlier ones left", async () => {
    const { model } = await fitCache(gpu, config, weights, planMemory(gpu, config, { contextLength: 512 }));
    const encode = async (side: number) => {
      const { features } = await model.vision.encode(new Float32Array(side * side * 1536), [1, side, side]);
      for (const slice of features) gpu.free(slice);
    };
    const before = gpu.ledger.total;
    await encode(32);
    const full = gpu.ledger.total;
    expect(full).toBeGreaterThan(before);
    const { allocating } = gpu;
    gpu.allocating = async (what, allocate) => {
      const result = await allocating.call(gpu, what, allocate);
      if (gpu.ledger.total > full) throw new TabTuneError("OutOfMemory", "planted");
      return result as never;
    };
    await encode(8);
    expect(gpu.ledger.total).toBeLessThan(full);
    gpu.allocating = async (_, allocate) => {
      allocate();
      throw new TabTuneError("OutOfMemory", "planted");
    };
    await expect(encode(8)).rejects.toMatchObject({ name: "OutOfMemory" });
    gpu.allocating = allocating;
    expect(gpu.ledger.total).toBe(before);
    model.language.free();
  });

  it("is all given back when the device is lost between two pictures", async () => {
    const lost = await Gpu.open({ gpu: entry!, defaultLimits: true });
    const slots = weightSlots(config, await openCheckpoint(checkpoint.files), "q4a32");
    const own = await GpuWeights.allocate(lost, slots);
    const { model } = await fitCache(lost, config, own, planMemory(lost, config, { contextLength: 512 }));
    const encode = async () => {
      const { features } = await model.vision.encode(new Float32Array(256 * 1536), [1, 16, 16]);
      for (const slice of features) lost.free(slice);
    };
    for (let i = 0; i < 3; i++) await encode();
    lost.device.destroy();
    for (let i = 0; i < 2; i++) await expect(encode()).rejects.toMatchObject({ name: "DeviceLost" });
    model.free();
    expect(lost.ledger.total).toBe(0);
  });

  it("that the device has not is said to be missing, and what was done with it is no fault of the device", async () => {
    const before = gpu.ledger.total;
    const made: Slice[] = [];
    // Dawn's null device has 512 MiB.
    const tried = gpu.allocating("a test", () => {
      for (let i = 0; i < 6; i++) made.push(gpu.storage("test", "too much", gpu.maxBytes));
      for (const slice of made) gpu.write(slice, new Uint8Array(16));
    });
    await expect(tried).rejects.toMatchObject({ name: "OutOfMemory", message: expect.stringContaining("a test") });
    for (const slice of made) gpu.free(slice);
    expect(gpu.ledger.total).toBe(before);
    expect(gpu.firstError).toBeUndefined();
  });

  it("is all given back by a model that compiles ahead, and a first answer about a picture then finds its shaders", async () => {
    const before = gpu.ledger.total;
    const { model } = await fitCache(gpu, config, weights, planMemory(gpu, config, { contextLength: 1024 }));
    const held = gpu.ledger.total;
    const compiled = vi.spyOn(gpu.device, "createComputePipelineAsync");
    expect(gpu.isSoftware).toBe(false);
    await model.compile();
    expect(compiled.mock.calls.length).toBeGreaterThan(15);
    const programs = gpu.ledger.byOwner().parameters!;
    expect(gpu.ledger.total - held).toBe(programs);
    compiled.mockClear();
    const { features, tokens } = await model.vision.encode(new Float32Array(784 * 1536), [1, 28, 28]);
    const positions = Uint32Array.from({ length: 4 * 210 }, (_, i) => i >> 2);
    const images = [
      { features: { features, tokens, bytes: 0 }, first: 0, at: Uint32Array.from({ length: tokens }, (_, i) => i) },
    ];
    await model.language.prefill({ ids: new Uint32Array(210), positions, images }, { last: true });
    await model.language.sampleProgram().run();
    await model.language.decodeProgram(300).run();
    expect(compiled.mock.calls.map(([{ label }]) => label)).toEqual([]);
    for (const slice of features) gpu.free(slice);
    model.vision.release();
    model.language.free();
    expect(gpu.ledger.total).toBe(before);
  });

  it("that does not suffice for the cache and a picture halves the context, and all of a failed try is given back", async () => {
    const plan = planMemory(gpu, config, { contextLength: 8192 });
    const before = gpu.ledger.total;
    const room = before + plan.cacheBytes / 2 + plan.activationBytes + plan.visionBytes;
    const { allocating } = gpu;
    gpu.allocating = async (what, allocate) => {
      const result = await allocating.call(gpu, what, allocate);
      if (gpu.ledger.total <= room) return result as never;
      for (const slice of Array.isArray(result) ? result : []) gpu.free(slice);
      throw new TabTuneError("OutOfMemory", "planted");
    };
    const { model, used } = await fitCache(gpu, config, weights, plan);
    expect(used.capacity).toBe(4096);
    expect(model.language.capacity).toBe(4096);
    model.language.free();
    expect(gpu.ledger.total).toBe(before);

    gpu.allocating = async () => {
      throw new TabTuneError("OutOfMemory", "planted");
    };
    await expect(fitCache(gpu, config, weights, plan)).rejects.toMatchObject({ name: "OutOfMemory" });
    expect(gpu.ledger.total).toBe(before);
    gpu.allocating = allocating;
  });

  it("lets the context grow to the model's maximum or the device's bindings, whichever is less", () => {
    const large = parseConfig(configOf(PRESETS["4b"]));
    // 128 MiB for 8 kv heads of 128: 1,152 bytes a token in 8 bits, 2 KiB in f16.
    expect(longestContext(gpu, large)).toBe(116480);
    expect(longestContext(gpu, large, "f16")).toBe(65536);
    expect(longestContext(gpu, large, "f32")).toBe(32768);
    expect(planMemory(gpu, large, { contextLength: 1 << 20 }).capacity).toBe(116480);
    expect(planMemory(gpu, config, { contextLength: 1 << 20 }).capacity).toBe(262144);
    expect(planMemory(gpu, large, {}).capacity).toBe(8192);
  });

  it("keeps the cache in 8 bits from a context of 4,096 tokens on", () => {
    const large = parseConfig(configOf(PRESETS["4b"]));
    const of = (wanted: Parameters<typeof planMemory>[2]) => {
      const { cacheType, cacheBytes } = planMemory(gpu, large, wanted);
      return [cacheType, cacheBytes];
    };
    // 36 layers × 2 × 8 heads × 128 channels of two bytes, or of one byte with two for each 16 of them.
    expect(of({ contextLength: 4095 })).toEqual(["f16", 4095 * 36 * 2 * 8 * 256]);
    expect(of({ contextLength: 4096 })).toEqual(["i8", 4096 * 36 * 2 * 8 * 144]);
    expect(of({})).toEqual(["i8", 8192 * 82944]);
    expect(of({ cacheType: "f16" })).toEqual(["f16", 8192 * 147456]);
    const short = { ...large, text: { ...large.text, maxPositionEmbeddings: 2048 } };
    expect(planMemory(gpu, short, {})).toMatchObject({ capacity: 2048, cacheType: "f16" });
  });
});
