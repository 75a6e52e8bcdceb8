import type { Gpu } from "../../gpu/index.ts";
import type { Grid, ImageFeatures } from "../../models/index.ts";

/** A picture as an example shows it: equal keys mean equal features. */
export interface FeatureRequest {
  /** Model, content and size. */
  key: string;
  grid: Grid;
  /** [patches, channels·temporal·patch²] f32, made only when the tower must run. */
  pixels(): Promise<Float32Array<ArrayBuffer>>;
}

/** Names what the tower of one model makes of a picture at one size. */
export function featureKey(
  modelId: string,
  image: { pictureId: string; resizedWidth: number; resizedHeight: number },
): string {
  return `${modelId}/${image.pictureId}@${image.resizedWidth}x${image.resizedHeight}`;
}

/** Whose features these are; undefined for a key that `featureKey` has not made. */
export function ownerOfFeatures(key: string): { modelId: string; pictureId: string } | undefined {
  const match = /^(.+)\/([^/]+)@\d+x\d+$/.exec(key);
  return match ? { modelId: match[1]!, pictureId: match[2]! } : undefined;
}

/** Where features lie when the GPU keeps no room for them. Losing them costs time, nothing else. */
export interface FeatureStore {
  get(key: string): Promise<Float32Array<ArrayBuffer>[] | undefined>;
  put(key: string, features: Float32Array<ArrayBuffer>[]): Promise<void>;
}

type Encode = (
  pixels: Float32Array<ArrayBuffer>,
  grid: Grid,
  options: { signal?: AbortSignal },
) => Promise<ImageFeatures>;

/**
 * What a frozen tower made of the pictures of a data set. Each is encoded once: it stays on the GPU while the budget lasts, then in
 * the store, so that later epochs skip the tower.
 */
export class PictureFeatures {
  #gpu: Gpu;
  #encode: Encode;
  #store: FeatureStore;
  #budget: number;
  #patchesPerToken: number;
  /** Least recently used first. */
  #held = new Map<string, ImageFeatures>();
  #bytes = 0;

  /**
   * @param budget bytes of GPU memory; what one call of `take` needs is kept even above it
   * @param mergeSize patches along each side of a token
   */
  constructor(
    gpu: Gpu,
    encode: Encode,
    store: FeatureStore,
    { budget, mergeSize }: { budget: number; mergeSize: number },
  ) {
    this.#gpu = gpu;
    this.#encode = encode;
    this.#store = store;
    this.#budget = budget;
    this.#patchesPerToken = mergeSize ** 2;
  }

  /**
   * Features in the order of the requests, valid until the next call.
   * Throws `OutOfMemory`, `Cancelled`, `DeviceLost`, and what `pixels` throws.
   */
  async take(requests: readonly FeatureRequest[], signal?: AbortSignal): Promise<ImageFeatures[]> {
    const needed = new Set(requests.map(({ key }) => key));
    const taken: ImageFeatures[] = [];
    for (const request of requests) {
      let features = this.#held.get(request.key);
      if (features) this.#held.delete(request.key);
      else {
        features = await this.#bring(request, signal);
        this.#bytes += features.bytes;
      }
      this.#held.set(request.key, features);
      taken.push(features);
      this.#evict(needed);
    }
    return taken;
  }

  async #bring({ key, grid, pixels }: FeatureRequest, signal?: AbortSignal): Promise<ImageFeatures> {
    const stored = await this.#store.get(key).catch(() => undefined);
    if (stored) return await this.#upload(stored, grid);
    const features = await this.#encode(await pixels(), grid, signal ? { signal } : {});
    // On the GPU they may not stay; a store that is full or broken only means that the tower runs again.
    const copies: Float32Array<ArrayBuffer>[] = [];
    for (const slice of features.features) copies.push(await this.#gpu.readFloats(slice));
    await this.#store.put(key, copies).catch(() => undefined);
    return features;
  }

  async #upload(stored: Float32Array<ArrayBuffer>[], grid: Grid): Promise<ImageFeatures> {
    const features = await this.#gpu.allocating("features of a picture", () =>
      stored.map((data) => this.#gpu.upload("image features", "image features", data)),
    );
    const tokens = (grid[0] * grid[1] * grid[2]) / this.#patchesPerToken;
    return { tokens, features, bytes: features.reduce((sum, f) => sum + f.size, 0) };
  }

  #evict(needed: ReadonlySet<string>): void {
    for (const [key, { features, bytes }] of this.#held) {
      if (this.#bytes <= this.#budget) return;
      if (needed.has(key)) continue;
      this.#held.delete(key);
      this.#bytes -= bytes;
      for (const slice of features) this.#gpu.free(slice);
    }
  }

  free(): void {
    for (const { features } of this.#held.values()) for (const slice of features) this.#gpu.free(slice);
    this.#held.clear();
    this.#bytes = 0;
  }
}
