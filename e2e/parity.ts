// npm run parity -- DIR [--only case,...] [--chrome-args "..."]: compares the app with reference numbers, one JSON line per case.
import { parseArgs } from "node:util";
import { runParity } from "./parity_cases.ts";

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
if (!folder || values.train || values.format) {
  console.error(
    folder
      ? "--train and --format are not built yet"
      : 'usage: npm run parity -- DIR [--only case,...] [--chrome-args "..."]',
  );
  process.exit(2);
}
const reports = await runParity(folder, {
  ...(values.only ? { only: values.only.split(",") } : {}),
  ...(values["chrome-args"] ? { chromeArgs: values["chrome-args"] } : {}),
  onReport: (report) => console.log(JSON.stringify(report)),
});
process.exitCode = reports.length > 0 && reports.every((report) => report.pass) ? 0 : 1;
