import { findManifest, longestContext, measureRoom, planMemory, type Room } from "../engine/index.ts";
import { TabTuneError } from "../errors.ts";
import type { WeightSlot } from "../formats/index.ts";
import { Gpu } from "../gpu/index.ts";
import { gpuWeightBytes, loraModules, loraTrainingBytes, parseConfig, type Qwen3VLConfig } from "../models/index.ts";
import { DEFAULT_SETTINGS, optimizerBytes } from "../train/index.ts";
import type { MemoryVerdict, MemoryWish } from "./protocol.ts";

/** What a verdict is about: a planned import or a stored model. */
interface Judged {
  config: Qwen3VLConfig;
  slots: readonly WeightSlot[];
}

/** Tokens of a micro-batch in a training run: two examples with a small picture and a few sentences each. */
const TRAINED_TOKENS = 1024;
/** Contexts that are offered, the longest first. */
const CONTEXTS = Array.from({ length: 11 }, (_, i) => 262144 >> i);
/** Ranks that are offered, the largest first. */
const RANKS = [128, 64, 32, 16, 8, 4];
/** Beyond what was asked for, the test goes on to this, to say what else would fit. */
const CURIOUS_BYTES = 8 * 2 ** 30;
/** A software adapter's memory is the computer's: it is not filled for a test. */
const SOFTWARE_BYTES = 512 << 20;

/** The last plan of each import, by id. */
const planned = new Map<string, Judged>();

export function rememberPlan(id: string, config: unknown, slots: readonly WeightSlot[]): void {
  planned.set(id, { config: parseConfig(config), slots });
}

async function judgedOf(id: string): Promise<Judged> {
  const known = planned.get(id);
  if (known) return known;
  const manifest = await findManifest(id);
  if (!manifest) throw new TabTuneError("NotFound", `There is no model ${id}. Plan its import first.`);
  return { config: parseConfig(manifest.config), slots: manifest.slots };
}

/** GPU bytes by purpose of chatting with a context, everything but the weights. */
function chatBytes(gpu: Gpu, config: Qwen3VLConfig, contextLength: number) {
  const { capacity, cacheBytes, activationBytes, visionBytes } = planMemory(gpu, config, { contextLength });
  return { capacity, cacheBytes, activationBytes, visionBytes, total: cacheBytes + activationBytes + visionBytes };
}

/** GPU bytes of a LoRA run beside the weights: what it allocates, and the short context that its evaluations answer in. */
function trainingBytes(gpu: Gpu, config: Qwen3VLConfig, rank: number): number {
  const { lora, optimizer, dropout } = DEFAULT_SETTINGS;
  const adapted = loraModules(config, lora.parts).map(({ path }) => ({ path, r: rank, scale: 1 }));
  const options = { maxTokens: TRAINED_TOKENS, maxPatches: 0, dropout };
  const { counts, ...bytes } = loraTrainingBytes(config, adapted, options);
  const own = Object.values(bytes).reduce((a, b) => a + b, 0) + optimizerBytes(optimizer, counts);
  return own + chatBytes(gpu, config, TRAINED_TOKENS).total;
}

/** What fits, given that so many bytes can be had. @internal */
export function judge(gpu: Gpu, { config, slots }: Judged, wish: MemoryWish, room: Room | undefined): MemoryVerdict {
  const weights = gpuWeightBytes(slots);
  const longest = longestContext(gpu, config);
  const chat = chatBytes(gpu, config, wish.contextLength);
  const training = trainingBytes(gpu, config, wish.rank);
  const fits = (bytes: number) => (!room ? undefined : bytes <= room.bytes ? true : room.isAll ? false : undefined);
  const contexts = CONTEXTS.filter((context) => context <= longest);
  const best = room && contexts.find((context) => weights + chatBytes(gpu, config, context).total <= room.bytes);
  const bestRank = room && (RANKS.find((rank) => weights + trainingBytes(gpu, config, rank) <= room.bytes) ?? 0);
  return {
    weights,
    contextLength: chat.capacity,
    longestContext: longest,
    cache: chat.cacheBytes,
    activations: chat.activationBytes,
    vision: chat.visionBytes,
    training,
    largestBuffer: gpu.maxBytes,
    ...(room ? { measured: room.bytes, isAll: room.isAll } : {}),
    ...defined("chatFits", fits(weights + chat.total)),
    ...defined("trainingFits", fits(weights + training)),
    ...defined("bestContext", best),
    ...defined("bestRank", bestRank),
  };
}

function defined<K extends string, V>(key: K, value: V | undefined): { [P in K]?: V } {
  return (value === undefined ? {} : { [key]: value }) as { [P in K]?: V };
}

/**
 * Whether a planned or stored model fits this GPU, by count and by trying: memory is taken on a device of its own and given back.
 * What this page already holds counts as free, since a model makes room for the next one. Throws `NotFound`, `NoWebGPU`, `Cancelled`.
 */
export async function memoryVerdict(
  gpu: Gpu,
  id: string,
  wish: MemoryWish,
  signal: AbortSignal,
): Promise<MemoryVerdict> {
  const judged = await judgedOf(id);
  const counted = judge(gpu, judged, wish, undefined);
  const { weights, cache, activations, vision, training } = counted;
  const wanted = weights + Math.max(cache + activations + vision, training);
  const held = gpu.ledger.total;
  const most = Math.min(Math.max(wanted, CURIOUS_BYTES), gpu.isSoftware ? SOFTWARE_BYTES : Number.POSITIVE_INFINITY);
  const test = await Gpu.open();
  try {
    const { bytes, isAll } = await measureRoom(test, Math.max(0, most - held), signal);
    return judge(gpu, judged, wish, { bytes: bytes + held, isAll });
  } finally {
    test.close();
  }
}
