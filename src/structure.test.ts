import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { gzipSync } from "node:zlib";
import { cruise, type ICruiseResult } from "dependency-cruiser";
import { afterAll, describe, expect, it } from "vitest";

/** Files under a folder whose name ends with one of `endings`, with slashes, sorted. */
function files(folder: string, ...endings: string[]): string[] {
  if (!existsSync(folder)) return [];
  return readdirSync(folder, { recursive: true, encoding: "utf8" })
    .filter((path) => endings.some((ending) => path.endsWith(ending)))
    .map((path) => join(folder, path).replaceAll("\\", "/"))
    .sort();
}
const read = (path: string) => readFileSync(path, "utf8");
/** Lines that are neither blank nor only a comment. */
const codeLines = (text: string) => text.split("\n").filter((line) => !/^\s*($|\/\/|\/\*|\*)/.test(line)).length;
const isTest = (path: string) => /\.(test|cases|contract)\.tsx?$/.test(path);

const sources = files("src", ".ts", ".tsx");
const shaders = files("shaders", ".wgsl");
const bindings = files("src/kernels", ".ts").filter((path) => !isTest(path) && read(path).includes('.wgsl?raw"'));

/** What several operations share: their cases are its cases. */
const SHARED = ["source.ts", "weight_library.ts"];

/** Measures the device itself and is no operation: its shaders have no cases. */
const MEASURES = "src/kernels/timing.ts";

describe("shaders", () => {
  it("are imported by the binding whose name begins theirs", () => {
    expect(shaders).not.toEqual([]);
    const lost = shaders.filter((shader) => {
      const importers = bindings.filter((path) => read(path).includes(`${shader}?raw"`));
      // Library files are shared; matmul_vec.wgsl belongs to matmul.ts.
      if (shader.startsWith("shaders/lib/") || importers.includes(MEASURES)) return importers.length === 0;
      return !importers.some((path) => basename(shader).startsWith(basename(path, ".ts")));
    });
    expect(lost).toEqual([]);
  });

  it("open with a comment and are shorter than 300 lines", () => {
    expect(shaders.filter((path) => !read(path).startsWith("//"))).toEqual([]);
    expect(shaders.filter((path) => read(path).split("\n").length >= 300)).toEqual([]);
  });

  it("have cases for each binding", () => {
    const cases = files("src/kernels", ".cases.ts");
    const operations = bindings.filter((path) => path !== MEASURES && !SHARED.includes(basename(path)));
    const untested = operations.filter(
      (path) => !cases.some((c) => c === path.replace(".ts", ".cases.ts") || read(c).includes(`"./${basename(path)}"`)),
    );
    expect(untested).toEqual([]);
  });
});

describe("files", () => {
  it("have at most 400 lines of code", () => {
    expect(sources.filter((path) => codeLines(read(path)) > 400)).toEqual([]);
  });

  it("named index.ts only re-export names", () => {
    const doors = sources.filter((path) => basename(path) === "index.ts");
    expect(doors.length).toBeGreaterThan(3);
    const busy = doors.filter((path) => {
      const text = read(path).replace(/\/\*[\s\S]*?\*\/|\/\/.*$/gm, "");
      const rest = text.replace(/export\s+(type\s+)?(\{[^}]*\}|\*)\s+from\s+"[^"]+";/g, "").trim();
      return rest !== "" || text.split("\n").length > 60;
    });
    expect(busy).toEqual([]);
  });

  it("stay inside the line budget", () => {
    const lines = (paths: string[]) => paths.reduce((sum, path) => sum + read(path).split("\n").length, 0);
    expect(lines(sources.filter((path) => !isTest(path)))).toBeLessThanOrEqual(37_000);
    expect(lines(shaders)).toBeLessThanOrEqual(6_000);
  });

  it("lock packages for every platform and name no package host", () => {
    const { packages } = JSON.parse(read("package-lock.json")) as {
      packages: Record<string, { resolved?: string; optionalDependencies?: Record<string, string> }>;
    };
    expect(Object.values(packages).filter((entry) => entry.resolved)).toEqual([]);
    // `npm ci` refuses a lock file that lacks another platform's binary. It happens when the registry had not got them all.
    const optional = Object.values(packages).flatMap((entry) => Object.keys(entry.optionalDependencies ?? {}));
    expect(optional.filter((name) => !packages[`node_modules/${name}`])).toEqual([]);
  });
});

describe("ladder", () => {
  const require = createRequire(import.meta.url);
  const config = require("../.dependency-cruiser.cjs");
  const run = async (baseDir: string) => {
    const { options, ...ruleSet } = config;
    const { tsConfig, ...rest } = options;
    const found = await cruise(["src"], { ...rest, baseDir, ruleSet, validate: true }, {}, {});
    return found.output as ICruiseResult;
  };
  const planted = mkdtempSync(join(tmpdir(), "ladder-"));
  afterAll(() => rmSync(planted, { recursive: true }));

  it("reads every source file and finds no fault", { timeout: 60_000 }, async () => {
    const { summary, modules } = await run(process.cwd());
    const ours = modules.filter((module) => module.source.startsWith("src/"));
    // A resolver or parser that reads nothing reports no faults either.
    expect(ours.length).toBeGreaterThanOrEqual(sources.length);
    expect(ours.some((module) => module.dependencies.length > 0)).toBe(true);
    expect(summary.violations.map(({ rule, from, to }) => `${rule.name}: ${from} → ${to}`)).toEqual([]);
  });

  it("finds planted faults", { timeout: 60_000 }, async () => {
    const faults: Record<string, [path: string, imported: string]> = {
      "ladder-0": ["src/gpu/up.ts", "../kernels/index.ts"],
      "ladder-3": ["src/engine/up.ts", "../api/index.ts"],
      doors: ["src/models/side.ts", "../kernels/rms_norm.ts"],
      "app-uses-api": ["src/app/deep.tsx", "../engine/index.ts"],
      "page-side": ["src/api/client.ts", "../engine/index.ts"],
      "no-cycles": ["src/processor/a.ts", "./b.ts"],
    };
    const write = (path: string, text: string) => {
      mkdirSync(join(planted, dirname(path)), { recursive: true });
      writeFileSync(join(planted, path), text);
    };
    for (const path of ["kernels/index", "kernels/rms_norm", "engine/index", "api/index"])
      write(`src/${path}.ts`, "export interface Thing { size: number }\n");
    for (const [path, imported] of Object.values(faults))
      write(path, `import type { Thing } from "${imported}";\nexport const size = (thing: Thing) => thing.size;\n`);
    write("src/processor/b.ts", 'export type { size as Thing } from "./a.ts";\n');
    const { summary } = await run(planted);
    const found = new Set(summary.violations.map(({ rule, from }) => `${rule.name} ${from}`));
    for (const [rule, [path]] of Object.entries(faults)) expect(found).toContain(`${rule} ${path}`);
  });
});

describe("the built page", () => {
  const assets = ["dist/assets", ".cache/test/dist/assets"].find((folder) => existsSync(folder));
  const bytesOf = (scripts: string[]) => scripts.reduce((sum, path) => sum + gzipSync(readFileSync(path)).length, 0);
  /** Loaded when the Train screen is asked for, with its plotting library. */
  const isTrain = (path: string) => basename(path).startsWith("train_screen");
  it.skipIf(!assets)("sends less than 80 kB of script, the worker and the Train screen apart", () => {
    const scripts = files(assets!, ".js").filter((path) => !isTrain(path));
    expect(scripts).not.toEqual([]);
    expect(bytesOf(scripts)).toBeLessThan(80_000);
  });
  it.skipIf(!assets)("sends less than 60 kB of script for the Train screen", () => {
    const scripts = files(assets!, ".js").filter(isTrain);
    expect(scripts).toHaveLength(1);
    expect(bytesOf(scripts)).toBeLessThan(60_000);
  });
});
