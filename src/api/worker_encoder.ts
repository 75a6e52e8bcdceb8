import * as Comlink from "comlink";
import { type EncodedRows, type EncodeJob, encodeRows } from "../formats/index.ts";

/** A helper of the engine's worker: quantizes rows, so that an import uses more than one core. */
const encoder = {
  encode(job: EncodeJob): EncodedRows {
    const planes = encodeRows(job);
    return Comlink.transfer(planes, [planes.codes.buffer, planes.meta.buffer]);
  },
};

Comlink.expose(encoder);
export type EncoderApi = typeof encoder;
