import { describe, expect, it } from "vitest";
import { attentionReference } from "./attention.cases.ts";
import { addUpHeads, attentionBackwardReference } from "./attention_backward.cases.ts";
import { crossEntropyBackwardReference, crossEntropyReference } from "./cross_entropy.cases.ts";
import { geluBackwardReference, geluReference } from "./gelu.cases.ts";
import { gemmReference } from "./gemm.cases.ts";
import { layerNormBackwardReference, layerNormReference } from "./layer_norm.cases.ts";
import { matmulBackwardReference } from "./matmul_backward.cases.ts";
import { rmsNormBackwardReference, rmsNormReference } from "./rms_norm.cases.ts";
import { ropeBackwardReference, ropeInputs, ropeReference } from "./rope.cases.ts";
import { swigluBackwardReference, swigluReference } from "./swiglu.cases.ts";

/**
 * The references that the backward kernels are compared with, against central differences of the references that the
 * forward kernels are compared with. All in float64.
 */

let state = 1;
const random = () => {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
  return state / 2 ** 32;
};
const values = (count: number, scale = 1) => Float64Array.from({ length: count }, () => (2 * random() - 1) * scale);
const dot = (a: Float64Array, b: Float64Array) => a.reduce((sum, v, i) => sum + v * b[i]!, 0);

/**
 * Compares `gradient` with that of `loss` by `x`. Richardson's extrapolation of two central differences has an error of h⁴, and
 * rounding adds 1e-16 / h: 1e-7 is far above both and far below any mistake in a formula.
 */
function expectGradient(loss: (x: Float64Array) => number, x: Float64Array, gradient: Float64Array): void {
  const at = (i: number, by: number) => {
    const moved = x.slice();
    moved[i]! += by;
    return loss(moved);
  };
  const central = (i: number, h: number) => (at(i, h) - at(i, -h)) / (2 * h);
  const h = 1e-3;
  const found = x.map((_, i) => (4 * central(i, h / 2) - central(i, h)) / 3);
  const error = Math.sqrt(found.reduce((sum, v, i) => sum + (v - gradient[i]!) ** 2, 0) / dot(found, found));
  expect(dot(found, found)).toBeGreaterThan(0);
  expect(error).toBeLessThan(1e-7);
}

describe("the reference gradients are those of the reference functions", () => {
  it("matmul_backward", () => {
    const [m, n, k] = [3, 5, 4];
    const [x, w, dy] = [values(m * k), values(n * k), values(m * n)];
    const loss = (v: Float64Array) => dot(gemmReference(v, w, { m, n, k, form: "nt" }), dy);
    expectGradient(loss, x, matmulBackwardReference(dy, w, { m, n, k }));
  });

  it("rms_norm_backward", () => {
    const c = 6;
    const [x, w, dy] = [values(3 * c, 2), values(c), values(3 * c)];
    const loss = (v: Float64Array) => dot(rmsNormReference(v, w, c, 0.01), dy);
    expectGradient(loss, x, rmsNormBackwardReference(x, w, dy, c, 0.01));
  });

  it("layer_norm_backward", () => {
    const c = 6;
    const [x, w, b, dy] = [values(3 * c, 2), values(c), values(c), values(3 * c)];
    const loss = (v: Float64Array) => dot(layerNormReference(v, w, b, c, 0.01), dy);
    expectGradient(loss, x, layerNormBackwardReference(x, w, dy, c, 0.01));
  });

  it("swiglu_backward", () => {
    const [gu, dy] = [values(2 * 2 * 5, 3), values(2 * 5)];
    const loss = (v: Float64Array) => dot(swigluReference(v, 5), dy);
    expectGradient(loss, gu, swigluBackwardReference(gu, dy, 5));
  });

  it.each(["gelu_tanh", "gelu_erf"] as const)("%s_backward", (act) => {
    const [z, dy] = [values(40, 4), values(40)];
    const loss = (v: Float64Array) => dot(geluReference(v, act), dy);
    expectGradient(loss, z, geluBackwardReference(z, dy, act));
  });

  it.each([
    { tokens: 3, heads: 4, kvHeads: 2, d: 16, cacheType: "f32" as const, sections: [4, 2, 2] as const },
    { tokens: 3, heads: 2, kvHeads: 2, d: 12, cacheType: "f32" as const },
  ])("rope_backward, sections $sections", (shape) => {
    const s = ropeInputs(shape, random);
    const { q, k, v } = ropeReference(s, values(s.tokens * (s.heads + 2 * s.kvHeads) * s.d));
    const grads = { q: values(q.length), k: values(k.length), v: values(v.length) };
    const qkv = values(s.tokens * (s.heads + 2 * s.kvHeads) * s.d);
    const loss = (x: Float64Array) => {
      const y = ropeReference(s, x);
      return dot(y.q, grads.q) + dot(y.k, grads.k) + dot(y.v, grads.v);
    };
    expectGradient(loss, qkv, ropeBackwardReference(s, qkv, grads));
  });

  it.each([
    { tokens: 5, heads: 4, kvHeads: 2, d: 4 },
    { tokens: 6, heads: 2, kvHeads: 1, d: 4, segments: [4, 2], packed: true },
    { tokens: 6, heads: 2, kvHeads: 2, d: 4, segments: [2, 4] },
  ])("attention_backward, $tokens tokens", (s) => {
    const size = s.kvHeads * s.tokens * s.d;
    const [q, k, v] = [values(s.tokens * s.heads * s.d, 2), values(size, 2), values(size)];
    const g = values(q.length);
    const { dq, dk, dv } = attentionBackwardReference(s, q, k, v, g, s.tokens);
    expectGradient((x) => dot(attentionReference(s, x, k, v, s.tokens).o, g), q, dq);
    expectGradient((x) => dot(attentionReference(s, q, x, v, s.tokens).o, g), k, addUpHeads(dk, s));
    expectGradient((x) => dot(attentionReference(s, q, k, x, s.tokens).o, g), v, addUpHeads(dv, s));
  });

  it("cross_entropy", () => {
    const [z, labels, weights] = [values(3 * 7, 3), [2, 0, 6], values(3)];
    const loss = (x: Float64Array) => dot(crossEntropyReference(x, labels, 7), weights);
    expectGradient(loss, z, crossEntropyBackwardReference(z, labels, weights, 7));
  });

  it("the products of a LoRA pair", () => {
    // y = s · (x Aᵀ) Bᵀ, and the four products of gemm.cases.ts that are its gradients.
    const [m, n, k, r, scale] = [4, 5, 6, 2, 1.5];
    const [x, a, b, dy] = [values(m * k), values(r * k), values(n * r), values(m * n)];
    const u = (x: Float64Array, a: Float64Array) => gemmReference(x, a, { m, n: r, k, form: "nt" });
    const loss = (x: Float64Array, a: Float64Array, b: Float64Array) =>
      dot(gemmReference(u(x, a), b, { m, n, k: r, form: "nt", scale }), dy);
    const du = gemmReference(dy, b, { m, n: r, k: n, form: "nn", scale });
    expectGradient((v) => loss(x, a, v), b, gemmReference(dy, u(x, a), { m: n, n: r, k: m, form: "tn", scale }));
    expectGradient((v) => loss(x, v, b), a, gemmReference(du, x, { m: r, n: k, k: m, form: "tn" }));
    expectGradient((v) => loss(v, a, b), x, gemmReference(du, a, { m, n: k, k: r, form: "nn" }));
  });
});
