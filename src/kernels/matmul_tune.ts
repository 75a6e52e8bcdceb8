import { throwIfCancelled } from "../errors.ts";
import { Program, submitTime } from "../gpu/index.ts";
import { canGlu, matmul, VEC_SHAPES, vecChoice } from "./matmul.ts";
import { canTile, TILE_SHAPES, tileChoice } from "./matmul_tile.ts";
import type { Matrix } from "./matrix.ts";
import type { Gpu, Slice } from "./source.ts";

/** Matrices of one shape, one of each layer, in whichever schemes, and the rows that they are multiplied with. */
export interface TuneQuestion {
  matrices: Matrix[];
  m: number;
  /** What else the product does where it has one row: as `MatmulOptions`, with any gains. */
  glu?: boolean;
  norm?: boolean;
  accumulate?: boolean;
}

/** The product that a question is about; any operand will do. */
function record(program: Program, question: TuneQuestion, weight: Matrix, x: Slice, y: Slice): void {
  const { m, norm, glu = false, accumulate = false } = question;
  matmul(program, { x, y, m, weight, glu, accumulate, ...(norm ? { norm: { gain: x, eps: 1e-6 } } : {}) });
}

/** Matrices that take turns while timing, so that no cache holds what is read next. */
const TURNS = 4;
/** A measurement goes on until it has taken this long; short, since there are many. */
const LEAST_MILLISECONDS = 3;
/** A choice computes wrongly when its result is further than this from the first one's (relative L2). */
const TOLERANCE = { f32: 1e-4, f16: 5e-3 };

/** The choice that a question is about, and from how many. */
function choiceOf({ matrices, m, glu }: TuneQuestion): { name: string; count: number } {
  const weight = matrices[0]!;
  return m === 1
    ? { name: vecChoice(weight, glu), count: VEC_SHAPES.length }
    : { name: tileChoice(weight, m), count: TILE_SHAPES.length };
}

/** What has no answer yet. */
function unanswered(gpu: Gpu, questions: readonly TuneQuestion[]): TuneQuestion[] {
  return questions.flatMap(alike).filter((question) => {
    const weight = question.matrices[0];
    return weight && !(question.glu && !canGlu(weight)) && !gpu.choices.has(choiceOf(question).name);
  });
}

/** Whether a device has what a choice runs on. Where there are matrix units nothing else comes near them. */
function isCandidate(gpu: Gpu, { m }: TuneQuestion, choice: number): boolean {
  const shape = m === 1 ? undefined : TILE_SHAPES[choice]!;
  return !shape || (canTile(gpu, shape) && !(gpu.variants.matrix && !shape.subgroups));
}

/** Begins to compile what `tuneMatmul` will measure: most of its time would else go into that. False where nothing is left to measure. */
export function compileMatmul(gpu: Gpu, questions: readonly TuneQuestion[]): boolean {
  const open = unanswered(gpu, questions);
  for (const question of open) {
    const { m } = question;
    const weight = question.matrices[0]!;
    const { name, count } = choiceOf(question);
    const operand = gpu.storage("tuning", "operand", 4 * m * Math.max(weight.rows, weight.cols));
    const result = gpu.storage("tuning", "result", 4 * m * weight.rows);
    for (let choice = 0; choice < count; choice++) {
      if (!isCandidate(gpu, question, choice)) continue;
      gpu.choices.set(name, choice);
      const program = new Program(gpu, "tuning");
      record(program, question, weight, operand, result);
      program.free();
    }
    gpu.choices.delete(name);
    gpu.free(operand);
    gpu.free(result);
  }
  return open.length > 0;
}

/**
 * Finds out which way of running matrix products is fastest on this device, for questions that have no answer yet, and leaves the
 * answers in `gpu.choices`. Every way is compared with the default's result first. Questions that the time does not suffice for keep
 * the default.
 */
export async function tuneMatmul(
  gpu: Gpu,
  questions: readonly TuneQuestion[],
  options: { milliseconds: number; signal?: AbortSignal },
): Promise<void> {
  const end = performance.now() + options.milliseconds;
  for (const question of unanswered(gpu, questions)) {
    if (performance.now() > end) return;
    const { name, count } = choiceOf(question);
    const best = await fastest(gpu, question, name, count, options.signal);
    if (best === undefined) gpu.choices.delete(name);
    else gpu.choices.set(name, best);
  }
}

/** The question for each scheme of its matrices: a checkpoint may keep some layers in 16 bits. */
function alike(question: TuneQuestion): TuneQuestion[] {
  const schemes = new Set(question.matrices.map(({ scheme }) => scheme));
  return [...schemes].map((scheme) => {
    return { ...question, matrices: question.matrices.filter((matrix) => matrix.scheme === scheme) };
  });
}

async function fastest(
  gpu: Gpu,
  question: TuneQuestion,
  name: string,
  count: number,
  signal: AbortSignal | undefined,
): Promise<number | undefined> {
  const { matrices, m } = question;
  const { rows, cols } = matrices[0]!;
  // One row of waves, begun elsewhere in each row: making every element anew would take longer than the measuring.
  const wave = Float32Array.from({ length: cols + m }, (_, i) => Math.sin(i * 12.9898));
  const data = new Float32Array(m * cols);
  for (let row = 0; row < m; row++) data.set(wave.subarray(row, row + cols), row * cols);
  const x = gpu.upload("tuning", "operand", data);
  const y = gpu.storage("tuning", "result", m * rows * 4);
  const sample = Math.min(m * rows, 4096);
  const run = async (program: Program, repeats: number) => {
    await program.ready();
    return await submitTime(gpu, program, repeats);
  };
  const programOf = (own: readonly Matrix[]) => {
    const program = new Program(gpu, "tuning");
    for (const weight of own) record(program, question, weight, x, y);
    return program.seal();
  };
  const result = async () => {
    const program = programOf(matrices.slice(0, 1));
    if (question.accumulate) gpu.write(y, new Float32Array(sample));
    await run(program, 1);
    program.free();
    return await gpu.readFloats(y, sample);
  };
  try {
    gpu.choices.set(name, 0);
    if (m > 1) await learnPace(gpu, () => programOf(matrices.slice(0, TURNS)), run);
    const expected = await result();
    let best: number | undefined;
    let least = Number.POSITIVE_INFINITY;
    for (let choice = 0; choice < count; choice++) {
      throwIfCancelled(signal);
      gpu.choices.set(name, choice);
      if (!isCandidate(gpu, question, choice)) continue;
      const shape = m > 1 ? TILE_SHAPES[choice] : undefined;
      const tolerance = shape?.subgroups || shape?.half ? TOLERANCE.f16 : TOLERANCE.f32;
      if (!(distance(await result(), expected) < tolerance)) continue;
      const program = programOf(matrices.slice(0, TURNS));
      let repeats = 1;
      let time = await run(program, repeats);
      while (time < LEAST_MILLISECONDS && repeats < 1024) {
        repeats *= 2;
        time = await run(program, repeats);
      }
      time = Math.min(time, await run(program, repeats)) / repeats;
      program.free();
      if (time < least) {
        least = time;
        best = choice;
      }
    }
    return best;
  } finally {
    gpu.free(x);
    gpu.free(y);
  }
}

/**
 * Runs a program until the governor knows what this device does at a time. What it assumes of a device at first cuts every product into
 * 64 rows, and the best tile for those would win.
 */
async function learnPace(
  { governor }: Gpu,
  record: () => Program,
  run: (program: Program, repeats: number) => Promise<number>,
): Promise<void> {
  for (let budget = 0; budget < governor.budget; ) {
    budget = governor.budget;
    const program = record();
    const isCut = program.isCut;
    governor.learn(program.work, await run(program, 1));
    program.free();
    if (!isCut) return;
  }
}

/** ‖a−b‖ / ‖b‖. */
function distance(a: Float32Array, b: Float32Array): number {
  let difference = 0;
  let norm = 0;
  for (let i = 0; i < b.length; i++) {
    difference += (a[i]! - b[i]!) ** 2;
    norm += b[i]! ** 2;
  }
  return Math.sqrt(difference / (norm || 1));
}
