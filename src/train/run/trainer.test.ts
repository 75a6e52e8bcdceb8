import "fake-indexeddb/auto";
import { beforeEach, expect, test, vi } from "vitest";
import type { LoraTraining } from "../../models/index.ts";
import { getRecord, putRecord } from "../../storage/index.ts";
import type { EvaluationRecord, StepRecord, TrainSettings } from "../../training_records.ts";
import { DEFAULT_SETTINGS } from "../settings.ts";
import type { Example } from "../tokens/row_tokenizer.ts";
import { deleteCheckpoints, loadCheckpoint, type RunCheckpoint, saveCheckpoint } from "./run_checkpoint.ts";
import { Trainer, type TrainerOptions } from "./trainer.ts";

/** One trained number w; each example wants it to be its first id. Loss (w − id)² for each trained token. */
class OneNumber implements Pick<LoraTraining, "accumulate"> {
  w = new Float32Array(1);
  momentum = new Float32Array(1);
  gradient = 0;
  seeds: number[] = [];

  async accumulate(
    examples: Parameters<LoraTraining["accumulate"]>[0],
    { weight, seed }: Parameters<LoraTraining["accumulate"]>[1],
  ): ReturnType<LoraTraining["accumulate"]> {
    this.seeds.push(seed);
    let loss = 0;
    for (const { ids } of examples) {
      const error = this.w[0]! - ids[0]!;
      loss += error * error;
      this.gradient += 2 * error * weight;
    }
    return { loss, tokens: examples.length, correct: 0 };
  }
  async step(learningRate: number): Promise<number> {
    const norm = Math.abs(this.gradient);
    this.momentum[0] = 0.5 * this.momentum[0]! + this.gradient;
    this.w[0] = this.w[0]! - learningRate * this.momentum[0]!;
    this.gradient = 0;
    return norm;
  }
  async save() {
    const copy = (a: Float32Array) => new Uint8Array(a.slice().buffer as ArrayBuffer);
    return { w: copy(this.w), momentum: copy(this.momentum) };
  }
  restore(buffers: Readonly<Record<string, Uint8Array<ArrayBuffer>>>) {
    this.w.set(new Float32Array(buffers.w!.buffer));
    this.momentum.set(new Float32Array(buffers.momentum!.buffer));
  }
}

const SETTINGS: TrainSettings = {
  ...DEFAULT_SETTINGS,
  learningRate: 0.05,
  warmup: 2,
  batchSize: 2,
  accumulation: 2,
  saveEvery: 3,
  evaluateEvery: 4,
};
const examples: Example[] = Array.from({ length: 11 }, (_, i) => {
  return { rowId: `${i}`, ids: [i, 0], labels: [-100, 0], trained: 1, images: [] };
});

const scores = (step: number, loss: number): EvaluationRecord => ({
  step,
  loss,
  exact: 0,
  relaxed: 0,
  examples: 1,
  samples: [],
});

function setUp(model: OneNumber, more: Partial<TrainerOptions> = {}, from?: RunCheckpoint) {
  const reports: StepRecord[] = [];
  const kept: number[] = [];
  if (from) model.restore(from.buffers);
  const trainer = new Trainer(
    {
      model,
      step: (rate) => model.step(rate),
      settings: SETTINGS,
      steps: 12,
      examples,
      images: async (batch) => batch.map(() => []),
      evaluate: async (step) => scores(step, (model.w[0]! - 5) ** 2),
      checkpoint: async (state) =>
        saveCheckpoint("run", { spec: "spec", step: state.step, state, choices: {}, buffers: await model.save() }),
      keepAdapter: async (step) => void kept.push(step),
      onStep: (report) => reports.push({ ...report, milliseconds: 0 }),
      onEvaluation: () => {},
      patience: 0,
      ...more,
    },
    from?.state as undefined,
  );
  return { trainer, reports, kept };
}

beforeEach(() => deleteCheckpoints("run"));

test("a run learns, evaluates before, during and after, and keeps the best", async () => {
  const evaluated: number[] = [];
  const { trainer, reports, kept } = setUp(new OneNumber(), { onEvaluation: ({ step }) => evaluated.push(step) });
  expect(await trainer.run()).toBe("finished");
  expect(reports.map((r) => r.step)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
  expect(reports.at(-1)!.loss).toBeLessThan(reports[0]!.loss / 2);
  expect(reports[0]!.learningRate).toBe(0);
  expect(reports[2]!.trainedTokens).toBe(3); // 11 examples: the third step of an epoch has what is left
  expect(evaluated).toEqual([0, 4, 8, 12]);
  expect(kept.length).toBeGreaterThan(1);
  expect(trainer.state.best?.step).toEqual(kept.at(-1));
});

test("paused and gone on with from its checkpoint, a run gives the same numbers bit for bit", async () => {
  const whole = setUp(new OneNumber());
  await whole.trainer.run();
  await deleteCheckpoints("run");
  const first = setUp(new OneNumber(), { onStep: (r) => (r.step === 7 ? first.trainer.end("paused") : undefined) });
  expect(await first.trainer.run()).toBe("paused");
  const { checkpoint } = await loadCheckpoint("run", "spec");
  expect(checkpoint!.step).toBe(7);
  const second = setUp(new OneNumber(), {}, checkpoint);
  expect(await second.trainer.run()).toBe("finished");
  expect(second.reports).toEqual(whole.reports.slice(7));
  expect(second.trainer.state).toEqual(whole.trainer.state);
});

test("a tab that was killed goes on from the last checkpoint", async () => {
  const whole = setUp(new OneNumber());
  await whole.trainer.run();
  await deleteCheckpoints("run");
  const killed = new OneNumber();
  vi.spyOn(killed, "step").mockImplementation(async function (this: OneNumber, rate: number) {
    if (killed.seeds.length > 2 * 8) throw new Error("killed");
    return await OneNumber.prototype.step.call(killed, rate);
  });
  await expect(setUp(killed).trainer.run()).rejects.toThrow("killed");
  const { checkpoint } = await loadCheckpoint("run", "spec");
  expect(checkpoint!.step).toBe(6);
  const second = setUp(new OneNumber(), {}, checkpoint);
  await second.trainer.run();
  expect(second.reports).toEqual(whole.reports.slice(6));
});

test("a checkpoint keeps how the device ran its products", async () => {
  const choices = { "tile q4 96×32 m 64": 2 };
  await saveCheckpoint("run", { spec: "spec", step: 1, state: {}, choices, buffers: {} });
  expect((await loadCheckpoint("run", "spec")).checkpoint!.choices).toEqual(choices);
});

test("a damaged newest checkpoint is named, and the one before is taken", async () => {
  await setUp(new OneNumber()).trainer.run();
  for (const slot of [0, 1]) {
    const stored = (await getRecord("run-checkpoint", `run/${slot}`)) as { step: number; buffers: { blob: Blob }[] };
    if (stored.step !== 12) continue;
    stored.buffers[1]!.blob = new Blob([new Uint8Array(4)]);
    await putRecord("run-checkpoint", `run/${slot}`, stored);
  }
  const { checkpoint, damaged } = await loadCheckpoint("run", "spec");
  expect(damaged).toEqual([expect.stringMatching(/step 12 is damaged: momentum is not what was written/)]);
  expect(checkpoint!.step).toBe(9);
  expect((await loadCheckpoint("run", "another spec")).checkpoint).toBeUndefined();
});

test("a full disk costs the new checkpoint, not the old one", async () => {
  const model = new OneNumber();
  const quota = () => Promise.reject(Object.assign(new Error("full"), { name: "Quota" }));
  const { trainer } = setUp(model, {
    checkpoint: async (state) => {
      if (state.step > 3) return await quota();
      await saveCheckpoint("run", { spec: "spec", step: state.step, state, choices: {}, buffers: await model.save() });
    },
  });
  await expect(trainer.run()).rejects.toThrow("full");
  expect((await loadCheckpoint("run", "spec")).checkpoint!.step).toBe(3);
});

test("no progress ends a run early; numbers that blow up end it with what to do", async () => {
  const early = setUp(new OneNumber(), {
    patience: 2,
    evaluate: async (step) => scores(step, step === 0 ? 1 : 2),
  });
  expect(await early.trainer.run()).toBe("stopped early");
  expect(early.trainer.state.step).toBe(8);
  const wild = new OneNumber();
  vi.spyOn(wild, "step").mockResolvedValue(Number.NaN);
  await expect(setUp(wild).trainer.run()).rejects.toThrow(/blew up at step 1: .*lower learning rate/);
});

test("an adapter is kept where no step beats the base: the last, once the run is over, and never that of step 0", async () => {
  const evaluate = async (step: number) => scores(step, 1 + step);
  const whole = setUp(new OneNumber(), { evaluate });
  await whole.trainer.run();
  expect(whole.kept).toEqual([12]);
  expect(whole.trainer.state.best).toEqual({ step: 0, loss: 1, relaxed: 0 });
  for (const [how, expected] of [
    ["stopped", [7]],
    ["paused", []],
  ] as const) {
    const run = setUp(new OneNumber(), {
      evaluate,
      onStep: ({ step }) => (step === 7 ? run.trainer.end(how) : undefined),
    });
    expect(await run.trainer.run()).toBe(how);
    expect(run.kept).toEqual(expected);
  }
});

test("what is stopped keeps the best adapter, not the last", async () => {
  const run = setUp(new OneNumber(), {
    evaluate: async (step) => scores(step, Math.abs(step - 4)),
    onStep: ({ step }) => (step === 10 ? run.trainer.end("stopped") : undefined),
  });
  expect(await run.trainer.run()).toBe("stopped");
  expect([run.kept, run.trainer.state.best?.step, run.trainer.state.step]).toEqual([[4], 4, 10]);
});

test("without rows held back the last adapter is kept, with every checkpoint", async () => {
  const { trainer, kept } = setUp(new OneNumber(), { evaluate: undefined as never });
  await trainer.run();
  expect(kept).toEqual([3, 6, 9, 12]);
});

test("a page that is hidden gets a checkpoint after the step under way", async () => {
  const saved: number[] = [];
  const { trainer: second } = setUp(new OneNumber(), {
    onStep: ({ step }) => (step === 4 ? second.checkpointSoon() : undefined),
    checkpoint: async ({ step }) => void saved.push(step),
  });
  await second.run();
  expect(saved).toEqual([3, 4, 6, 9, 12]);
});

test("dropout's random state differs between micro-batches and steps, not between runs", async () => {
  const [a, b] = [new OneNumber(), new OneNumber()];
  await setUp(a).trainer.run();
  await setUp(b).trainer.run();
  expect(new Set(a.seeds).size).toBe(a.seeds.length);
  expect(a.seeds).toEqual(b.seeds);
});
