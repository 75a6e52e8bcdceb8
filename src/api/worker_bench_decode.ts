import { submitTime } from "../gpu/index.ts";
import { packSampleSettings, type SampleSettings } from "../kernels/index.ts";
import { ENDLESS, FULL, promptOf, type Setting, type Sizes, TOO_LONG, withAdapter } from "./worker_bench_setting.ts";

/** The longest context that is measured, with room for what is generated there. */
export const longestContext = ({ contexts }: Sizes): number => Math.max(...contexts) + 1024;
/** How long one decode measurement runs. */
const DECODE_MILLISECONDS = 1200;

/** Tokens a second of a generation that goes on for this long behind `context` tokens, as a conversation has it. */
async function decodeSpeed(
  { session, config, capacity }: Setting,
  context: number,
  settings: SampleSettings,
  milliseconds: number,
): Promise<number> {
  const prompt = promptOf(context, config);
  session.assumeCached(prompt);
  let end = Number.POSITIVE_INFINITY;
  let picked = 0;
  const { times } = await session.generate(prompt, [], {
    settings,
    maxTokens: capacity - context,
    onTokens: (ids) => {
      if (picked === 0) end = performance.now() + milliseconds;
      picked += ids.length;
      return picked > 4 && performance.now() > end;
    },
  });
  return (1000 * (times.newTokens - 1)) / times.decodeMilliseconds;
}

/** The middle one of three measurements that share the time: other work on the processor slows a single one down. */
async function medianSpeed(
  ...[setting, context, settings, milliseconds]: Parameters<typeof decodeSpeed>
): Promise<number> {
  const speeds: number[] = [];
  for (let i = 0; i < 3; i++) speeds.push(await decodeSpeed(setting, context, settings, milliseconds / 2));
  return speeds.sort((a, b) => a - b)[1]!;
}

export async function measureDecode(setting: Setting): Promise<void> {
  const { config, model, capacity, options, sizes, row } = setting;
  const limit = config.text.vocabSize;
  const duration = Math.min(DECODE_MILLISECONDS, options.capMilliseconds / 4);
  let last = 0;
  for (const context of sizes.contexts.filter((c) => c + 512 <= capacity)) {
    // Four times the context takes at most four times as long.
    if (80 * last > options.capMilliseconds) {
      row({ part: "decode", name: `context ${context}, greedy`, value: 0, unit: "tok/s", note: TOO_LONG });
      continue;
    }
    for (const [name, settings] of Object.entries({ greedy: ENDLESS, "full sampling": { ...ENDLESS, ...FULL } })) {
      // The first run compiles and finds out how many tokens go into a submit.
      await decodeSpeed(setting, context, { ...settings, limit }, duration / 4);
      const value = await medianSpeed(setting, context, { ...settings, limit }, duration);
      last = 1000 / value;
      row({ part: "decode", name: `context ${context}, ${name}`, value, unit: "tok/s" });
    }
    row({
      part: "decode",
      name: `context ${context}, a token on the device`,
      value: await deviceTime(setting, context, { ...ENDLESS, limit }, last > 50 ? 2 : 16),
      unit: "ms",
    });
  }
  await withAdapter(setting, async () => {
    await decodeSpeed(setting, 128, { ...ENDLESS, limit }, duration / 4);
    const value = await medianSpeed(setting, 128, { ...ENDLESS, limit }, duration);
    row({ part: "decode", name: "context 128, greedy, with a LoRA adapter", value, unit: "tok/s" });
    const name = "context 128, a token on the device, with a LoRA adapter";
    row({ part: "decode", name, value: await deviceTime(setting, 128, { ...ENDLESS, limit }, 16), unit: "ms" });
  });
  row({ part: "decode", name: "dispatches a token", value: model.language.decodeProgram(1).dispatches, unit: "count" });
}

/** Milliseconds of a decoded token on the device's clock, `tokens` of them in one submit. */
async function deviceTime(
  { gpu, model }: Setting,
  context: number,
  settings: SampleSettings,
  tokens: number,
): Promise<number> {
  const { state } = model.language;
  const samples: number[] = [];
  for (let i = 0; i < 3; i++) {
    gpu.write(state.settings, packSampleSettings(settings));
    gpu.write(state.positions, new Uint32Array([context, context, context, context]));
    gpu.write(state.control, new Uint32Array([0, 0]));
    const program = model.language.decodeProgram(context + tokens);
    await program.ready();
    samples.push((await submitTime(gpu, program, tokens)) / tokens);
  }
  return samples.sort((a, b) => a - b)[1]!;
}
