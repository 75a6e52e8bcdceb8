import type { Engine } from "../engine/index.ts";
import {
  GpuAdapter,
  LOGIT_ROWS,
  LoraTraining,
  loraModules,
  loraTrainingBytes,
  prepareImage,
  ropePositions,
  type TrainExample,
  type TrainImage,
} from "../models/index.ts";
import { decodeImage } from "../processor/index.ts";
import { Optimizer, optimizerBytes } from "../train/index.ts";
import type { DebugTrainRequest, DebugTrainResult } from "./debug_protocol.ts";

/** A short training run from given factors on given tokens, with everything that a reference could be compared with. */
export async function debugTrain(engine: Engine, request: DebugTrainRequest): Promise<DebugTrainResult> {
  const { gpu, model, config, chat } = engine;
  const scale = request.alpha / request.r;
  const adapted = loraModules(config, request.parts).map(({ path }) => ({ path, r: request.r, scale }));
  const trainsTower = request.parts.visionAttention || request.parts.visionMlp || request.parts.mergers;
  const examples: TrainExample[] = [];
  const features: Awaited<ReturnType<typeof model.vision.encode>>[] = [];
  const pictures: { pixels: Float32Array<ArrayBuffer>; grid: readonly [number, number, number] }[][] = [];
  for (const { ids, labels, urls } of request.examples) {
    const seen = [];
    for (const url of urls) {
      seen.push(prepareImage(await decodeImage(await (await fetch(url)).blob(), url), chat.processor));
    }
    pictures.push(seen);
    const images: TrainImage[] = [];
    for (const { pixels, grid } of seen) {
      if (trainsTower) images.push({ pixels, grid });
      else {
        features.push(await model.vision.encode(pixels, grid));
        images.push({ grid, features: features.at(-1)! });
      }
    }
    examples.push({ ids, labels, images });
  }

  const options = { maxTokens: request.maxTokens, maxPatches: trainsTower ? 1024 : 0, dropout: request.dropout };
  const { counts, largest: _, ...plan } = loraTrainingBytes(config, adapted, options);
  const planned = Object.values(plan).reduce((a, b) => a + b, 0) + optimizerBytes(request.optimizer, counts);
  // What the pictures left would be given back while the rest is allocated.
  model.vision.release();
  const before = gpu.ledger.total;
  const adapter = await GpuAdapter.create(gpu, config, adapted);
  const training = await LoraTraining.create(gpu, config, model.weights, adapter, options);
  const optimizer = await Optimizer.create(gpu, request.optimizer, training.buffers);
  const allocated = gpu.ledger.total - before;
  const result: DebugTrainResult = {
    planned,
    allocated,
    losses: [],
    norms: [],
    gradients: {},
    adapter: {},
    logits: [],
  };
  const logits = async () => {
    if (!request.withLogits) return;
    result.logits.push(await promptLogits(engine, examples[0]!.ids, pictures[0]!));
  };
  try {
    for (const tensor of adapter.tensors) adapter.write(tensor, request.values[tensor.name]!);
    await logits();
    for (const { batches, rate, seed } of request.steps) {
      const tokens = batches.flat().reduce((sum, i) => {
        return sum + examples[i]!.labels.slice(1).filter((label) => label !== -100).length;
      }, 0);
      let loss = 0;
      for (const batch of batches) {
        const members = batch.map((i) => examples[i]!);
        loss += (await training.accumulate(members, { weight: 1 / tokens, seed })).loss;
      }
      result.losses.push(loss / tokens);
      if (result.losses.length === 1) {
        for (const { name, shape, buffer, offset } of training.tensors) {
          const { gradients } = training.buffers[buffer]!;
          result.gradients[name] = await gpu.readFloats(gradients, shape[0] * shape[1], offset * 4);
        }
      }
      result.norms.push((await optimizer.step({ rate, ...request.step })).norm);
    }
    for (const tensor of adapter.tensors) result.adapter[tensor.name] = await adapter.read(tensor);
    await model.wear(adapter);
    await logits();
    await model.wear(undefined);
    await logits();
    return result;
  } finally {
    await model.wear(undefined);
    engine.session.reset();
    for (const part of [optimizer, training, adapter]) part.free();
    for (const { features: slices } of features) for (const slice of slices) gpu.free(slice);
  }
}

/** Logits of every token of a prompt, through the same passes that chat uses. */
async function promptLogits(
  { gpu, model, config, session }: Engine,
  ids: readonly number[],
  pictures: readonly { pixels: Float32Array<ArrayBuffer>; grid: readonly [number, number, number] }[],
): Promise<Float32Array<ArrayBuffer>> {
  const grids = pictures.map(({ grid }) => grid);
  const { positions } = ropePositions(ids, grids, config);
  const quads = new Uint32Array(4 * ids.length);
  for (let i = 0; i < ids.length; i++) quads.set([...positions.subarray(3 * i, 3 * i + 3), i], 4 * i);
  const pads = [...ids.keys()].filter((i) => ids[i] === config.imageTokenId);
  const images = [];
  for (const { pixels, grid } of pictures) {
    const features = await model.vision.encode(pixels, grid);
    images.push({ features, first: 0, at: Uint32Array.from(pads.splice(0, features.tokens)) });
  }
  const { vocabSize } = config.text;
  const blocks = Array.from({ length: Math.ceil(ids.length / LOGIT_ROWS) }, () =>
    gpu.storage("debug", "logits", LOGIT_ROWS * vocabSize * 4),
  );
  session.reset();
  try {
    const chunk = { ids: Uint32Array.from(ids), positions: quads, images };
    await model.language.prefill(chunk, { last: false, logits: blocks });
    const out = new Float32Array(ids.length * vocabSize);
    for (const [i, block] of blocks.entries()) {
      const rows = Math.min(LOGIT_ROWS, ids.length - i * LOGIT_ROWS);
      out.set(await gpu.readFloats(block, rows * vocabSize), i * LOGIT_ROWS * vocabSize);
    }
    return out;
  } finally {
    for (const block of blocks) gpu.free(block);
    for (const { features } of images) for (const slice of features.features) gpu.free(slice);
  }
}
