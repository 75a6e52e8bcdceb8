import type { Checkpoint } from "../formats/index.ts";
import type { Gpu, Slice } from "../gpu/index.ts";
import { GpuWeights, type Qwen3VLConfig, weightSlots } from "../models/index.ts";
import type { BenchOptions } from "./bench_protocol.ts";

type Vision = Qwen3VLConfig["vision"];
type Text = Qwen3VLConfig["text"];

const vision = (own: Partial<Vision>): Vision => ({
  depth: 24,
  hiddenSize: 1024,
  numHeads: 16,
  intermediateSize: 4096,
  inChannels: 3,
  patchSize: 16,
  temporalPatchSize: 2,
  spatialMergeSize: 2,
  numPositionEmbeddings: 2304,
  outHiddenSize: 2560,
  deepstackVisualIndexes: [5, 11, 17],
  ropeTheta: 10000,
  ...own,
});

const text = (own: Partial<Text>): Text => ({
  hiddenSize: 2560,
  numHiddenLayers: 36,
  numAttentionHeads: 32,
  numKeyValueHeads: 8,
  headDim: 128,
  intermediateSize: 9728,
  vocabSize: 151936,
  rmsNormEps: 1e-6,
  ropeTheta: 5_000_000,
  mropeSection: [24, 20, 20],
  maxPositionEmbeddings: 262144,
  tieWordEmbeddings: true,
  ...own,
});

const tokens = {
  imageTokenId: 151655,
  videoTokenId: 151656,
  visionStartTokenId: 151652,
  visionEndTokenId: 151653,
};
const largeTower = {
  depth: 27,
  hiddenSize: 1152,
  intermediateSize: 4304,
  deepstackVisualIndexes: [8, 16, 24],
};

/** The published shapes (qwen3-vl.md §1), and one that a software GPU can run. */
export const PRESETS: Record<BenchOptions["preset"], Qwen3VLConfig> = {
  "qwen3-vl-2b": {
    ...tokens,
    text: text({ hiddenSize: 2048, numHiddenLayers: 28, numAttentionHeads: 16, intermediateSize: 6144 }),
    vision: vision({ outHiddenSize: 2048 }),
  },
  "qwen3-vl-4b": { ...tokens, text: text({}), vision: vision({}) },
  "qwen3-vl-8b": {
    ...tokens,
    text: text({ hiddenSize: 4096, intermediateSize: 12288, tieWordEmbeddings: false }),
    vision: vision({ ...largeTower, outHiddenSize: 4096 }),
  },
  tiny: {
    imageTokenId: 500,
    videoTokenId: 501,
    visionStartTokenId: 502,
    visionEndTokenId: 503,
    text: text({
      hiddenSize: 64,
      numHiddenLayers: 4,
      numAttentionHeads: 4,
      numKeyValueHeads: 2,
      headDim: 32,
      intermediateSize: 128,
      vocabSize: 512,
      mropeSection: [6, 5, 5],
    }),
    vision: vision({
      depth: 4,
      hiddenSize: 64,
      numHeads: 4,
      intermediateSize: 128,
      numPositionEmbeddings: 64,
      outHiddenSize: 64,
      deepstackVisualIndexes: [0, 1, 2],
    }),
  },
};

/** Bytes of the random patterns that weights are copied from. */
const PATTERN = 2 ** 22;

/** An f16 scale of 2⁻⁸ with an offset that puts the mean of the codes 0…15 at zero. */
const SCALE_AND_OFFSET = 0x1c00 | (0xa780 << 16);

/** Random 4-bit language weights and bf16 vision weights, written on the device itself: no download, nothing stored. */
export async function randomWeights(gpu: Gpu, config: Qwen3VLConfig): Promise<GpuWeights> {
  const named = new Map(
    ["model.language_model.embed_tokens.weight", "model.visual.patch_embed.proj.weight", "lm_head.weight"].map(
      (name) => [name, {}],
    ),
  );
  const slots = weightSlots(config, { tensors: named } as unknown as Checkpoint, "q4a32");
  const weights = await GpuWeights.allocate(gpu, slots);
  let state = 0x2545f491;
  const random = () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state >>> 0;
  };
  const words = PATTERN / 4;
  // Pairs of bf16 of either sign between 2⁻⁷ and 2⁻⁵.
  const bf16 = () => (random() & 0x80ff80ff) | 0x3c003c00;
  const pattern = (word: () => number) => gpu.upload("bench", "pattern", Uint32Array.from({ length: words }, word));
  const patterns = {
    codes: pattern(random),
    scales: pattern(() => SCALE_AND_OFFSET),
    bf16: pattern(bf16),
    ones: pattern(() => 0x3f800000),
  };
  const fill = (target: Slice, source: Slice) => {
    const encoder = gpu.device.createCommandEncoder();
    for (let at = 0; at < target.size; at += PATTERN) {
      const bytes = Math.min(PATTERN, target.size - at);
      encoder.copyBufferToBuffer(source.buffer, source.offset, target.buffer, target.offset + at, bytes);
    }
    gpu.device.queue.submit([encoder.finish()]);
  };
  for (const { name, scheme } of slots) {
    if (scheme === "f32") {
      // Gains are one; biases and position embeddings stay zero.
      if (/norm\d?$/.test(name)) fill(weights.vector(name), patterns.ones);
      continue;
    }
    for (const block of weights.matrix(name).blocks) {
      fill(block.codes, scheme === "bf16" ? patterns.bf16 : patterns.codes);
      if (scheme !== "bf16") fill(block.scales, patterns.scales);
    }
  }
  await gpu.guard(gpu.device.queue.onSubmittedWorkDone());
  for (const slice of Object.values(patterns)) gpu.free(slice);
  return weights;
}
