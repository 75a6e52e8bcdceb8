import type { Plugin } from "vite";
import { defineConfig, type TestProjectInlineConfiguration } from "vitest/config";
import type { TestSequencer, TestSpecification } from "vitest/node";

/** Vite's development server puts styles and its client into the page in ways that the page's own policy forbids. */
const noPolicyInDevelopment: Plugin = {
  name: "no-policy-in-development",
  apply: "serve",
  transformIndexHtml: (html) => html.replace(/<meta\s+http-equiv="Content-Security-Policy"[^>]*>/i, ""),
};

const headers = {
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Embedder-Policy": "require-corp",
};

type ProjectConfig = NonNullable<TestProjectInlineConfiguration["test"]>;

/** Tests of the tools themselves, without a browser. */
const IN_NODE = [
  "e2e/compare_case.test.ts",
  "e2e/onnx_writer.test.ts",
  "e2e/peer_graphs.test.ts",
  "e2e/torch_peer.test.ts",
  "e2e/write_checkpoint.test.ts",
];
const TIMED = ["e2e/cancel.test.ts", "e2e/screens.test.ts"];
/** Files that take longest, longest first. */
const LONGEST = [
  "src/models/qwen3_vl/lora_conformance",
  "src/kernels/compile",
  ...["training", "train", "parity", "bad_input", "shapes", "kernels", "journey", "demo"].map((name) => `e2e/${name}`),
];

/** Begins with the files that take longest, so that no worker is left alone with one of them at the end. */
class LongestFirst implements TestSequencer {
  shard(files: TestSpecification[]): TestSpecification[] {
    return files;
  }

  sort(files: TestSpecification[]): TestSpecification[] {
    const rank = ({ moduleId }: TestSpecification) => {
      const at = LONGEST.findIndex((name) => moduleId.endsWith(`/${name}.test.ts`));
      return at < 0 ? LONGEST.length : at;
    };
    return files.toSorted((a, b) => rank(a) - rank(b));
  }
}

function browserTests(name: string, { exclude = [], ...more }: ProjectConfig): { extends: true; test: ProjectConfig } {
  return {
    extends: true,
    test: {
      name,
      include: ["e2e/**/*.test.ts"],
      exclude: [...IN_NODE, ...exclude],
      globalSetup: ["e2e/build_once.ts"],
      // What a page shows a moment later is waited for, also on a machine that others use.
      expect: { poll: { timeout: 20_000 } },
      testTimeout: 120_000,
      hookTimeout: 120_000,
      ...more,
    },
  };
}

export default defineConfig({
  // Relative addresses: the build works under any sub-path.
  base: "./",
  plugins: [noPolicyInDevelopment],
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  server: { headers },
  preview: { headers },
  build: {
    target: "es2023",
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
    chunkSizeWarningLimit: 2000,
  },
  worker: {
    format: "es",
    // A folder of its own, so that the page's share of the bundle can be measured (src/structure.test.ts).
    rolldownOptions: {
      output: { entryFileNames: "worker/[name]-[hash].js", chunkFileNames: "worker/[name]-[hash].js" },
    },
  },
  test: {
    sequence: { sequencer: LongestFirst },
    projects: [
      {
        extends: true,
        test: {
          name: "unit",
          include: ["src/**/*.test.{ts,tsx}", "scripts/**/*.test.ts", ...IN_NODE],
          // Vitest would leave one processor free: one of two.
          maxWorkers: "100%",
          // The slowest take 3 s on an idle machine; the machine may be shared.
          testTimeout: 20_000,
        },
      },
      // Compiling for a software GPU keeps one processor busy, running on it all of them: two browsers at a time, …
      browserTests("e2e", { exclude: TIMED, maxWorkers: 2, sequence: { groupOrder: 1 } }),
      // … but one where the clock or the processor itself is under test.
      browserTests("timed", { include: TIMED, fileParallelism: false, sequence: { groupOrder: 2 } }),
    ],
  },
});
