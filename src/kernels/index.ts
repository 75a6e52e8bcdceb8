export { adamw, adamw8bit, adamw8bitWords } from "./adamw.ts";
export { attention } from "./attention.ts";
export { attentionBackward } from "./attention_backward.ts";
export { decodeAttention, decodeScratchBytes } from "./attention_decode.ts";
export { type CacheType, cacheRowBytes } from "./cache.ts";
export { crossEntropy } from "./cross_entropy.ts";
export { dropout } from "./dropout.ts";
export { embedding } from "./embedding.ts";
export { gather } from "./gather.ts";
export { gelu, geluBackward } from "./gelu.ts";
export { gemm, gemmScratchBytes } from "./gemm.ts";
export { gradNorm, gradNormPartials } from "./grad_norm.ts";
export { quickCheck, runCases } from "./harness.ts";
export { interpolate } from "./interpolate.ts";
export { layerNorm, layerNormBackward } from "./layer_norm.ts";
export {
  canAddPairs,
  canGlu,
  handoverBytes,
  type MatmulPair,
  matmul,
  startHandover,
  VEC_SHAPES,
  vecChoice,
} from "./matmul.ts";
export { matmulBackward } from "./matmul_backward.ts";
export { canTile, reserveTileScratch, TILE_SHAPES, tileChoice, tileScratchBytes } from "./matmul_tile.ts";
export { compileMatmul, tuneMatmul } from "./matmul_tune.ts";
export type { Matrix, MatrixBlock } from "./matrix.ts";
export { rmsNorm, rmsNormBackward } from "./rms_norm.ts";
export { rope, ropeBackward } from "./rope.ts";
export {
  GREEDY,
  packSampleSettings,
  type SampleSettings,
  type SampleState,
  sample,
  sampleScratchBytes,
} from "./sample.ts";
export { scatter } from "./scatter.ts";
export { swiglu, swigluBackward } from "./swiglu.ts";
export { type Ceilings, measureCeilings, timeProgram } from "./timing.ts";
