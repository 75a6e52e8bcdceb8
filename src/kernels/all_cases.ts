import { adamwCases } from "./adamw.cases.ts";
import { attentionCases } from "./attention.cases.ts";
import { attentionBackwardCases } from "./attention_backward.cases.ts";
import { attentionDecodeCases } from "./attention_decode.cases.ts";
import type { KernelCase } from "./case.ts";
import { crossEntropyCases } from "./cross_entropy.cases.ts";
import { dropoutCases } from "./dropout.cases.ts";
import { embeddingCases } from "./embedding.cases.ts";
import { gatherCases } from "./gather.cases.ts";
import { geluCases } from "./gelu.cases.ts";
import { gemmCases } from "./gemm.cases.ts";
import { gradNormCases } from "./grad_norm.cases.ts";
import { interpolateCases } from "./interpolate.cases.ts";
import { layerNormCases } from "./layer_norm.cases.ts";
import { matmulCases } from "./matmul.cases.ts";
import { matmulBackwardCases } from "./matmul_backward.cases.ts";
import { rmsNormCases } from "./rms_norm.cases.ts";
import { ropeCases } from "./rope.cases.ts";
import { sampleCases } from "./sample.cases.ts";
import { scatterCases } from "./scatter.cases.ts";
import { swigluCases } from "./swiglu.cases.ts";

/** Every case of every kernel: the one list that tests, times and shows kernels. */
export const allCases: readonly KernelCase[] = [
  ...matmulCases,
  ...attentionCases,
  ...attentionDecodeCases,
  ...ropeCases,
  ...rmsNormCases,
  ...layerNormCases,
  ...swigluCases,
  ...embeddingCases,
  ...scatterCases,
  ...interpolateCases,
  ...sampleCases,
  ...gemmCases,
  ...matmulBackwardCases,
  ...geluCases,
  ...gatherCases,
  ...dropoutCases,
  ...crossEntropyCases,
  ...attentionBackwardCases,
  ...gradNormCases,
  ...adamwCases,
];
