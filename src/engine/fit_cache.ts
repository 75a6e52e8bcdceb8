import { isError } from "../errors.ts";
import type { Gpu } from "../gpu/index.ts";
import { type GpuWeights, Qwen3VL, type Qwen3VLConfig } from "../models/index.ts";
import { type MemoryPlan, planMemory } from "./memory.ts";

/** Contexts below this are not tried: better to say that there is too little memory. */
const LEAST_TRIED = 512;

/**
 * Allocates cache and activations, and makes sure that a picture can still be encoded beside them. The context is halved until all of
 * it fits. Throws `OutOfMemory` when not even a short one does; the weights are kept then.
 */
export async function fitCache(gpu: Gpu, config: Qwen3VLConfig, weights: GpuWeights, plan: MemoryPlan) {
  let used = plan;
  for (;;) {
    let model: Qwen3VL | undefined;
    try {
      model = await Qwen3VL.create(gpu, config, weights, used);
      await reserve(gpu, used.visionBytes);
      return { model, used };
    } catch (error) {
      model?.language.free();
      if (!isError(error, "OutOfMemory") || used.capacity < 2 * LEAST_TRIED) throw error;
      used = planMemory(gpu, config, { contextLength: Math.floor(used.capacity / 2), cacheType: plan.cacheType });
    }
  }
}

/** Takes so many bytes and gives them back. */
async function reserve(gpu: Gpu, bytes: number): Promise<void> {
  const parts = Math.max(8, Math.ceil(bytes / gpu.maxBytes));
  const slices = await gpu.allocating("encoding a picture", () =>
    Array.from({ length: parts }, () => gpu.storage("vision workspace", "reserve", bytes / parts)),
  );
  for (const slice of slices) gpu.free(slice);
}
