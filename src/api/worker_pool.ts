import * as Comlink from "comlink";
import { throwIfCancelled } from "../errors.ts";
import type { EncodedRows, EncodeJob, HashState } from "../formats/index.ts";
import type { EncoderApi } from "./worker_encoder.ts";

/** One of them encodes some 20 MB of bf16 a second; more than this only waits for the disk or the network. */
const MAX_WORKERS = 12;

/** Quantizes and hashes in workers of its own while an import runs; `close` ends them. */
export class EncoderPool {
  readonly parallel: number;
  #workers: { worker: Worker; remote: Comlink.Remote<EncoderApi> }[] = [];
  #idle: Comlink.Remote<EncoderApi>[] = [];
  #waiting: ((remote: Comlink.Remote<EncoderApi>) => void)[] = [];

  /** One core is left to the page and the reads. */
  constructor(cores = navigator.hardwareConcurrency || 2) {
    this.parallel = Math.max(1, Math.min(MAX_WORKERS, cores - 1));
    for (let i = 0; i < this.parallel; i++) {
      const worker = new Worker(new URL("./worker_encoder.ts", import.meta.url), {
        type: "module",
        name: `quantizer ${i}`,
      });
      const remote = Comlink.wrap<EncoderApi>(worker);
      this.#workers.push({ worker, remote });
      this.#idle.push(remote);
    }
  }

  /** Rejects with the encoder's own error (NaN weights, values that a scheme cannot hold), or with `Cancelled` before it begins. */
  async encode(job: EncodeJob, signal?: AbortSignal): Promise<EncodedRows> {
    return await this.#run(async (remote) => {
      throwIfCancelled(signal);
      return (await remote.encode(Comlink.transfer(job, [job.raw.buffer]))) as EncodedRows;
    });
  }

  /** A SHA-256 after more bytes; they are handed over. */
  async hash(state: HashState | undefined, bytes: Uint8Array<ArrayBuffer>): Promise<HashState> {
    return await this.#run((remote) => remote.hash(state, Comlink.transfer(bytes, [bytes.buffer])));
  }

  /** Runs a job in the next worker that is free. */
  async #run<T>(job: (remote: Comlink.Remote<EncoderApi>) => Promise<T>): Promise<T> {
    const remote =
      this.#idle.pop() ?? (await new Promise<Comlink.Remote<EncoderApi>>((resolve) => this.#waiting.push(resolve)));
    try {
      return await job(remote);
    } finally {
      const next = this.#waiting.shift();
      if (next) next(remote);
      else this.#idle.push(remote);
    }
  }

  close(): void {
    for (const { worker, remote } of this.#workers) {
      remote[Comlink.releaseProxy]();
      worker.terminate();
    }
    this.#workers = [];
  }
}
