import { existsSync } from "node:fs";
import type { BenchOptions, BenchRow } from "../src/api/bench_protocol.ts";
import { runBench } from "../src/api/worker_bench.ts";
import { type DeviceOptions, Gpu } from "../src/gpu/index.ts";

/** Where Debian's Chromium keeps a Vulkan loader and the description of its software GPU. */
const CHROMIUM = "/usr/lib/chromium";
const SOFTWARE_DRIVER = `${CHROMIUM}/vk_swiftshader_icd.json`;

interface DawnRun {
  gpu: Gpu;
  name: string;
  /** The package's version, in the place of a browser's. */
  runtime: string;
  run: (options: BenchOptions, onRow: (row: BenchRow) => void) => Promise<void>;
}

/** Opens a device through Dawn in this process, without a browser: the same engine, the same shaders. `features` are Dawn's own toggles. */
export async function openDawn(features: string[], options: Pick<DeviceOptions, "without">): Promise<DawnRun> {
  let dawn: typeof import("webgpu");
  try {
    dawn = await import("webgpu");
  } catch (cause) {
    throw new Error(
      `--dawn needs the optional npm package webgpu, which has no binary that runs here (${process.platform} ${process.arch}): ${String(cause)}`,
      { cause },
    );
  }
  Object.assign(globalThis, dawn.globals);
  const entry = dawn.create(features.length > 0 ? [`enable-dawn-features=${features.join(",")}`] : []);
  // Dawn crashes once this object is collected while its devices live.
  Object.assign(globalThis, { dawnForBench: entry });
  if (!(await entry.requestAdapter())) {
    const software = `LD_LIBRARY_PATH=${CHROMIUM} VK_ICD_FILENAMES=${SOFTWARE_DRIVER}`;
    const hint = existsSync(SOFTWARE_DRIVER) ? ` For Chromium's software GPU begin the command with ${software}` : "";
    throw new Error(
      `--dawn found no graphics adapter. Expected one through Vulkan, Metal or Direct3D 12: install the card's driver, on Linux with the loader libvulkan.so.1.${hint}`,
    );
  }
  const gpu = await Gpu.open({ gpu: entry, ...options });
  const { vendor, architecture, description } = gpu.info;
  return {
    gpu,
    name: `${vendor} ${architecture} ${description}`.trim(),
    runtime: `Dawn in Node ${process.versions.node}`,
    run: (options, onRow) => runBench(gpu, options, onRow),
  };
}
