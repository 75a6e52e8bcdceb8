export { parseConfig, type Qwen3VLConfig } from "./qwen3_vl/config.ts";
export { GpuAdapter } from "./qwen3_vl/gpu_adapter.ts";
export { activationBytes, type Chunk, cacheBytes, LOGIT_ROWS } from "./qwen3_vl/language.ts";
export { type LoraModule, loraModules } from "./qwen3_vl/lora_modules.ts";
export { LoraTraining, loraTrainingBytes } from "./qwen3_vl/lora_training.ts";
export { ropePositions } from "./qwen3_vl/positions.ts";
export { expandPrompt, imageSize, prepareImage, prepareImageInTurns, prepareVideo } from "./qwen3_vl/processor.ts";
export { type ProcessorConfig, parseGenerationConfig, parseProcessorConfig } from "./qwen3_vl/processor_config.ts";
export { Qwen3VL } from "./qwen3_vl/qwen3_vl.ts";
export type {
  TrainExample,
  TrainedBuffer,
  TrainImage,
} from "./qwen3_vl/trainable.ts";
export { type ImageFeatures, maxPatches } from "./qwen3_vl/vision.ts";
export type { Grid } from "./qwen3_vl/vision_inputs.ts";
export { VISION_CHUNK } from "./qwen3_vl/vision_workspace.ts";
export { GpuWeights, gpuWeightBytes, slotShapes, weightSlots } from "./qwen3_vl/weights.ts";
