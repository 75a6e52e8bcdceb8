import { spawnSync } from "node:child_process";
import { describe, expect, test } from "vitest";
import type { RunRecord } from "../../training_records.ts";
import { DEFAULT_SETTINGS } from "../settings.ts";
import { modelCard } from "./model_card.ts";
import { trainScript } from "./script.ts";

const adapter = {
  base: "Qwen/Qwen3-VL-4B-Instruct",
  r: 16,
  alpha: 16,
  rslora: true,
  dropout: 0,
  pairs: [
    {
      module: "model.language_model.layers.0.mlp.up_proj",
      r: 16,
      alpha: 16,
      a: new Float32Array(16),
      b: new Float32Array(16),
    },
  ],
};
const run: RunRecord = {
  id: "1",
  name: "run",
  created: 0,
  updated: 0,
  state: "finished",
  model: { id: "m", name: "m" },
  dataset: { id: "d", name: "dots | <b>\n# x", hash: "abc123", trainRows: 180, heldBackRows: 20 },
  settings: { ...DEFAULT_SETTINGS, turns: "last" },
  patience: 0,
  adapterStep: 60,
  steps: 69,
  log: [
    {
      step: 69,
      epoch: 2,
      loss: 0.123456,
      learningRate: 0,
      gradientNorm: 1,
      tokens: 9,
      trainedTokens: 3,
      milliseconds: 1,
    },
  ],
  evaluations: [
    { step: 0, loss: 2.5, exact: 0.1, relaxed: 0.25, examples: 20, samples: [] },
    { step: 69, loss: 0.5, exact: 0.8, relaxed: 0.9, examples: 20, samples: [] },
  ],
  device: "Some GPU",
};

describe("model card", () => {
  test("says base, data, settings and scores before and after", () => {
    const card = modelCard("Dots", adapter, run);
    expect(card.startsWith('---\nbase_model: "Qwen/Qwen3-VL-4B-Instruct"\nlibrary_name: peft\n')).toBe(true);
    for (const said of [
      "# Dots",
      "| rank-stabilised | yes |",
      "| scale | 4 |",
      "180 rows to learn from, 20 held back",
      "`abc123`",
      "| steps | 69 of 69 |",
      "| this adapter is of step | 60 |",
      "| learning rate | 0.0002, linear, warm-up 5 |",
      "| learnt turns | the last answer |",
      "| before training | 2.5000 | 10.0 % | 25.0 % | 20 |",
      "| step 69 | 0.5000 | 80.0 % | 90.0 % | 20 |",
      "| device | Some GPU |",
    ]) {
      expect(card).toContain(said);
    }
  });

  test("names from files cannot break it", () => {
    const card = modelCard("a\n---\nevil: <script>", adapter, run);
    expect(card).not.toContain("<script>");
    expect(card).not.toContain("<b>");
    expect(card.split("\n").filter((line) => line === "---").length).toBe(2);
  });

  test("an adapter without a run says so and makes no scores up", () => {
    const card = modelCard("x", { ...adapter, base: "" });
    expect(card).toContain("not recorded");
    expect(card).not.toContain("base_model");
    expect(card).not.toContain("Scores");
  });
});

describe("script for another machine", () => {
  const facts = {
    base: "Qwen/Qwen3-VL-4B-Instruct",
    name: 'my "charts"\n',
    settings: DEFAULT_SETTINGS,
    hasHeldBack: true,
  };

  test("carries every setting over", () => {
    const script = trainScript(facts);
    for (const said of [
      'BASE = "Qwen/Qwen3-VL-4B-Instruct"',
      "MAX_PIXELS = 200704",
      "max_seq_length=2048",
      "finetune_vision_layers=False",
      "finetune_language_layers=True",
      "r=16,",
      "lora_alpha=16",
      "lora_dropout=0",
      "use_rslora=False",
      "random_state=3407",
      'eval_dataset=Rows("test.jsonl")',
      "per_device_train_batch_size=2",
      "gradient_accumulation_steps=4",
      "num_train_epochs=3",
      "max_steps=-1",
      "learning_rate=0.0002",
      'lr_scheduler_type="linear"',
      "warmup_steps=5",
      "weight_decay=0.001",
      "max_grad_norm=1",
      'optim="adamw_8bit"',
      "seed=3407",
      "eval_steps=20",
    ]) {
      expect(script).toContain(said);
    }
    expect(script).not.toContain("last_response_only");
  });

  const parts = DEFAULT_SETTINGS.lora.parts;
  const other = {
    ...DEFAULT_SETTINGS,
    turns: "last" as const,
    schedule: "constant" as const,
    optimizer: "adamw" as const,
    warmup: 0.1,
    maxSteps: 30,
    lora: { ...DEFAULT_SETTINGS.lora, parts: { ...parts, languageMlp: false, visionMlp: true, mergers: true } },
  };

  test("says other choices in the words of these libraries", () => {
    const script = trainScript({ ...facts, settings: other, hasHeldBack: false });
    for (const said of [
      "last_response_only=True",
      'lr_scheduler_type="constant_with_warmup"',
      'optim="adamw_torch"',
      "warmup_ratio=0.1",
      "max_steps=30",
      'eval_strategy="no"',
    ]) {
      expect(script).toContain(said);
    }
    expect(script).not.toContain("eval_dataset");
    const pattern = new RegExp(`^(?:${JSON.parse(/target_modules=(".*"),/.exec(script)![1]!)})$`);
    const matched = [
      "model.language_model.layers.3.self_attn.q_proj",
      "model.language_model.layers.3.mlp.up_proj",
      "model.visual.blocks.1.attn.qkv",
      "model.visual.blocks.1.mlp.linear_fc1",
      "model.visual.deepstack_merger_list.0.linear_fc2",
      "model.visual.patch_embed.proj",
    ].map((module) => pattern.test(module));
    expect(matched).toEqual([true, false, false, true, true, false]);
  });

  const hasPython = spawnSync("python3", ["--version"]).status === 0;
  test.skipIf(!hasPython)("is Python", () => {
    for (const settings of [DEFAULT_SETTINGS, other]) {
      const input = trainScript({ ...facts, settings });
      const done = spawnSync("python3", ["-c", "import ast, sys; ast.parse(sys.stdin.read())"], {
        input,
        encoding: "utf8",
      });
      expect(done.stderr).toBe("");
    }
  });
});
