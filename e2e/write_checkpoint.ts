// npm run write-checkpoint -- --preset 4b --format bf16|nf4|awq|gguf --tokenizer DIR --out DIR [--shard-bytes N] [--seed N]: a checkpoint of
// random weights, for tests at full size.
import { parseArgs } from "node:util";
import { PRESETS } from "./checkpoint_shapes.ts";
import { type Preset, writeRandomFolder } from "./random_folder.ts";
import { FORMS } from "./random_forms.ts";

const { values } = parseArgs({
  options: {
    preset: { type: "string", default: "" },
    format: { type: "string", default: "bf16" },
    tokenizer: { type: "string", default: "" },
    out: { type: "string", default: "" },
    "shard-bytes": { type: "string", default: "5000000000" },
    seed: { type: "string", default: "1" },
  },
});
const { preset, tokenizer, out } = values;
const form = FORMS.find((name) => name === values.format);
if (!(preset in PRESETS) || !form || !tokenizer || !out) {
  const usage = `--preset ${Object.keys(PRESETS).join("|")} --format ${FORMS.join("|")} --tokenizer DIR --out DIR`;
  console.error(`usage: npm run write-checkpoint -- ${usage} [--shard-bytes N] [--seed N]`);
  process.exit(2);
}
const started = performance.now();
const more = { shardBytes: Number(values["shard-bytes"]), seed: Number(values.seed) };
const bytes = await writeRandomFolder({ preset: preset as Preset, form, tokenizer, out, ...more });
const seconds = (performance.now() - started) / 1000;
console.log(`${out}: ${form}, ${bytes} bytes, ${seconds.toFixed(1)} s, ${(bytes / 1e6 / seconds).toFixed(0)} MB/s`);
