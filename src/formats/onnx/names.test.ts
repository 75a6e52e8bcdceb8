import { describe, expect, test } from "vitest";
import { moduleOfNode, moduleOfPath, parameterOfTensor } from "./names.ts";

describe("names", () => {
  test.each([
    ["model.layers.12.attn.q_proj.MatMul.weight_Q4", "model.language_model.layers.12.self_attn.q_proj"],
    ["model.layers.1.attn.qkv_proj.MatMulNBits.qweight", "model.language_model.layers.1.self_attn.qkv_proj"],
    ["model.layers.0.attn.k_norm.layernorm.weight", "model.language_model.layers.0.self_attn.k_norm"],
    ["model.layers.36.final_norm_layernorm.weight", "model.language_model.norm"],
    ["model.language_model.norm.weight", "model.language_model.norm"],
    ["language_model.embed_tokens.weight_Q4", "model.language_model.embed_tokens"],
    ["lm_head.MatMul.weight_Q8G32", "lm_head"],
    ["visual.blocks.3.mlp.linear_fc1.weight_transposed_Q4", "model.visual.blocks.3.mlp.linear_fc1"],
    ["visual.merger.linear_fc2.weight_transposed_1", "model.visual.merger.linear_fc2"],
    ["visual.deepstack_merger_list.2.norm.weight", "model.visual.deepstack_merger_list.2.norm"],
    ["visual.merger.norm.weight", "model.visual.merger.norm"],
    ["onnx::MatMul_1565", undefined],
    ["val_191", undefined],
    ["visual.rotary_pos_emb.inv_freq", undefined],
    ["encoder.norm.weight", undefined],
  ])("tensor %s", (name, module) => {
    expect(parameterOfTensor(name)).toEqual(module && { module, role: "weight" });
  });

  test.each([
    ["/model/layers.0/attn/q_proj/MatMul_Q4", "model.language_model.layers.0.self_attn.q_proj"],
    ["/visual/blocks.0/attn/qkv/MatMul/MatMulAddFusion", "model.visual.blocks.0.attn.qkv"],
    ["/embed_tokens/Gather_Q4", "model.language_model.embed_tokens"],
    ["/lm_head/MatMul", "lm_head"],
    ["/visual/blocks.0/attn/MatMul", undefined],
    ["/model/layers.0/mlp/act_fn/Mul", undefined],
    ["node_linear_3", undefined],
  ])("node %s", (name, module) => expect(moduleOfNode(name)).toBe(module));

  test("a path counts from a whole word on", () => expect(moduleOfPath("not_lm_head")).toBeUndefined());
});
