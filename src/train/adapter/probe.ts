import { type Engine, promptChunks } from "../../engine/index.ts";
import { expandPrompt, type Grid, LOGIT_ROWS, ropePositions } from "../../models/index.ts";

/** Two tokens along each side of the picture. */
const TOKENS = 2;
const QUESTION = "Which bar is the highest, and what is its value?";

/**
 * Logits of every token of a fixed question about a fixed picture, [tokens, vocabulary], through the passes that a chat uses, with
 * whatever adapter is on. Nothing of the conversation is in the cache afterwards. Throws `OutOfMemory`, `Cancelled`, `DeviceLost`.
 */
export async function probeLogits(engine: Engine, signal?: AbortSignal): Promise<Float32Array<ArrayBuffer>> {
  const { gpu, model, config, chat, session } = engine;
  const { vision, text } = config;
  const side = TOKENS * vision.spatialMergeSize;
  const grid: Grid = [1, side, side];
  const pixels = Float32Array.from(
    { length: side * side * vision.inChannels * vision.temporalPatchSize * vision.patchSize ** 2 },
    (_, i) => Math.sin(0.1 * i),
  );
  const content = [{ type: "image" }, { type: "text", text: QUESTION }];
  const rendered = chat.render([{ role: "user", content }]);
  const { ids, images } = expandPrompt(rendered, chat.tokenizer, config, [grid]);
  const options = signal ? { signal } : {};
  session.reset();
  const features = await model.vision.encode(pixels, grid, options);
  const key = "probe";
  const prompt = { ids, images: images.map(({ runs }) => ({ runs, grid, key, pixels: async () => pixels })) };
  const { positions } = ropePositions(ids, [grid], config);
  const logits = new Float32Array(ids.length * text.vocabSize);
  const blocks = await gpu.allocating("comparing adapters", () =>
    Array.from({ length: Math.ceil(Math.min(ids.length, model.language.maxRows) / LOGIT_ROWS) }, () =>
      gpu.storage("sampling", "logits", LOGIT_ROWS * text.vocabSize * 4),
    ),
  );
  try {
    const byKey = new Map([[key, features]]);
    for (const { chunk, to } of promptChunks(prompt, positions, byKey, 0, model.language.maxRows)) {
      const rows = chunk.ids.length;
      const used = blocks.slice(0, Math.ceil(rows / LOGIT_ROWS));
      await model.language.prefill(chunk, { last: false, logits: used, ...options });
      for (const [i, block] of used.entries()) {
        const count = Math.min(LOGIT_ROWS, rows - i * LOGIT_ROWS);
        const values = await gpu.readFloats(block, count * text.vocabSize);
        logits.set(values, (to - rows + i * LOGIT_ROWS) * text.vocabSize);
      }
    }
    return logits;
  } finally {
    for (const slice of [...blocks, ...features.features]) gpu.free(slice);
    session.reset();
  }
}

/** ‖a − b‖ / ‖b‖ in float64; infinite where lengths differ or anything is not finite. */
export function relativeDifference(a: Float32Array, b: Float32Array): number {
  if (a.length !== b.length) return Number.POSITIVE_INFINITY;
  let difference = 0;
  let size = 0;
  for (let i = 0; i < b.length; i++) {
    difference += (a[i]! - b[i]!) ** 2;
    size += b[i]! ** 2;
  }
  const error = Math.sqrt(difference / (size || 1));
  return Number.isFinite(error) ? error : Number.POSITIVE_INFINITY;
}
