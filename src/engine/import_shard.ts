import { throwIfCancelled } from "../errors.ts";
import {
  type Checkpoint,
  type EncodedRows,
  type EncodeJob,
  encodeRows,
  type HashState,
  hashOnward,
  rowLayout,
  type ShardRecord,
  type WeightSlot,
} from "../formats/index.ts";
import { type Piece, shardPieces } from "./import_plan.ts";

/** Bytes of one read. */
const READ_BYTES = 8 << 20;
/** Reads under way at once: enough to hide the latency of HTTP, few enough to be kind to the server. */
const READS_AT_ONCE = 4;
/** Weights of one job of the encoder: short enough to cancel soon, and to share the end of a shard among all workers. */
const WEIGHTS_PER_JOB = 1 << 19;

/** Turns raw rows into stored planes: here, or in other workers. */
export interface RowEncoder {
  /** How many jobs it works on at once. */
  readonly parallel: number;
  /** The job's bytes are its own to hand over. */
  encode(job: EncodeJob, signal?: AbortSignal): Promise<EncodedRows>;
  /** A SHA-256 after more bytes, which are its own to hand over. */
  hash(state: HashState | undefined, bytes: Uint8Array<ArrayBuffer>): Promise<HashState>;
}

/** Encodes in this worker; before each job the event loop gets a turn, so that cancel and network are served. */
export const inlineEncoder: RowEncoder = {
  parallel: 1,
  async encode(job, signal) {
    await new Promise((resolve) => setTimeout(resolve));
    throwIfCancelled(signal);
    return encodeRows(job);
  },
  hash: async (state, bytes) => hashOnward(state, bytes),
};

/**
 * Makes the bytes of one shard from the checkpoint, whatever else exists: reads only the rows it holds. The same checkpoint and
 * slots give the same bytes. At most READS_AT_ONCE reads, or one more than the encoder works on, are in memory besides the shard.
 */
export async function produceShard(
  shard: ShardRecord,
  slots: WeightSlot[],
  checkpoint: Checkpoint,
  encoder: RowEncoder,
  onBytes: (bytes: number) => void,
  signal?: AbortSignal,
): Promise<Uint8Array<ArrayBuffer>> {
  const out = new Uint8Array(shard.bytes);
  const pieces = shardPieces(shard, slots, checkpoint, READ_BYTES);
  await eachAtOnce(pieces, Math.max(READS_AT_ONCE, encoder.parallel + 1), signal, async (piece, ownSignal) => {
    const raw = await readPiece(piece, checkpoint, ownSignal);
    const { scheme, cols } = piece.slot;
    const layout = rowLayout(scheme, cols);
    const encode = async (job: EncodeJob) => {
      const planes = await encoder.encode(job, ownSignal);
      const row = piece.chunkRow + job.row0 - piece.row0;
      out.set(planes.codes, piece.chunk.codesOffset + row * layout.codesBytes);
      out.set(planes.meta, piece.chunk.metaOffset + row * layout.metaBytes);
    };
    await Promise.all(encodeJobs(piece, raw).map(encode));
    onBytes(piece.bytes);
  });
  return out;
}

async function readPiece(piece: Piece, checkpoint: Checkpoint, signal: AbortSignal): Promise<Uint8Array<ArrayBuffer>> {
  const { tensor, row0, rows, slot } = piece;
  // A 1-D tensor that makes one row here: the checkpoint counts its elements as rows.
  const { shape } = checkpoint.tensors.get(tensor)!;
  const flat = shape.length === 1 && shape[0] === slot.cols;
  return await checkpoint.readRows(tensor, flat ? 0 : row0, flat ? slot.cols : rows, signal);
}

/** Cuts what one read brought into jobs of whole rows, each with bytes of its own, so that they can be handed to a worker. */
function encodeJobs(piece: Piece, raw: Uint8Array<ArrayBuffer>): EncodeJob[] {
  const { tensor, dtype, row0, rows, slot } = piece;
  const { scheme, cols } = slot;
  const step = Math.max(1, Math.floor(WEIGHTS_PER_JOB / cols));
  const rowBytes = raw.length / rows;
  return Array.from({ length: Math.ceil(rows / step) }, (_, i) => {
    const [from, to] = [i * step, Math.min(rows, (i + 1) * step)];
    const part = to - from === rows ? raw : raw.slice(from * rowBytes, to * rowBytes);
    return { scheme, dtype, raw: part, rows: to - from, cols, tensor, row0: row0 + from };
  });
}

/** Runs `task` over the items, `limit` at a time. The first failure stops the others and is thrown. */
async function eachAtOnce<T>(
  items: T[],
  limit: number,
  signal: AbortSignal | undefined,
  task: (item: T, signal: AbortSignal) => Promise<void>,
): Promise<void> {
  const abort = new AbortController();
  const onAbort = () => abort.abort();
  signal?.addEventListener("abort", onAbort);
  let next = 0;
  let failure: { error: unknown } | undefined;
  const run = async () => {
    while (next < items.length && !failure) {
      throwIfCancelled(signal);
      await task(items[next++]!, abort.signal);
    }
  };
  const guarded = async () => {
    try {
      await run();
    } catch (error) {
      failure ??= { error };
      abort.abort();
    }
  };
  try {
    await Promise.all(Array.from({ length: Math.min(limit, items.length) }, guarded));
  } finally {
    signal?.removeEventListener("abort", onAbort);
  }
  if (failure) throw failure.error;
}
