// npm run parity -- DIR [--train] [--format X | --converted FOLDER] [--cache f16|i8] [--only case,...] [--without feature,...] [--default-limits]
// [--chrome-args "..."]: compares the app with reference numbers, one JSON line per case, or with --train one line for the training run. With
// --format the checkpoint is converted first, and the logits are compared with those of the float64 model on the converted weights; --converted
// does so with a folder in which another program has put the checkpoint, and the values that it gives its weights (expected.safetensors).
// --without (subgroups, shader-f16, …) and --default-limits run it on a device that has less than this one. Keys and values are cached in f32
// unless --cache says otherwise.
import { parseArgs } from "node:util";
import { deviceOptions } from "./browser.ts";
import { runFormatParity } from "./format_parity.ts";
import { FORMATS } from "./format_writers.ts";
import { runParity } from "./parity_cases.ts";
import { runTrainParity } from "./train_parity_case.ts";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    only: { type: "string" },
    "chrome-args": { type: "string" },
    train: { type: "boolean" },
    format: { type: "string" },
    converted: { type: "string" },
    cache: { type: "string" },
    without: { type: "string" },
    "default-limits": { type: "boolean" },
  },
});
const folder = positionals[0];
const { cache = "f32" } = values;
const isCache = cache === "f32" || cache === "f16" || cache === "i8";
if (!folder || (values.format !== undefined && !(values.format in FORMATS)) || !isCache) {
  console.error(
    'usage: npm run parity -- DIR [--train] [--format X | --converted FOLDER] [--cache f16|i8] [--only case,...] [--without feature,...] [--default-limits] [--chrome-args "..."]',
  );
  console.error(`formats: ${Object.keys(FORMATS).join(", ")}`);
  process.exit(2);
}
const device = {
  ...(values["chrome-args"] ? { chromeArgs: values["chrome-args"] } : {}),
  ...deviceOptions(values),
};
if (values.train) {
  const report = await runTrainParity(folder, device);
  console.log(JSON.stringify(report));
  process.exit(report.pass ? 0 : 1);
}
const options = {
  ...(values.only ? { only: values.only.split(",") } : {}),
  ...device,
  onReport: (report: unknown) => console.log(JSON.stringify(report)),
};
const reports =
  values.format === undefined && values.converted === undefined
    ? await runParity(folder, { ...options, cache })
    : await runFormatParity(folder, values.format ?? { converted: values.converted! }, options);
process.exitCode = reports.length > 0 && reports.every((report) => report.pass) ? 0 : 1;
