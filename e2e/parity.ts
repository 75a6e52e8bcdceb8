// npm run parity -- DIR [--train] [--only case,...] [--chrome-args "..."]: compares the app with reference numbers, one JSON line per
// case, or with --train one line for the training run.
import { parseArgs } from "node:util";
import { runParity } from "./parity_cases.ts";
import { runTrainParity } from "./train_parity_case.ts";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    only: { type: "string" },
    "chrome-args": { type: "string" },
    train: { type: "boolean" },
    format: { type: "string" },
  },
});
const folder = positionals[0];
if (!folder || values.format) {
  console.error(
    folder
      ? "--format is not built yet"
      : 'usage: npm run parity -- DIR [--train] [--only case,...] [--chrome-args "..."]',
  );
  process.exit(2);
}
const chrome = values["chrome-args"] ? { chromeArgs: values["chrome-args"] } : {};
if (values.train) {
  const report = await runTrainParity(folder, chrome);
  console.log(JSON.stringify(report));
  process.exit(report.pass ? 0 : 1);
}
const reports = await runParity(folder, {
  ...(values.only ? { only: values.only.split(",") } : {}),
  ...chrome,
  onReport: (report) => console.log(JSON.stringify(report)),
});
process.exitCode = reports.length > 0 && reports.every((report) => report.pass) ? 0 : 1;
