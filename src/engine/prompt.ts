import type { Grid } from "../models/index.ts";

/** A picture's place in a prompt. */
export interface PromptImage {
  /** Where its tokens stand: one run for a picture, one for each temporal group of a video. */
  runs: readonly { start: number; tokens: number }[];
  grid: Grid;
  /** Content hash and size: equal keys mean equal features. */
  key: string;
  /** [patches, channels·temporal·patch²] f32, made when the picture has to be encoded. */
  pixels(): Promise<Float32Array<ArrayBuffer>>;
}

/** A tokenized conversation, image tokens already expanded. */
export interface Prompt {
  ids: readonly number[];
  images: readonly PromptImage[];
}

/** What a cached token stands for: its id, or a picture's key with the row. */
export type TokenKey = number | string;

export function tokenKeys(prompt: Prompt): TokenKey[] {
  const keys: TokenKey[] = [...prompt.ids];
  for (const { runs, key } of prompt.images) {
    let row = 0;
    for (const { start, tokens } of runs) for (let i = 0; i < tokens; i++) keys[start + i] = `${key}:${row++}`;
  }
  return keys;
}

/** Length of the longest common prefix. */
export function commonPrefix(a: readonly TokenKey[], b: readonly TokenKey[]): number {
  const n = Math.min(a.length, b.length);
  let i = 0;
  while (i < n && a[i] === b[i]) i++;
  return i;
}
