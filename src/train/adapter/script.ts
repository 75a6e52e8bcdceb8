import type { TrainSettings } from "../../training_records.ts";

/** What "continue elsewhere" writes beside the data: the same run with Unsloth and TRL on another machine. */
export interface ScriptFacts {
  /** A Hub name such as Qwen/Qwen3-VL-4B-Instruct, or a path; the reader of the script can change it. */
  base: string;
  name: string;
  settings: TrainSettings;
  hasHeldBack: boolean;
}

/** Python's way of writing a value. */
function py(value: string | number | boolean): string {
  if (typeof value === "boolean") return value ? "True" : "False";
  return JSON.stringify(value);
}

/**
 * A script that reads train.jsonl and pictures/ beside it. The collator trains on the tokens that this page trains on; the one setting that
 * differs by nature is the normalisation over an accumulated step, which Unsloth does alike (qwen3-vl.md §9.5).
 */
export function trainScript({ base, name, settings: s, hasHeldBack }: ScriptFacts): string {
  const { parts } = s.lora;
  const isMixed =
    parts.mergers || parts.languageAttention !== parts.languageMlp || parts.visionAttention !== parts.visionMlp;
  return `#!/usr/bin/env python3
"""${name.replace(/["\\\r\n]+/g, " ")}: the run of TabTune, to be continued on another machine.

needs: a CUDA GPU and "pip install unsloth" (brings torch, transformers, trl and peft)
usage: python train.py          (in the folder that holds train.jsonl and pictures/)
"""
import json
from pathlib import Path

from unsloth import FastVisionModel, is_bfloat16_supported
from unsloth.trainer import UnslothVisionDataCollator
from PIL import Image
from trl import SFTConfig, SFTTrainer

BASE = ${py(base)}
HERE = Path(__file__).resolve().parent
MAX_PIXELS = ${s.maxPixels}  # height x width of a picture


class Rows:
    """Opens pictures when a row is asked for, so that they need not fit in memory."""

    def __init__(self, path):
        self.lines = (HERE / path).read_text(encoding="utf-8").splitlines()

    def __len__(self):
        return len(self.lines)

    def __getitem__(self, i):
        row = json.loads(self.lines[i])
        # Beside the messages, so that the collator leaves their size to the processor.
        row["images"] = []
        for message in row["messages"]:
            for part in message["content"]:
                if part["type"] == "image":
                    row["images"].append(Image.open(HERE / part.pop("image")).convert("RGB"))
        return row


model, tokenizer = FastVisionModel.from_pretrained(
    BASE,
    load_in_4bit=True,
    use_gradient_checkpointing="unsloth",
    max_seq_length=${s.maxTokens},
)
images = tokenizer.image_processor
images.size = {"shortest_edge": min(images.size["shortest_edge"], MAX_PIXELS), "longest_edge": MAX_PIXELS}
model = FastVisionModel.get_peft_model(
    model,
${
  isMixed
    ? `    target_modules=${py(targetPattern(s))},`
    : `    finetune_vision_layers=${py(parts.visionAttention)},
    finetune_language_layers=${py(parts.languageAttention)},
    finetune_attention_modules=True,
    finetune_mlp_modules=True,`
}
    r=${s.lora.r},
    lora_alpha=${s.lora.alpha},
    lora_dropout=${s.dropout},
    use_rslora=${py(s.lora.rslora)},
    bias="none",
    random_state=${s.seed},
)
FastVisionModel.for_training(model)

trainer = SFTTrainer(
    model=model,
    processing_class=tokenizer,
    data_collator=UnslothVisionDataCollator(
        model,
        tokenizer,
        resize="max",
        train_on_responses_only=True,
        instruction_part="<|im_start|>user\\n",
        response_part="<|im_start|>assistant\\n",
${s.turns === "last" ? "        last_response_only=True,\n" : ""}    ),
    train_dataset=Rows("train.jsonl"),
    ${hasHeldBack ? 'eval_dataset=Rows("test.jsonl"),' : "# No rows are held back."}
    args=SFTConfig(
        output_dir="outputs",
        per_device_train_batch_size=${s.batchSize},
        gradient_accumulation_steps=${s.accumulation},
        num_train_epochs=${s.epochs},
        max_steps=${s.maxSteps > 0 ? s.maxSteps : -1},
        learning_rate=${s.learningRate},
        lr_scheduler_type=${py(s.schedule === "constant" ? "constant_with_warmup" : s.schedule)},
        ${s.warmup < 1 ? `warmup_ratio=${s.warmup}` : `warmup_steps=${s.warmup}`},
        weight_decay=${s.weightDecay},
        max_grad_norm=${s.maxGradNorm},
        optim=${py(s.optimizer === "adamw8" ? "adamw_8bit" : "adamw_torch")},
        bf16=is_bfloat16_supported(),
        fp16=not is_bfloat16_supported(),
        seed=${s.seed},
        logging_steps=1,
        save_steps=${s.saveEvery},
        ${hasHeldBack ? `eval_strategy="steps",\n        eval_steps=${s.evaluateEvery},` : 'eval_strategy="no",'}
        report_to="none",
        remove_unused_columns=False,
        dataset_kwargs={"skip_prepare_dataset": True},
        dataset_text_field="",
        max_length=None,  # longer rows were left out; a cut picture would be an error
    ),
)
trainer.train()
model.save_pretrained("adapter")
tokenizer.save_pretrained("adapter")
print("saved in", HERE / "adapter")
`;
}

/** A pattern for PEFT, for choices that Unsloth's four flags cannot say. */
function targetPattern({ lora: { parts } }: TrainSettings): string {
  const language = [
    ...(parts.languageAttention ? ["self_attn\\.(q|k|v|o)_proj"] : []),
    ...(parts.languageMlp ? ["mlp\\.(gate|up|down)_proj"] : []),
  ];
  const vision = [
    ...(parts.visionAttention ? ["attn\\.(qkv|proj)"] : []),
    ...(parts.visionMlp ? ["mlp\\.linear_fc[12]"] : []),
  ];
  return [
    ...(language.length > 0 ? [`.*language_model\\.layers\\.\\d+\\.(${language.join("|")})`] : []),
    ...(vision.length > 0 ? [`.*visual\\.blocks\\.\\d+\\.(${vision.join("|")})`] : []),
    ...(parts.mergers ? [".*visual\\.(merger|deepstack_merger_list\\.\\d+)\\.linear_fc[12]"] : []),
  ].join("|");
}
