import type { Chunk, Grid, ImageFeatures } from "../models/index.ts";

/** A picture's place in a prompt. */
export interface PromptImage {
  /** Where its tokens stand: one run for a picture, one for each temporal group of a video. */
  runs: readonly { start: number; tokens: number }[];
  grid: Grid;
  /** Content hash and size: equal keys mean equal features. */
  key: string;
  /** [patches, channels·temporal·patch²] f32, made when the picture has to be encoded. */
  pixels(signal?: AbortSignal): Promise<Float32Array<ArrayBuffer>>;
  /** What the tower made of it, where somebody else has and keeps that: it is not encoded then. */
  features?: ImageFeatures;
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

/**
 * Cuts tokens `from` … of a prompt into chunks of at most `maxRows` for the decoder, each with its positions and the picture rows in it.
 * @param positions [tokens, 3] of the whole prompt
 * @param features of every picture that has a token at or after `from`, by key
 */
export function* promptChunks(
  prompt: Prompt,
  positions: Int32Array,
  features: ReadonlyMap<string, ImageFeatures>,
  from: number,
  maxRows: number,
): Generator<{ chunk: Chunk; to: number }> {
  const count = prompt.ids.length;
  for (let first = from; first < count; first += maxRows) {
    const to = Math.min(count, first + maxRows);
    const quads = new Uint32Array(4 * (to - first));
    for (let i = first; i < to; i++) {
      quads.set([positions[3 * i]!, positions[3 * i + 1]!, positions[3 * i + 2]!, i], 4 * (i - first));
    }
    const images: Chunk["images"] = [];
    for (const { runs, key } of prompt.images) {
      let row = 0;
      for (const { start, tokens } of runs) {
        const [a, b] = [Math.max(first, start), Math.min(to, start + tokens)];
        const at = Uint32Array.from({ length: Math.max(0, b - a) }, (_, i) => a + i - first);
        if (at.length > 0) images.push({ features: features.get(key)!, first: row + a - start, at });
        row += tokens;
      }
    }
    yield { chunk: { ids: Uint32Array.from(prompt.ids.slice(first, to)), positions: quads, images }, to };
  }
}
