import { throwIfCancelled } from "../errors.ts";
import {
  type Checkpoint,
  type EncodedRows,
  type EncodeJob,
  encodeRows,
  rowLayout,
  type ShardRecord,
  type WeightSlot,
} from "../formats/index.ts";
import { type Piece, shardPieces } from "./import_plan.ts";

/** Bytes of one read. */
const READ_BYTES = 8 << 20;
/** Reads under way at once: enough to hide the latency of HTTP, few enough to be kind to the server. */
const READS_AT_ONCE = 4;
/** Weights encoded before the event loop gets a turn, so that cancel and network are served. */
const WEIGHTS_PER_TURN = 1 << 20;

/** Turns raw rows into stored planes: here, or in other workers. */
export interface RowEncoder {
  /** How many jobs it works on at once. */
  readonly parallel: number;
  encode(job: EncodeJob, signal?: AbortSignal): Promise<EncodedRows>;
}

/** Encodes in this worker, in slices short enough to stay cancellable. */
export const inlineEncoder: RowEncoder = {
  parallel: 1,
  async encode(job, signal) {
    const step = Math.max(1, Math.floor(WEIGHTS_PER_TURN / job.cols));
    if (job.rows <= step) return encodeRows(job);
    const layout = rowLayout(job.scheme, job.cols);
    const codes = new Uint8Array(job.rows * layout.codesBytes);
    const meta = new Uint8Array(job.rows * layout.metaBytes);
    const rowBytes = job.raw.length / job.rows;
    for (let row = 0; row < job.rows; row += step) {
      const rows = Math.min(step, job.rows - row);
      const raw = job.raw.subarray(row * rowBytes, (row + rows) * rowBytes);
      const part = encodeRows({ ...job, raw, rows, row0: job.row0 + row });
      codes.set(part.codes, row * layout.codesBytes);
      meta.set(part.meta, row * layout.metaBytes);
      await new Promise((resolve) => setTimeout(resolve));
      throwIfCancelled(signal);
    }
    return { codes, meta };
  },
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
    const planes = await encodePiece(piece, checkpoint, encoder, ownSignal);
    const layout = rowLayout(piece.slot.scheme, piece.slot.cols);
    out.set(planes.codes, piece.chunk.codesOffset + piece.chunkRow * layout.codesBytes);
    out.set(planes.meta, piece.chunk.metaOffset + piece.chunkRow * layout.metaBytes);
    onBytes(piece.bytes);
  });
  return out;
}

async function encodePiece(
  piece: Piece,
  checkpoint: Checkpoint,
  encoder: RowEncoder,
  signal: AbortSignal,
): Promise<EncodedRows> {
  const { tensor, dtype, row0, rows, slot } = piece;
  // A 1-D tensor that makes one row here: the checkpoint counts its elements as rows.
  const { shape } = checkpoint.tensors.get(tensor)!;
  const flat = shape.length === 1 && shape[0] === slot.cols;
  const raw = await checkpoint.readRows(tensor, flat ? 0 : row0, flat ? slot.cols : rows, signal);
  return await encoder.encode({ scheme: slot.scheme, dtype, raw, rows, cols: slot.cols, tensor, row0 }, signal);
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
