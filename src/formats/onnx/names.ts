/** One parameter of the model: "model.language_model.norm" and "weight". */
export interface Parameter {
  module: string;
  role: "weight" | "bias";
}

const TEXT = "model.language_model.";
const VISION = "model.visual.";

/**
 * How exporters spell the path of a module, with dots: PyTorch's keep the module's own path or its end, onnxruntime-genai's builder
 * says `attn` and counts the last norm as a layer. Each is the end of a path, or all of it where it begins with `^`.
 */
const MODULES: readonly [pattern: RegExp, module: string][] = [
  [/layers\.(\d+)\.(?:self_)?attn\.((?:[qkvo]|qkv)_proj)/, `${TEXT}layers.$1.self_attn.$2`],
  [/layers\.(\d+)\.(?:self_)?attn\.([qk]_norm)(?:\.layernorm)?/, `${TEXT}layers.$1.self_attn.$2`],
  [/layers\.(\d+)\.mlp\.((?:gate|up|down|gate_up)_proj)/, `${TEXT}layers.$1.mlp.$2`],
  [/layers\.(\d+)\.((?:input|post_attention)_layernorm)/, `${TEXT}layers.$1.$2`],
  [/layers\.\d+\.final_norm_layernorm/, `${TEXT}norm`],
  [/^(?:model\.)?(?:language_model\.)?(?:model\.)?norm/, `${TEXT}norm`],
  [/embed_tokens/, `${TEXT}embed_tokens`],
  [/lm_head/, "lm_head"],
  [/blocks\.(\d+)\.(attn\.(?:qkv|proj)|norm[12]|mlp\.linear_fc[12])/, `${VISION}blocks.$1.$2`],
  [/deepstack_merger_list\.(\d+)\.(norm|linear_fc[12])/, `${VISION}deepstack_merger_list.$1.$2`],
  [/merger\.(norm|linear_fc[12])/, `${VISION}merger.$1`],
  [/patch_embed\.proj/, `${VISION}patch_embed.proj`],
  [/pos_embed/, `${VISION}pos_embed`],
].map(([pattern, module]) => [
  new RegExp(`${(pattern as RegExp).source.startsWith("^") ? "" : "(?:^|\\.)"}${(pattern as RegExp).source}$`),
  module as string,
]);

/** The module of Qwen3-VL, under Hugging Face's name, whose path this is or ends with. */
export function moduleOfPath(path: string): string | undefined {
  for (const [pattern, module] of MODULES) {
    const match = pattern.exec(path);
    if (match) return module.replace(/\$(\d)/g, (_, group) => match[Number(group)]!);
  }
  return undefined;
}

/** What quantizers and rewriters add to a name: "_Q4", "_Q4G32", "_scales", "_transposed", "_transposed_1", ".MatMul". */
const ADDED = /(?:_Q\d+(?:G\d+)?|_transposed(?:_\d+)?)$/;
const OPERATION = /[./](?:MatMul|MatMulNBits|Gemm)$/;

/** The parameter that a tensor is by its own name, such as `model.layers.0.attn.q_proj.MatMul.weight_Q4`. */
export function parameterOfTensor(name: string): Parameter | undefined {
  const clean = name.replace(ADDED, "").replace(ADDED, "");
  const match = /^(.*)\.(?:q?(weight)|(bias))$/.exec(clean);
  const module = match && moduleOfPath(match[1]!.replace(OPERATION, ""));
  return module ? { module, role: match[2] ? "weight" : "bias" } : undefined;
}

/** The module that a node computes by its own name, such as `/model/layers.0/attn/q_proj/MatMul_Q4`. */
export function moduleOfNode(name: string): string | undefined {
  if (!name.includes("/")) return undefined;
  const parts = name.split("/").filter(Boolean).slice(0, -1);
  // Fused nodes keep the name of the first: …/qkv/MatMul/MatMulAddFusion.
  return moduleOfPath(parts.join(".").replace(OPERATION, ""));
}
