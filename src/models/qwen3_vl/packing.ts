import { TabTuneError } from "../../errors.ts";
import type { Qwen3VLConfig } from "./config.ts";
import { ropePositions } from "./positions.ts";
import type { TrainExample } from "./trainable.ts";

/** Label of a token whose loss does not count. */
const IGNORED = -100;

/** Several examples in one sequence, none of which sees another. */
export interface PackedBatch {
  ids: Uint32Array<ArrayBuffer>;
  /** [tokens, 4]: t, h, w and the index in the sequence. Each example counts from 0. */
  positions: Uint32Array<ArrayBuffer>;
  /** [tokens, 2]: the tokens that a token sees, and the tokens that see it; first and one past the last. */
  ranges: Uint32Array<ArrayBuffer>;
  keyRanges: Uint32Array<ArrayBuffer>;
  /** Places of each picture's tokens, over all examples in order. */
  pictures: Uint32Array<ArrayBuffer>[];
  /** Tokens whose logits are learnt, and what should come after each. */
  trained: Uint32Array<ArrayBuffer>;
  labels: Uint32Array<ArrayBuffer>;
  /** Longest example: how far positions reach at most. */
  longest: number;
}

/** Throws `BadInput` when ids, labels and pictures do not agree, or when nothing is there to learn. */
export function packExamples(examples: readonly TrainExample[], config: Qwen3VLConfig): PackedBatch {
  const total = examples.reduce((sum, { ids }) => sum + ids.length, 0);
  const batch: PackedBatch = {
    ids: new Uint32Array(total),
    positions: new Uint32Array(4 * total),
    ranges: new Uint32Array(2 * total),
    keyRanges: new Uint32Array(2 * total),
    pictures: [],
    trained: new Uint32Array(0),
    labels: new Uint32Array(0),
    longest: 0,
  };
  const trained: number[] = [];
  const labels: number[] = [];
  const { vocabSize } = config.text;
  let first = 0;
  examples.forEach((example, n) => {
    const length = example.ids.length;
    const fail = (what: string) => new TabTuneError("BadInput", `Example ${n + 1} of the micro-batch: ${what}`);
    if (example.labels.length !== length) {
      throw fail(`${length} token ids and ${example.labels.length} labels; expected as many of both.`);
    }
    const wrong = [...example.ids, ...example.labels].find((id) => id !== IGNORED && !(id >= 0 && id < vocabSize));
    if (wrong !== undefined || example.ids.includes(IGNORED)) {
      throw fail(`token id ${wrong ?? IGNORED}; this model has ids from 0 to ${vocabSize - 1}.`);
    }
    const grids = example.images.map(({ grid }) => grid);
    const { positions } = ropePositions(example.ids, grids, config);
    for (let i = 0; i < length; i++) {
      const at = first + i;
      batch.positions.set([positions[3 * i]!, positions[3 * i + 1]!, positions[3 * i + 2]!, at], 4 * at);
      batch.ranges.set([first, at + 1], 2 * at);
      batch.keyRanges.set([at, first + length], 2 * at);
      const next = example.labels[i + 1] ?? IGNORED;
      if (next === IGNORED) continue;
      trained.push(at);
      labels.push(next);
    }
    batch.ids.set(example.ids, first);
    const pads: number[] = [];
    example.ids.forEach((id, i) => {
      if (id === config.imageTokenId || id === config.videoTokenId) pads.push(first + i);
    });
    for (const [t, h, w] of grids) {
      const tokens = (t * h * w) / config.vision.spatialMergeSize ** 2;
      batch.pictures.push(Uint32Array.from(pads.splice(0, tokens)));
    }
    first += length;
    batch.longest = Math.max(batch.longest, length);
  });
  if (trained.length === 0) {
    throw new TabTuneError(
      "BadInput",
      "No token of the micro-batch is learnt: every label is −100. Check the answers.",
    );
  }
  return { ...batch, trained: Uint32Array.from(trained), labels: Uint32Array.from(labels) };
}
