// npm run fuzz -- [--files N] [--only parser,...] [--seed S] [--from I]: reads N damaged files with each parser of files and prints a line
// for each. Every file must end in a result or an error of ours, within a second, without asking for more memory than it is large.
import { parseArgs } from "node:util";
import { fuzz } from "./fuzz_run.ts";
import { fuzzTargets } from "./fuzz_targets.ts";

const { values } = parseArgs({
  options: {
    files: { type: "string", default: "10000" },
    only: { type: "string" },
    seed: { type: "string", default: "1" },
    from: { type: "string", default: "0" },
  },
});
const targets = await fuzzTargets();
const names = values.only?.split(",") ?? targets.map(({ name }) => name);
const unknown = names.filter((name) => !targets.some((target) => target.name === name));
if (unknown.length > 0) {
  console.error(`no parser named ${unknown.join(", ")}; there are ${targets.map(({ name }) => name).join(", ")}`);
  process.exit(2);
}
let faults = 0;
for (const target of targets.filter(({ name }) => names.includes(name))) {
  const { findings, ...report } = await fuzz(target, {
    count: Number(values.files),
    from: Number(values.from),
    seed: Number(values.seed),
    onFinding: ({ index, what }) => ++faults <= 50 && console.log(`${target.name} ${index}: ${what}`),
  });
  console.log(JSON.stringify({ ...report, faults: findings.length }));
}
process.exitCode = faults > 0 ? 1 : 0;
