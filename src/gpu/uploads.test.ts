import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { nullDevice } from "../../e2e/null_device.ts";
import { Gpu } from "./gpu.ts";
import { Uploads } from "./uploads.ts";

const entry = await nullDevice();

describe.skipIf(!entry)("uploads (skipped where the package webgpu has no binary)", () => {
  let gpu: Gpu;
  beforeAll(async () => {
    gpu = await Gpu.open({ gpu: entry! });
  });
  afterAll(() => gpu?.close());

  it("take turns with four buffers, each part to its place, and give them back", async () => {
    const target = gpu.storage("test", "target", 1024);
    const before = gpu.ledger.total;
    const copies = vi.spyOn(GPUCommandEncoder.prototype, "copyBufferToBuffer");
    const uploads = new Uploads(gpu, 128);
    for (let i = 0; i < 16; i++) {
      const parts = [64, 0].map((from) => ({ from, bytes: 32, to: { ...target, offset: 256 }, at: 4 * i + from }));
      await uploads.send(new Uint8Array(128 - 4 * i), parts);
    }
    await uploads.finish();
    expect(new Set(copies.mock.calls.map(([buffer]) => buffer)).size).toBe(4);
    expect(copies.mock.calls.map((call) => call.slice(1))).toEqual(
      Array.from({ length: 16 }, (_, i) => [64, 0].map((from) => [from, target.buffer, 256 + 4 * i + from, 32])).flat(),
    );
    copies.mockRestore();
    expect(gpu.ledger.byOwner().loading).toBe(4 * 128);
    uploads.free();
    expect(gpu.ledger.total).toBe(before);
  });

  it("say that the device was lost", async () => {
    const lost = await Gpu.open({ gpu: entry! });
    const uploads = new Uploads(lost, 16);
    lost.close();
    const sending = async () => {
      for (let i = 0; i < 9; i++) await uploads.send(new Uint8Array(16), []);
    };
    await expect(sending()).rejects.toMatchObject({ name: "DeviceLost" });
    await expect(uploads.finish()).rejects.toMatchObject({ name: "DeviceLost" });
  });
});
