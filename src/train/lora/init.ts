import type { LoraModule } from "../../models/index.ts";
import { randomFrom } from "../random.ts";

/** Trained numbers of LoRA pairs of rank r: r · (in + out) for each module. */
export function countTrainable(modules: readonly LoraModule[], r: number): number {
  return modules.reduce((sum, module) => sum + r * (module.in + module.out), 0);
}

/** The line that users of Unsloth know; there too the adapter's own numbers are part of the whole. */
export function trainableLine(trainable: number, base: number): string {
  const all = trainable + base;
  const count = (n: number) => n.toLocaleString("en-US");
  return `Trainable parameters = ${count(trainable)} of ${count(all)} (${((100 * trainable) / all).toFixed(2)}% trained)`;
}

/**
 * The values a factor starts with: A uniform in ±1/√in (Kaiming's with a = √5, as PEFT does it), B zero, so that the adapter changes
 * nothing at first. Each tensor has a random stream of its own from seed and name. Source: qwen3-vl.md §9.3.
 * @param name ends in lora_A.weight or lora_B.weight; @param shape [r, in] or [out, r]
 */
export function initialValues(name: string, shape: readonly [number, number], seed: number): Float32Array<ArrayBuffer> {
  const values = new Float32Array(shape[0] * shape[1]);
  if (name.endsWith("lora_B.weight")) return values;
  const random = randomFrom(seed, hashOf(name));
  const bound = 1 / Math.sqrt(shape[1]);
  for (let i = 0; i < values.length; i++) values[i] = bound * (2 * random() - 1);
  return values;
}

/** FNV-1a, 32 bits. */
function hashOf(text: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  return hash >>> 0;
}
