import * as Comlink from "comlink";
import type { ShardReader } from "../engine/index.ts";
import { TabTuneError, throwIfCancelled } from "../errors.ts";
import type { CheckedShard, EncodedRows, EncodeJob, HashState, ShardRecord } from "../formats/index.ts";
import type { EncoderApi } from "./worker_encoder.ts";
import type { ReaderApi } from "./worker_reader.ts";

/** One of them encodes some 20 MB of bf16 a second; more than this only waits for the disk or the network. */
const ENCODERS = 12;
/** SHA-256 takes a core 0.7 GB/s, one after another in one worker; eight hash as fast as a device takes the bytes. */
const READERS = 8;

/** Workers of one kind, each with one job at a time; `close` ends them. */
class Pool<Api> {
  readonly parallel: number;
  #workers: { worker: Worker; remote: Comlink.Remote<Api> }[] = [];
  #idle: Comlink.Remote<Api>[] = [];
  #waiting: ((remote: Comlink.Remote<Api>) => void)[] = [];
  #broken: Promise<never>;

  /** One core is left to the page and to the worker that hands out the jobs. */
  constructor(most: number, start: (i: number) => Worker, cores = navigator.hardwareConcurrency || 2) {
    this.parallel = Math.max(1, Math.min(most, cores - 1));
    const workers = Array.from({ length: this.parallel }, (_, i) => start(i));
    this.#broken = new Promise((_, reject) => {
      const broken = new TabTuneError("Internal", "A helper of this page did not start or broke off. Reload the page.");
      for (const worker of workers) worker.addEventListener("error", () => reject(broken));
    });
    this.#broken.catch(() => undefined); // Jobs await it.
    for (const worker of workers) {
      const remote = Comlink.wrap<Api>(worker);
      this.#workers.push({ worker, remote });
      this.#idle.push(remote);
    }
  }

  /** Runs a job in the next worker that is free. */
  async run<T>(job: (remote: Comlink.Remote<Api>) => Promise<T>): Promise<T> {
    const remote =
      this.#idle.pop() ?? (await new Promise<Comlink.Remote<Api>>((resolve) => this.#waiting.push(resolve)));
    try {
      return await Promise.race([job(remote), this.#broken]);
    } finally {
      const next = this.#waiting.shift();
      if (next) next(remote);
      else this.#idle.push(remote);
    }
  }

  close(): void {
    for (const { worker, remote } of this.#workers) {
      (remote as Comlink.Remote<unknown>)[Comlink.releaseProxy]();
      worker.terminate();
    }
    this.#workers = [];
  }
}

/** Quantizes and hashes in workers of its own while an import runs. */
export class EncoderPool extends Pool<EncoderApi> {
  constructor() {
    super(
      ENCODERS,
      (i) => new Worker(new URL("./worker_encoder.ts", import.meta.url), { type: "module", name: `quantizer ${i}` }),
    );
  }

  /** Rejects with the encoder's own error (NaN weights, values that a scheme cannot hold), or with `Cancelled` before it begins. */
  async encode(job: EncodeJob, signal?: AbortSignal): Promise<EncodedRows> {
    return await this.run(async (remote) => {
      throwIfCancelled(signal);
      return (await remote.encode(Comlink.transfer(job, [job.raw.buffer]))) as EncodedRows;
    });
  }

  /** A SHA-256 after more bytes; they are handed over. */
  async hash(state: HashState | undefined, bytes: Uint8Array<ArrayBuffer>): Promise<HashState> {
    return await this.run((remote) => remote.hash(state, Comlink.transfer(bytes, [bytes.buffer])));
  }
}

/** Reads and hashes shards in workers of its own while a model is loaded. */
export class ReaderPool extends Pool<ReaderApi> implements ShardReader {
  constructor() {
    super(
      READERS,
      (i) => new Worker(new URL("./worker_reader.ts", import.meta.url), { type: "module", name: `reader ${i}` }),
    );
  }

  async read(model: string, index: number, shard: ShardRecord): Promise<CheckedShard> {
    return await this.run(async (remote) => (await remote.read(model, index, shard)) as CheckedShard);
  }
}
