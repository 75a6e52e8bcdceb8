import type { RunRecord } from "../../training_records.ts";
import { type Adapter, scaleOf } from "./adapter.ts";

/** README.md of an adapter: what it is, what it learnt from, with which settings, how well, and how to load it. */
export function modelCard(name: string, adapter: Adapter, run?: RunRecord): string {
  const base = adapter.base || "unknown";
  const [first] = adapter.pairs;
  const layers = new Set(adapter.pairs.map(({ module }) => module.slice(module.lastIndexOf(".") + 1)));
  const rows: [string, string | number][] = [
    ["rank", adapter.r],
    ["alpha", adapter.alpha],
    ["rank-stabilised", adapter.rslora ? "yes" : "no"],
    ["scale", first ? String(scaleOf(first, adapter.rslora)) : "none"],
    ["layers", [...layers].join(", ")],
  ];
  return [
    "---",
    ...(adapter.base ? [`base_model: ${JSON.stringify(adapter.base)}`] : []),
    "library_name: peft",
    "pipeline_tag: image-text-to-text",
    "tags: [lora, qwen3-vl, tabtune]",
    "---",
    "",
    `# ${plain(name)}`,
    "",
    `A LoRA adapter for ${plain(base)}, trained in a browser tab with TabTune.`,
    "",
    "## Adapter",
    "",
    table(["", "value"], rows),
    ...(run ? trainingOf(run) : ["", "How it was trained is not recorded."]),
    "",
    "## Use",
    "",
    "```python",
    "from transformers import AutoModelForImageTextToText",
    "from peft import PeftModel",
    "",
    `model = AutoModelForImageTextToText.from_pretrained(${JSON.stringify(base)})`,
    'model = PeftModel.from_pretrained(model, "path/to/this/folder")',
    "```",
    "",
  ].join("\n");
}

function trainingOf(run: RunRecord): string[] {
  const { settings: s, dataset } = run;
  const last = run.log.at(-1);
  const scores = run.evaluations.map((e): (string | number)[] => [
    e.step === 0 ? "before training" : `step ${e.step}`,
    e.loss.toFixed(4),
    percent(e.exact),
    percent(e.relaxed),
    e.examples,
  ]);
  return [
    "",
    "## Data",
    "",
    `“${plain(dataset.name)}”: ${dataset.trainRows} rows to learn from, ${dataset.heldBackRows} held back for testing. SHA-256 of rows and split: \`${dataset.hash}\`.`,
    "",
    "## Training",
    "",
    table(
      ["setting", "value"],
      [
        ["steps", last ? `${last.step} of ${run.steps}` : `0 of ${run.steps}`],
        ["this adapter is of step", run.adapterStep ?? "–"],
        ["batch × accumulation", `${s.batchSize} × ${s.accumulation}`],
        ["learning rate", `${s.learningRate}, ${s.schedule}, warm-up ${s.warmup}`],
        ["optimizer", s.optimizer === "adamw8" ? "AdamW, 8-bit states" : "AdamW"],
        ["weight decay", s.weightDecay],
        ["largest gradient norm", s.maxGradNorm],
        ["dropout", s.dropout],
        ["learnt turns", s.turns === "all" ? "every answer" : "the last answer"],
        ["largest picture", `${s.maxPixels} pixels`],
        ["seed", s.seed],
        ...(last ? [["last loss", last.loss.toFixed(4)] as [string, string]] : []),
        ...(run.device ? [["device", plain(run.device)] as [string, string]] : []),
      ],
    ),
    "",
    "## Scores on the rows held back",
    "",
    scores.length > 0
      ? table(["", "loss", "exact match", "relaxed accuracy (5 %)", "examples"], scores)
      : "None were taken.",
  ];
}

function table(heading: readonly string[], rows: readonly (readonly (string | number)[])[]): string {
  const line = (cells: readonly (string | number)[]) =>
    `| ${cells.map((c) => String(c).replaceAll("|", "\\|")).join(" | ")} |`;
  return [line(heading), line(heading.map(() => "---")), ...rows.map(line)].join("\n");
}

const percent = (share: number) => `${(100 * share).toFixed(1)} %`;

/** One line without Markdown's or HTML's marks: names come from file names. */
function plain(text: string): string {
  return text.replace(/[\r\n<>`*_[\]#]+/g, " ").trim();
}
