import { isError, throwIfCancelled } from "../errors.ts";
import type { Gpu, Slice } from "../gpu/index.ts";

/** Bytes of one try. */
const STEP_BYTES = 256 << 20;
/** A step that takes longer is not memory of the GPU any more: the system is moving other programs' memory to disk. */
const STEP_MILLISECONDS = 1500;

export interface Room {
  /** Bytes that could be had, rounded down to what was tried. */
  bytes: number;
  /** True when the last try failed: there is no more. False when `most` was reached. */
  isAll: boolean;
}

/**
 * How much memory a device gives: takes it in steps, writes to it, and gives it all back. Drivers promise more than they have until it
 * is written to. Stops at `most` bytes. Call it with a device of its own: some drivers lose the device when there is no more.
 */
export async function measureRoom(gpu: Gpu, most: number, signal?: AbortSignal): Promise<Room> {
  const slices: Slice[] = [];
  let bytes = 0;
  try {
    while (bytes < most) {
      throwIfCancelled(signal);
      const step = Math.min(STEP_BYTES, gpu.maxBytes, most - bytes);
      const started = performance.now();
      slices.push(await gpu.allocating("a test", () => gpu.storage("test", "test of memory", step)));
      const encoder = gpu.device.createCommandEncoder();
      encoder.clearBuffer(slices.at(-1)!.buffer);
      gpu.device.queue.submit([encoder.finish()]);
      await gpu.guard(gpu.device.queue.onSubmittedWorkDone());
      if (performance.now() - started > STEP_MILLISECONDS) return { bytes, isAll: true };
      bytes += step;
    }
    return { bytes, isAll: false };
  } catch (error) {
    if (isError(error, "OutOfMemory") || isError(error, "DeviceLost")) return { bytes, isAll: true };
    throw error;
  } finally {
    for (const slice of slices) gpu.free(slice);
  }
}
