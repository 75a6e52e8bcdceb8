import * as Comlink from "comlink";
import { type EncodedRows, type EncodeJob, encodeRows, type HashState, hashOnward } from "../formats/index.ts";

/** A helper of the engine's worker: quantizes rows and hashes files, so that an import uses more than one core. */
const encoder = {
  encode(job: EncodeJob): EncodedRows {
    const planes = encodeRows(job);
    return Comlink.transfer(planes, [planes.codes.buffer, planes.meta.buffer]);
  },
  hash: (state: HashState | undefined, bytes: Uint8Array<ArrayBuffer>): HashState => hashOnward(state, bytes),
};

Comlink.expose(encoder);
export type EncoderApi = typeof encoder;
