import * as Comlink from "comlink";
import { throwIfCancelled } from "../errors.ts";
import type { EncodedRows, EncodeJob } from "../formats/index.ts";
import type { EncoderApi } from "./worker_encoder.ts";

/** One of them encodes some 20 MB of bf16 a second; more than this only waits for the disk or the network. */
const MAX_WORKERS = 12;

/** Quantizes in workers of its own while an import runs; `close` ends them. */
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
    const remote =
      this.#idle.pop() ?? (await new Promise<Comlink.Remote<EncoderApi>>((resolve) => this.#waiting.push(resolve)));
    try {
      throwIfCancelled(signal);
      const planes = await remote.encode(Comlink.transfer(job, [job.raw.buffer]));
      return planes as EncodedRows;
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
