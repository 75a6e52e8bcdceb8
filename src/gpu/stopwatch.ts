import type { Gpu } from "./gpu.ts";
import type { Program } from "./program.ts";

export type Clock = "device" | "processor";

/**
 * Milliseconds that `repeats` runs of a program in one submit take, on the device's own clock: what the processor needs to encode a
 * submit and to hand it on, some microseconds a dispatch, is not in it. Where the device has no such clock, or the program copies
 * between its dispatches, the time from the submit to its end, which includes it.
 * @param clock "processor" for the latter in any case: that is how other runtimes can be timed
 */
export async function submitTime(
  gpu: Gpu,
  program: Program,
  repeats: number,
  clock: Clock = "device",
): Promise<number> {
  const { device } = gpu;
  await gpu.guard(device.queue.onSubmittedWorkDone());
  const encoder = device.createCommandEncoder({ label: program.label });
  if (clock === "processor" || !device.features.has("timestamp-query") || !program.isOnePass) {
    const started = performance.now();
    for (let i = 0; i < repeats; i++) program.encode(encoder);
    device.queue.submit([encoder.finish()]);
    await gpu.guard(device.queue.onSubmittedWorkDone());
    return performance.now() - started;
  }
  const querySet = gpu.timestamps();
  const times = gpu.storage("timestamps", "timestamps", 16, GPUBufferUsage.QUERY_RESOLVE);
  try {
    for (let i = 0; i < repeats; i++) {
      const first = i === 0 ? { beginningOfPassWriteIndex: 0 } : undefined;
      const last = i === repeats - 1 ? { endOfPassWriteIndex: 1 } : undefined;
      program.encode(encoder, 0, undefined, first || last ? { querySet, ...first, ...last } : undefined);
    }
    encoder.resolveQuerySet(querySet, 0, 2, times.buffer, times.offset);
    device.queue.submit([encoder.finish()]);
    const [start, end] = new BigUint64Array(await gpu.read(times, 16));
    return Number(end! - start!) / 1e6;
  } finally {
    gpu.free(times);
    querySet.destroy();
  }
}
