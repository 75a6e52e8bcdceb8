// The bench's part "load": how long a visitor waits who comes back to a stored model.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { BenchOptions, BenchRow } from "../src/api/bench_protocol.ts";
import { openApp } from "./browser.ts";
import { byteTokenizer, QWEN_SPECIAL, SIMPLE_TEMPLATE } from "./byte_tokenizer.ts";
import { type Preset, writeRandomFolder } from "./random_folder.ts";
import { askAboutPicture, importCheckpoint, reopen } from "./visit.ts";

/** Tiny is for a software GPU, for which a picture of the usual size takes long. */
const TINY = { side: 256, sampleRows: 128 };

export interface LoadOptions {
  preset: BenchOptions["preset"];
  chromeArgs?: string | undefined;
  /** A folder with Qwen's tokenizer.json and chat template; else a small one stands in. */
  tokenizer?: string | undefined;
  onRow: (row: BenchRow) => void;
  say: (line: string) => void;
}

/**
 * Writes a checkpoint of random weights to a temporary folder, imports it into a fresh profile, and comes back twice. What the bench
 * has put on the GPU must be gone by then: the model is as large.
 */
export async function measureLoad({ preset, chromeArgs, tokenizer, onRow, say }: LoadOptions): Promise<void> {
  const { side, ...randomness } = preset === "tiny" ? TINY : { side: 448 };
  const folder = mkdtempSync(join(tmpdir(), "tabtune-load-"));
  try {
    const checkpoint = join(folder, "checkpoint");
    const bytes = await writeRandomFolder({
      preset: preset.replace("qwen3-vl-", "") as Preset,
      form: "awq",
      tokenizer: tokenizer ?? standIn(join(folder, "tokenizer")),
      out: checkpoint,
      seed: 1,
      ...randomness,
    });
    say(`load: a checkpoint of ${(bytes / 1e6).toFixed(0)} MB is written`);
    const app = await openApp({ engineOnly: true, chromeArgs, folders: { "/checkpoint/": checkpoint } });
    try {
      const { id } = await importCheckpoint(app, { kind: "url", base: `${app.origin}/checkpoint/` }, "q4a32");
      const note = tokenizer ? {} : { note: "the tokenizer is a small stand-in for Qwen's" };
      const row = (name: string, value: number) => onRow({ part: "load", name, value, unit: "ms", ...note });
      const first = await reopen(app, id);
      row("first load of stored shards", first.loaded.loadMilliseconds);
      // From the second load on it is known what suits the device.
      const { loaded, opened } = await reopen(app, id);
      row("load of stored shards, a later visit", loaded.loadMilliseconds);
      const { answer, firstToken } = await askAboutPicture(app, loaded, "What is shown?", 4, side);
      if (answer.stats.newTokens === 0) throw new Error("the loaded model answered without a token");
      row("opening the page to the first token about a picture, a later visit", firstToken - opened);
    } finally {
      await app.close();
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** A folder with a tokenizer of bytes whose special tokens are where Qwen's config expects them. */
function standIn(folder: string): string {
  mkdirSync(folder);
  writeFileSync(join(folder, "tokenizer.json"), byteTokenizer({}, QWEN_SPECIAL));
  writeFileSync(join(folder, "chat_template.jinja"), SIMPLE_TEMPLATE);
  return folder;
}
