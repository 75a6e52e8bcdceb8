import { afterAll, describe, expect, it } from "vitest";
import { openApp } from "./browser.ts";
import { generate, importUrl, loadModel } from "./engine_calls.ts";
import { RandomCheckpoint } from "./random_checkpoint.ts";

/* A driver that computes wrongly is planted by changing the shaders in the worker's script on its way to the browser. */

const checkpoint = new RandomCheckpoint(
  {
    ...{ layers: 1, hidden: 64, heads: 2, kvHeads: 1, headDim: 32, ffn: 64, tied: false, vocabulary: 263 },
    vision: { depth: 1, hidden: 64, heads: 2, ffn: 64, taps: [], positions: 16 },
  },
  { isPrintable: true },
);

/** Loads the model in a browser whose worker has these faults, and asks it something. */
async function withFaults(faults: [from: string, to: string][]) {
  const app = await openApp({
    engineOnly: true,
    folders: { "/model/": checkpoint.folder },
    prepare: async (context) => {
      await context.route("**/worker/worker-*.js", async (route) => {
        const response = await route.fetch();
        let body = await response.text();
        for (const [from, to] of faults) {
          expect(body).toContain(from);
          body = body.replaceAll(from, to);
        }
        await route.fulfill({ response, body });
      });
    },
  });
  try {
    const { value } = await importUrl(app.page, `${app.origin}/model/`);
    const loaded = await loadModel(app.page, value!.id);
    const parts = [{ type: "text" as const, text: "Hello" }];
    const answer = loaded.value && (await generate(app.page, { messages: [{ role: "user", parts }], pictures: [] }));
    return { loaded, text: answer?.value?.text };
  } finally {
    await app.close();
  }
}

const SUBGROUP_FAULT: [string, string] = ["subgroupAdd(value)", "subgroupAdd(value) * 1.01"];
const PORTABLE_FAULT: [string, string] = [
  "reduce_scratch[lid] += reduce_scratch[lid + stride]",
  "reduce_scratch[lid] += 1.01 * reduce_scratch[lid + stride]",
];

describe("before a model is used on a device", () => {
  afterAll(() => checkpoint.remove());
  let good: string | undefined;

  it("nothing is said where every kernel is right", async () => {
    const { loaded, text } = await withFaults([]);
    expect(loaded.value?.notes).toEqual([]);
    expect(text).toHaveLength(8);
    good = text;
  });

  it("a subgroup variant that computes wrongly is replaced by the portable one, and that is said", async () => {
    const { loaded, text } = await withFaults([SUBGROUP_FAULT]);
    expect(loaded.value?.notes).toEqual([
      expect.stringMatching(/rms_norm.*computed wrongly here with subgroup operations; the portable version is used/),
    ]);
    expect(text).toBe(good);
  });

  it("a device whose portable kernels compute wrongly is not used", async () => {
    const { loaded } = await withFaults([SUBGROUP_FAULT, PORTABLE_FAULT]);
    expect(loaded.error).toBe("NoWebGPU");
    expect(loaded.value === undefined && loaded.message).toMatch(/computes wrongly.*rms_norm/);
  });
});
