import { describe, expect, it, vi } from "vitest";
import { nullDevice } from "../../e2e/null_device.ts";
import { Gpu, Program } from "../gpu/index.ts";
import { allCases } from "./all_cases.ts";
import { Bench, canRun } from "./case.ts";
import { quickCases } from "./harness.ts";
import { matmulBackward } from "./matmul_backward.ts";
import type { Matrix } from "./matrix.ts";

// Its matrix units can't be used without a word: they are an experiment.
const gpuEntry = await nullDevice("enable-dawn-features=allow_unsafe_apis");

describe.skipIf(!gpuEntry)("every shader variant compiles (skipped where the package webgpu has no binary)", () => {
  for (const subgroups of [true, false]) {
    it(`${subgroups ? "with" : "without"} subgroups`, { timeout: 180_000 }, async () => {
      const gpu = await Gpu.open({
        gpu: gpuEntry!,
        ...(subgroups ? {} : { without: ["subgroups"], defaultLimits: true }),
      });
      expect(gpu.variants.subgroups).toBe(subgroups);
      // The null adapter names no sizes; its workgroups are of 256 threads.
      gpu.variants.matrix = subgroups ? { subgroup: 32 } : undefined;
      gpu.variants.half = subgroups;
      for (const c of allCases) {
        if (!canRun(gpu, c)) continue;
        const bench = new Bench(gpu);
        const program = new Program(gpu, c.kernel);
        gpu.device.pushErrorScope("validation");
        c.build(bench).record(program);
        const error = await gpu.device.popErrorScope();
        const refused = await program.ready().catch(String);
        // The null adapter has 16 KiB of workgroup memory, less than any with matrix units: a shader that is wrong fails before that.
        gpu.firstError = undefined;
        if (subgroups && refused?.includes("total use of workgroup storage")) continue;
        expect(error?.message ?? refused, `${c.kernel} ${c.shape}`).toBeUndefined();
        program.free();
        bench.free();
      }
    });
  }
});

it("the short self-test knows its cases by name", () => {
  expect(new Set(quickCases()).size).toBe(9);
});

it.skipIf(!gpuEntry)(
  "the short self-test makes products of 4 bits and of bf16 in the way that the device then takes",
  async () => {
    const gpu = await Gpu.open({ gpu: gpuEntry! });
    const labels = vi.spyOn(gpu, "kernel");
    for (const [way, variants] of [
      ["matmul_tile", { half: false, matrix: undefined }],
      ["matmul_tile_half", { half: true, matrix: undefined }],
      ["matmul_tile_subgroup_matrix", { half: true, matrix: { subgroup: 32 } }],
    ] as const) {
      Object.assign(gpu.variants, variants);
      labels.mockClear();
      for (const c of quickCases()) c.build(new Bench(gpu)).record(new Program(gpu, c.kernel));
      expect(labels.mock.calls.map(([label]) => label)).toEqual(
        expect.arrayContaining([`${way} q4a32`, `${way} bf16`]),
      );
    }
  },
);

it.skipIf(!gpuEntry)(
  "X goes through the scratch of matrix units in parts, without them where not one fits",
  async () => {
    const gpu = await Gpu.open({ gpu: gpuEntry! });
    Object.assign(gpu.variants, { half: true, matrix: { subgroup: 32 } });
    // A device that is known to be fast cuts nothing for the page's sake.
    for (let i = 0; i < 8; i++) gpu.governor.learn(1e12, 1);
    const dispatch = vi.spyOn(Program.prototype, "dispatch").mockReturnValue({ set: () => {} });
    const any = gpu.storage("test", "any", 16);
    const recorded = (rows: number, m: number) => {
      dispatch.mockClear();
      const blocks = [{ row0: 0, rows, codes: any, scales: any }];
      const weight: Matrix = { label: "w", scheme: "q4a32", rows, cols: 64, rowWords: 8, blocks };
      matmulBackward(new Program(gpu, "test"), { dy: any, dx: any, m, weight });
      return dispatch.mock.calls.map(([{ label }, { params }]) => `${params[0]} rows, ${label}`);
    };
    const way = "matmul_tile_subgroup_matrix q4a32 backward";
    // 64 rows of f16 fill 48 MiB from 393,216 elements on.
    expect(recorded(393_216, 80)).toEqual([
      "64 rows, matmul_tile_fragments",
      `64 rows, ${way}`,
      "16 rows, matmul_tile_fragments",
      `16 rows, ${way}`,
    ]);
    expect(recorded(393_217, 80)).toEqual(["80 rows, matmul_tile_half q4a32 backward"]);
    dispatch.mockRestore();
  },
);
