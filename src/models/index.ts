export { parseConfig, type Qwen3VLConfig } from "./qwen3_vl/config.ts";
export { activationBytes, type Chunk, cacheBytes } from "./qwen3_vl/language.ts";
export { ropePositions } from "./qwen3_vl/positions.ts";
export { expandPrompt, imageSize, prepareImage, prepareVideo } from "./qwen3_vl/processor.ts";
export { type ProcessorConfig, parseGenerationConfig, parseProcessorConfig } from "./qwen3_vl/processor_config.ts";
export { Qwen3VL } from "./qwen3_vl/qwen3_vl.ts";
export { type Grid, type ImageFeatures, maxPatches } from "./qwen3_vl/vision.ts";
export { GpuWeights, gpuWeightBytes, weightSlots } from "./qwen3_vl/weights.ts";
