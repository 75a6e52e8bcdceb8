import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type App, openApp } from "./browser.ts";
import { CheckpointCopy, SMALL_CHECKPOINT } from "./checkpoint.ts";
import { ask, damageShard, importUrl, loadModel, storedModels } from "./engine_calls.ts";
import { greyPng } from "./png.ts";

/** Damage, the error it must end in, and what its message must name. */
const DAMAGES: [name: string, damage: (copy: CheckpointCopy) => void, error: RegExp, message: RegExp][] = [
  [
    "a truncated weight file",
    (copy) => copy.weightFile((file) => file.subarray(0, file.length - 100)),
    /BadCheckpoint/,
    /model\.safetensors/,
  ],
  [
    "a header longer than its file",
    (copy) =>
      copy.weightFile((file) => {
        const out = Buffer.from(file);
        out.writeBigUInt64LE(1n << 40n);
        return out;
      }),
    /BadCheckpoint/,
    /model\.safetensors/,
  ],
  [
    "a header that is not JSON",
    (copy) =>
      copy.weightFile((file) => {
        const out = Buffer.from(file);
        out[8] = 0x5b;
        return out;
      }),
    /BadCheckpoint/,
    /model\.safetensors/,
  ],
  [
    "tensors that overlap",
    (copy) =>
      copy.weights((header) => {
        const [a, b] = Object.values(header).filter((entry) => entry.shape);
        const length = b!.data_offsets[1] - b!.data_offsets[0];
        b!.data_offsets = [a!.data_offsets[0], a!.data_offsets[0] + length];
        return undefined;
      }),
    /BadCheckpoint/,
    /model\.safetensors/,
  ],
  [
    "a wrong shape",
    (copy) =>
      copy.weights((header) => {
        const entry = header["model.language_model.layers.0.self_attn.k_proj.weight"]!;
        entry.shape.reverse();
        return undefined;
      }),
    /BadCheckpoint/,
    /layers\.0\.self_attn\.k_proj\.weight/,
  ],
  [
    "a missing tensor",
    (copy) =>
      copy.weights((header) => {
        header.unknown = header["model.visual.merger.linear_fc1.weight"]!;
        delete header["model.visual.merger.linear_fc1.weight"];
        return undefined;
      }),
    /BadCheckpoint/,
    /merger\.linear_fc1\.weight/,
  ],
  [
    "a weight that is not a number",
    (copy) =>
      copy.weights((header, data) => {
        const entry = header["model.language_model.layers.1.mlp.down_proj.weight"]!;
        data.writeUInt16LE(0x7fc0, entry.data_offsets[0] + 64);
        return data;
      }),
    /BadCheckpoint/,
    /layers\.1\.mlp\.down_proj/,
  ],
  ["a config that is not JSON", (copy) => copy.write("config.json", "{"), /BadCheckpoint/, /config\.json/],
  [
    "another kind of model",
    (copy) =>
      copy.json("config.json", (config) => {
        config.model_type = "llama";
        config.architectures = ["LlamaForCausalLM"];
      }),
    /UnsupportedModel|BadCheckpoint/,
    /llama/i,
  ],
];

describe.skipIf(!SMALL_CHECKPOINT)("bad input", () => {
  let app: App;
  let good: string;
  const copies = DAMAGES.map(([name, damage]) => {
    const copy = SMALL_CHECKPOINT ? new CheckpointCopy(SMALL_CHECKPOINT) : undefined;
    if (copy) damage(copy);
    return { name, copy };
  });
  const pictures = mkdtempSync(join(tmpdir(), "pictures-"));
  writeFileSync(join(pictures, "zip.png"), Buffer.concat([Buffer.from("PK\x03\x04"), Buffer.alloc(200)]));
  writeFileSync(join(pictures, "pixel.png"), greyPng(1, 1));
  writeFileSync(join(pictures, "huge.png"), greyPng(10_000, 10_000));
  writeFileSync(join(pictures, "half.png"), greyPng(300, 300).subarray(0, 60));
  writeFileSync(join(pictures, "chart.png"), greyPng(96, 64));

  beforeAll(async () => {
    const folders: Record<string, string> = { "/good/": SMALL_CHECKPOINT!, "/pictures/": pictures };
    copies.forEach(({ copy }, i) => {
      folders[`/bad/${i}/`] = copy!.folder;
    });
    app = await openApp({ folders, engineOnly: true });
    const imported = await importUrl(app.page, `${app.origin}/good/`);
    expect(imported).toMatchObject({ value: { state: "complete" } });
    good = imported.value!.id;
  });
  afterAll(async () => {
    await app?.close();
    for (const { copy } of copies) copy?.remove();
    rmSync(pictures, { recursive: true });
  });

  it.each(DAMAGES.map(([name, , error, message], i) => ({ name, error, message, i })))(
    "$name is refused by name, and nothing is kept as a model",
    async ({ error, message, i }) => {
      const outcome = await importUrl(app.page, `${app.origin}/bad/${i}/`);
      expect(outcome.error).toMatch(error);
      expect(outcome.value === undefined && outcome.message).toMatch(message);
      const complete = (await storedModels(app.page)).filter(({ state }) => state === "complete");
      expect(complete.map(({ id }) => id)).toEqual([good]);
    },
  );

  it("a folder that is not there is said so", async () => {
    const outcome = await importUrl(app.page, `${app.origin}/nothing/`);
    expect(outcome.error).toMatch(/NotFound/);
  });

  it("a damaged shard is found by its hash and named, and importing again repairs it", async () => {
    await damageShard(app.page, good);
    const outcome = await loadModel(app.page, good);
    expect(outcome.error).toBe("DamagedShard");
    expect(outcome.value === undefined && outcome.message).toMatch(/shard 1 of|shard 0/i);
    expect(await importUrl(app.page, `${app.origin}/good/`)).toMatchObject({ value: { id: good, state: "complete" } });
    expect(await loadModel(app.page, good)).toMatchObject({ value: { id: good } });
  });

  it("the second of two tabs that import at once is told so, and the first one finishes", async () => {
    // Weight ranges take their time, so that both are under way together.
    await app.context.route("**/slow/model.safetensors", async (route) => {
      const response = await route.fetch({ url: route.request().url().replace("/slow/", "/good/") });
      await new Promise((resolve) => setTimeout(resolve, 100));
      await route.fulfill({ response });
    });
    await app.context.route("**/slow/*.{json,jinja}", async (route) => {
      await route.fulfill({ response: await route.fetch({ url: route.request().url().replace("/slow/", "/good/") }) });
    });
    const other = await app.openTab();
    const first = importUrl(app.page, `${app.origin}/slow/`);
    await new Promise((resolve) => setTimeout(resolve, 300));
    const second = importUrl(other, `${app.origin}/slow/`);
    const outcomes = await Promise.all([first, second]);
    expect(outcomes.map((outcome) => outcome.error ?? outcome.value.state).sort()).toEqual(["Busy", "complete"]);
    await other.close();
  });

  describe("a picture", () => {
    // Some more than the least area of the demo model, which counts more.
    const BUDGET = 320 * 320;
    beforeAll(async () => {
      expect(await loadModel(app.page, good)).toMatchObject({ value: { id: good } });
    });
    const show = (name: string) =>
      ask(app.page, { question: "What is shown?", pictures: [`${app.origin}/pictures/${name}`], maxPixels: BUDGET });

    it.each(["zip.png", "half.png"])("that is none (%s) is refused by name", async (name) => {
      const outcome = await show(name);
      expect(outcome.error).toBe("BadImage");
      expect(outcome.value === undefined && outcome.message).toContain(name);
    });

    it.each(["pixel.png", "huge.png", "chart.png"])("of any size (%s) is seen inside its budget", async (name) => {
      const { value } = await show(name);
      const seen = value?.events.find((event) => event.type === "pictures")?.pictures[0];
      expect(seen!.resizedWidth * seen!.resizedHeight).toBeLessThanOrEqual(BUDGET);
      expect(seen!.tokens).toBeGreaterThan(0);
      expect(value?.stats.newTokens).toBeGreaterThan(0);
    });
  });

  it("a device lost in the middle of an answer is opened again, and the answer is the same", async () => {
    expect(await loadModel(app.page, good)).toMatchObject({ value: { id: good } });
    const question = { question: "Tell me about charts.", sampling: { maxTokens: 48 } };
    const undisturbed = await ask(app.page, question);
    const disturbed = await ask(app.page, { ...question, loseDeviceAfter: 1 });
    expect(disturbed.value?.events.filter(({ type }) => type === "recovered")).toHaveLength(1);
    expect(disturbed.value?.text).toBe(undisturbed.value?.text);
    expect(disturbed.value?.finish).toBe(undisturbed.value?.finish);
    // And the model goes on working.
    expect((await ask(app.page, question)).value?.text).toBe(undisturbed.value?.text);
  });

  it("a device lost while nothing runs is noticed at the next question", async () => {
    const question = { question: "Say something.", sampling: { maxTokens: 4 } };
    const before = await ask(app.page, question);
    await app.page.evaluate(async () => {
      await (tabtune.engine as unknown as { debugLoseDevice(): Promise<void> }).debugLoseDevice();
    });
    expect((await ask(app.page, question)).value?.text).toBe(before.value?.text);
  });
});

describe.skipIf(!SMALL_CHECKPOINT)("too little storage", () => {
  /** Opens the app with a way to set how much its origin may store. */
  async function openWithQuota(extraArgs: string[]) {
    const app = await openApp({ folders: { "/good/": SMALL_CHECKPOINT! }, extraArgs, engineOnly: true });
    const session = await app.context.newCDPSession(app.page);
    const setQuota = (quotaSize?: number) =>
      session.send("Storage.overrideQuotaForOrigin", { origin: app.origin, ...(quotaSize ? { quotaSize } : {}) });
    return { app, setQuota };
  }

  it("is said with the sizes before the first byte is written", async () => {
    // Chromium tells pages a fixed 10 GiB unless this feature is off; other browsers tell what is there.
    const { app, setQuota } = await openWithQuota(["--disable-features=StaticStorageQuota"]);
    try {
      await setQuota(1_500_000);
      const outcome = await importUrl(app.page, `${app.origin}/good/`);
      expect(outcome.error).toBe("Quota");
      expect(outcome.value === undefined && outcome.message).toMatch(/needs \d+ MB .* only \d+ MB/);
      expect(await storedModels(app.page)).toEqual([]);
    } finally {
      await app.close();
    }
  });

  it("that shows in the middle of an import is said, and the import goes on when there is room", async () => {
    const { app, setQuota } = await openWithQuota([]);
    try {
      await setQuota(1_500_000);
      expect((await importUrl(app.page, `${app.origin}/good/`)).error).toBe("Quota");
      expect((await storedModels(app.page)).filter(({ state }) => state === "complete")).toEqual([]);
      await setQuota();
      const outcome = await importUrl(app.page, `${app.origin}/good/`);
      expect(outcome).toMatchObject({ value: { state: "complete" } });
      expect(await loadModel(app.page, outcome.value!.id)).toMatchObject({ value: { id: outcome.value!.id } });
    } finally {
      await app.close();
    }
  });
});
