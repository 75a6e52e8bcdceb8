import type { Bench, BuiltCase, KernelCase } from "./case.ts";
import { packSampleSettings, type SampleSettings, sample, sampleScratchBytes } from "./sample.ts";

const plain: Omit<SampleSettings, "limit"> = {
  temperature: 1,
  topK: 0,
  topP: 1,
  minP: 0,
  repetitionPenalty: 1,
  presencePenalty: 0,
  seed: 7,
  ends: [],
};

/** The hash of sample.wgsl, word for word. */
function hash(seed: number, step: number, id: number): number {
  let h = (Math.imul(seed, 0x9e3779b9) + Math.imul(step, 0x85ebca6b) + Math.imul(id, 0xc2b2ae35) + 0x27d4eb2f) >>> 0;
  const mix = () => {
    h = Math.imul(h ^ (h >>> 16), 0x7feb352d) >>> 0;
    h = Math.imul(h ^ (h >>> 15), 0x846ca68b) >>> 0;
  };
  mix();
  h = (h ^ (h >>> 16)) >>> 0;
  h = ((h + Math.imul(step, 0x9e3779b9)) ^ seed) >>> 0;
  mix();
  return (h ^ (h >>> 16)) >>> 0;
}

function gumbel(seed: number, step: number, id: number): number {
  return -Math.log(-Math.log(((hash(seed, step, id) >>> 8) + 0.5) / 16777216));
}

/**
 * The draw in float64, in transformers' order. `margin` tells how far the winner is ahead and how clear every cut is:
 * a case is only fair when no rounding of f32 can turn it. @internal
 */
export function referencePick(logits: ArrayLike<number>, seen: ArrayLike<number>, s: SampleSettings, step: number) {
  const l = Array.from({ length: s.limit }, (_, i) => {
    let v = logits[i]!;
    if (seen[i]! & 1) v = v < 0 ? v * s.repetitionPenalty : v / s.repetitionPenalty;
    if (seen[i]! & 2) v -= s.presencePenalty;
    return s.temperature > 0 ? v / s.temperature : v;
  });
  const order = l.map((_, i) => i).sort((a, b) => l[b]! - l[a]! || a - b);
  if (s.temperature <= 0) return { pick: order[0]!, margin: l[order[0]!]! - l[order[1]!]! };
  let kept = s.topK > 0 ? order.slice(0, s.topK) : order;
  let margin = kept.length < order.length ? l[kept.at(-1)!]! - l[order[kept.length]!]! : 1;
  const top = l[order[0]!]!;
  if (s.topP < 1) {
    const total = kept.reduce((sum, i) => sum + Math.exp(l[i]! - top), 0);
    let mass = 0;
    const nucleus: number[] = [];
    for (const i of kept) {
      if (mass >= s.topP) break;
      mass += Math.exp(l[i]! - top) / total;
      nucleus.push(i);
      margin = Math.min(margin, 100 * Math.abs(mass - s.topP));
    }
    kept = nucleus;
  }
  if (s.minP > 0) {
    const cut = top + Math.log(s.minP);
    for (const i of kept) margin = Math.min(margin, Math.abs(l[i]! - cut));
    kept = kept.filter((i) => l[i]! >= cut);
  }
  const noisy = kept.map((i) => l[i]! + gumbel(s.seed, step, i));
  const best = noisy.indexOf(Math.max(...noisy));
  const rest = Math.max(...noisy.filter((_, i) => i !== best), Number.NEGATIVE_INFINITY);
  return { pick: kept[best]!, margin: Math.min(margin, noisy[best]! - rest) };
}

function build(bench: Bench, vocab: number, settings: SampleSettings): BuiltCase {
  const step = 3;
  const s = { ...settings };
  const seen = Uint32Array.from({ length: vocab }, () => (bench.random() < 0.1 ? (bench.random() < 0.5 ? 1 : 3) : 0));
  let spread: Float32Array<ArrayBuffer>;
  let picked: ReturnType<typeof referencePick>;
  do {
    s.seed++;
    // All of them anew: one logit more or less seldom moves the two that lie too close together.
    spread = bench.values(vocab, 8);
    picked = referencePick(spread, seen, s, step);
  } while (picked.margin < 1e-3);
  const control = new Uint32Array([step, 0]);
  const state = {
    settings: bench.upload(packSampleSettings(s)),
    logits: bench.upload(spread),
    seen: bench.upload(seen),
    token: bench.empty(1),
    positions: bench.upload(new Uint32Array([5, 6, 7, 8])),
    control: bench.upload(control),
    ring: bench.empty(16),
    scratch: bench.empty(sampleScratchBytes(vocab) / 4),
  };
  const ended = s.ends.includes(picked.pick) ? 1 : 0;
  const ring = new Float64Array(16);
  ring[step] = picked.pick;
  return {
    record: (program) => sample(program, state, vocab),
    outputs: [
      { name: "token", slice: state.token, expected: Float64Array.of(picked.pick), type: "u32" },
      { name: "positions", slice: state.positions, expected: Float64Array.of(6, 7, 8, 9), type: "u32" },
      { name: "control", slice: state.control, expected: Float64Array.of(step + 1, ended), type: "u32" },
      { name: "ring", slice: state.ring, expected: ring, type: "u32" },
    ],
  };
}

/** Steps 0 to `steps` of one generation from the same logits: each step draws with numbers of its own. */
function buildRow(bench: Bench, vocab: number, steps: number): BuiltCase {
  const s = { ...plain, limit: vocab };
  const none = new Uint32Array(vocab);
  let logits: Float32Array<ArrayBuffer>;
  let picks: ReturnType<typeof referencePick>[];
  do {
    s.seed++;
    logits = bench.values(vocab, 2);
    picks = Array.from({ length: steps }, (_, step) => referencePick(logits, none, s, step));
  } while (picks.some(({ margin }) => margin < 1e-5));
  const state = {
    settings: bench.upload(packSampleSettings(s)),
    logits: bench.upload(logits),
    seen: bench.upload(none),
    token: bench.empty(1),
    positions: bench.upload(new Uint32Array(4)),
    control: bench.upload(new Uint32Array(2)),
    ring: bench.empty(steps),
    scratch: bench.empty(sampleScratchBytes(vocab) / 4),
  };
  return {
    record: (program) => {
      for (let i = 0; i < steps; i++) sample(program, state, vocab);
    },
    outputs: [{ name: "ring", slice: state.ring, expected: Float64Array.from(picks, ({ pick }) => pick), type: "u32" }],
  };
}

const cases: [name: string, vocab: number, settings: Partial<SampleSettings>][] = [
  ["greedy", 4032, { temperature: 0 }],
  ["greedy, penalties", 1000, { temperature: 0, repetitionPenalty: 1.3, presencePenalty: 1.5 }],
  ["greedy, ids cut off", 1000, { temperature: 0, limit: 600 }],
  ["temperature 0.7", 4032, { temperature: 0.7 }],
  ["top-k 20", 4032, { topK: 20 }],
  ["top-k 1", 500, { topK: 1, temperature: 1.5 }],
  ["top-p 0.8", 4032, { topP: 0.8 }],
  ["top-k 20, top-p 0.8, temperature 0.7", 20000, { temperature: 0.7, topK: 20, topP: 0.8 }],
  ["min-p 0.1", 4032, { minP: 0.1, temperature: 2 }],
  [
    "everything",
    5000,
    { temperature: 0.9, topK: 50, topP: 0.95, minP: 0.02, repetitionPenalty: 1.1, presencePenalty: 0.5 },
  ],
  // Enough segments for top-k to find a bound among their maxima, and more than that.
  ["top-k 20, 30 segments", 30000, { topK: 20 }],
  ["top-k 40, 30 segments", 30000, { topK: 40, topP: 0.9 }],
  ["top-p 0.95, 30 segments", 30000, { topP: 0.95, temperature: 0.5 }],
  ["one token", 1, { topK: 5, topP: 0.5, minP: 0.5 }],
  ["ends the turn", 300, { temperature: 0, ends: Array.from({ length: 8 }, (_, i) => i) }],
];

function caseOf(name: string, vocab: number, draws: number, build: KernelCase["build"]): KernelCase {
  const cost = { bytes: vocab * 8 * draws, flops: vocab * 4 * draws };
  return { kernel: "sample", shape: `${name}, ${vocab} tokens`, tolerance: 0, ...cost, build };
}

export const sampleCases: KernelCase[] = [
  ...cases.map(([name, vocab, overrides]) =>
    caseOf(name, vocab, 1, (bench) => build(bench, vocab, { ...plain, limit: vocab, ...overrides })),
  ),
  caseOf("100 draws", 40, 100, (bench) => buildRow(bench, 40, 100)),
];
