import type { Engine } from "../engine/index.ts";
import { isError } from "../errors.ts";
import { prepareImage } from "../models/index.ts";
import { decodeImage } from "../processor/index.ts";
import type { DebugEncode, DebugEncoded } from "./debug_protocol.ts";

/** The tower alone on pictures one after the other, as a chat or a run gives them to it. */
export async function debugEncode({ gpu, model, chat }: Engine, pictures: DebugEncode[]): Promise<DebugEncoded[]> {
  const results: DebugEncoded[] = [];
  const lists: unknown[] = [];
  const held = () => gpu.ledger.byOwner()["vision workspace"] ?? 0;
  for (const { url, fresh, cancel } of pictures) {
    if (fresh) model.vision.release();
    const { pixels, grid } = prepareImage(await decodeImage(await (await fetch(url)).blob(), url), chat.processor);
    const abort = new AbortController();
    let list = -1;
    const options = {
      signal: abort.signal,
      onProgress: () => cancel && abort.abort(),
      inspect: async (program: unknown) => {
        if (!lists.includes(program)) lists.push(program);
        list = lists.indexOf(program);
      },
    };
    const encoded = await model.vision.encode(pixels, grid, options).catch((error: unknown) => {
      if (!isError(error, "Cancelled")) throw error;
    });
    const features: DebugEncoded["features"] = [];
    for (const slice of encoded?.features ?? []) {
      features.push(new Uint32Array(await gpu.read(slice)));
      gpu.free(slice);
    }
    results.push({ features, list, kept: held(), left: 0 });
  }
  model.vision.release();
  return results.map((result) => ({ ...result, left: held() }));
}
