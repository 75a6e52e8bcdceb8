import type { Grid } from "../models/index.ts";

/** A picture's place in a prompt. */
export interface PromptImage {
  /** Index of its first image token, and how many there are. */
  start: number;
  tokens: number;
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
  for (const { start, tokens, key } of prompt.images) {
    for (let i = 0; i < tokens; i++) keys[start + i] = `${key}:${i}`;
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
