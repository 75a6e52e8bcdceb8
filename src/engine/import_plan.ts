import { TabTuneError } from "../errors.ts";
import {
  type Checkpoint,
  rowFormat,
  rowLayout,
  type ShardChunk,
  type ShardRecord,
  type TensorInfo,
  type WeightSlot,
} from "../formats/index.ts";

/** Planes begin at multiples of this inside a shard. */
const ALIGNMENT = 16;

/**
 * Checks every slot against the checkpoint's directory before anything is read or written: its tensors are there, have the right
 * shapes and a dtype that can be read. Throws `BadCheckpoint` with the first fault; returns remarks for the visitor.
 */
export function checkSlots(slots: WeightSlot[], checkpoint: Checkpoint): string[] {
  const names = new Set<string>();
  const rounded = new Set<string>();
  for (const slot of slots) {
    if (names.has(slot.name)) throw new TabTuneError("Internal", `Two slots are named ${slot.name}.`);
    names.add(slot.name);
    const stacked = slot.sources.reduce((sum, source) => sum + source.rows, 0);
    if (stacked !== slot.rows || slot.rows < 1 || slot.cols < 1) {
      throw new TabTuneError("Internal", `${slot.name}: [${slot.rows}, ${slot.cols}] from ${stacked} rows of tensors.`);
    }
    for (const { tensor, rows } of slot.sources) {
      const { dtype, format } = checkTensor(checkpoint, tensor, rows, slot.cols);
      if (slot.scheme === "bf16" && dtype !== "BF16" && format === undefined) rounded.add(dtype);
    }
  }
  return [...rounded].map((dtype) => `Weights stored as ${dtype} in the checkpoint are rounded to bf16.`);
}

function checkTensor(checkpoint: Checkpoint, name: string, rows: number, cols: number): TensorInfo {
  const tensor = checkpoint.tensors.get(name);
  const expected = rows === 1 ? `[${cols}]` : `[${rows}, ${cols}]`;
  if (!tensor) {
    throw bad(
      `${name}: expected a tensor ${expected}, found none of that name among ${checkpoint.tensors.size}. Does config.json belong to these weights, and is every file there?`,
    );
  }
  const first = tensor.shape.length === 1 && rows === 1 ? 1 : tensor.shape[0];
  const elements = tensor.shape.reduce((product, n) => product * n, 1);
  if (first !== rows || elements !== rows * cols) {
    throw bad(
      `${name}: expected ${expected}, found [${tensor.shape.join(", ")}]. Does config.json belong to these weights (another size of the model, perhaps)?`,
    );
  }
  if (!rowFormat(tensor.dtype)) {
    throw bad(
      `${name}: expected BF16, F16 or F32, found ${tensor.dtype}. This form of quantized checkpoint cannot be read; choose the original one.`,
    );
  }
  return tensor;
}

/**
 * The slots in the order in which their weights lie in the files: a file is then read nearly from front to back, which its hash
 * needs. A slot is where its longest source is.
 */
export function inFileOrder(slots: readonly WeightSlot[], checkpoint: Checkpoint): WeightSlot[] {
  const place = ({ sources }: WeightSlot) => {
    const tensors = sources.flatMap(({ tensor }) => checkpoint.tensors.get(tensor) ?? []);
    return tensors.reduce((a, b) => (b.bytes > a.bytes ? b : a), tensors[0] ?? { file: "", offset: 0, bytes: 0 });
  };
  const places = new Map(slots.map((slot) => [slot, place(slot)]));
  return [...slots].sort((a, b) => {
    const [p, q] = [places.get(a)!, places.get(b)!];
    return p.file < q.file ? -1 : p.file > q.file ? 1 : p.offset - q.offset;
  });
}

/** Cuts the slots into chunks of whole rows and packs these, in order, into shards of at most `shardBytes`. Hashes stay empty. */
export function planShards(slots: WeightSlot[], shardBytes: number): ShardRecord[] {
  const shards: ShardRecord[] = [];
  let shard: ShardRecord = { bytes: 0, sha256: "", chunks: [] };
  slots.forEach((slot, index) => {
    for (let row0 = 0; row0 < slot.rows; ) {
      const chunk = placeChunk(slot, index, row0, shard.bytes, shardBytes);
      if (chunk) {
        shard.chunks.push(chunk);
        shard.bytes = chunk.metaOffset + chunk.metaBytes;
        row0 += chunk.rows;
      } else if (shard.chunks.length > 0) {
        shards.push(shard);
        shard = { bytes: 0, sha256: "", chunks: [] };
      } else {
        throw bad(`${slot.name}: one row of ${slot.cols} values does not fit a shard of ${shardBytes} bytes.`);
      }
    }
  });
  if (shard.chunks.length > 0) shards.push(shard);
  return shards;
}

/** As many rows as fit behind `used` bytes, or undefined when not one does. */
function placeChunk(
  slot: WeightSlot,
  index: number,
  row0: number,
  used: number,
  shardBytes: number,
): ShardChunk | undefined {
  const layout = rowLayout(slot.scheme, slot.cols);
  const codesOffset = align(used);
  // The metadata plane may lose up to ALIGNMENT bytes before it.
  const room = shardBytes - codesOffset - (layout.metaBytes > 0 ? ALIGNMENT : 0);
  const rows = Math.min(slot.rows - row0, Math.floor(room / (layout.codesBytes + layout.metaBytes)));
  if (rows < 1) return undefined;
  const codesBytes = rows * layout.codesBytes;
  const metaBytes = rows * layout.metaBytes;
  const metaOffset = metaBytes > 0 ? align(codesOffset + codesBytes) : codesOffset + codesBytes;
  return { slot: index, row0, rows, codesOffset, codesBytes, metaOffset, metaBytes };
}

function align(bytes: number): number {
  return Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;
}

/** Rows of one checkpoint tensor that one read fetches, and where they go. */
export interface Piece {
  tensor: string;
  dtype: string;
  /** First row in the tensor, and how many. */
  row0: number;
  rows: number;
  slot: WeightSlot;
  chunk: ShardChunk;
  /** Rows of the chunk that come before these. */
  chunkRow: number;
  bytes: number;
}

/** The reads that make up one shard, each of at most `readBytes` unless a single row is longer. */
export function shardPieces(
  shard: ShardRecord,
  slots: WeightSlot[],
  checkpoint: Checkpoint,
  readBytes: number,
): Piece[] {
  const pieces: Piece[] = [];
  for (const chunk of shard.chunks) {
    const slot = slots[chunk.slot]!;
    let sourceStart = 0;
    for (const source of slot.sources) {
      const { dtype } = checkpoint.tensors.get(source.tensor)!;
      const rowBytes = rowFormat(dtype)!.rowBytes(slot.cols);
      const from = Math.max(chunk.row0, sourceStart);
      const to = Math.min(chunk.row0 + chunk.rows, sourceStart + source.rows);
      const step = Math.max(1, Math.floor(readBytes / rowBytes));
      for (let row = from; row < to; row += step) {
        const rows = Math.min(step, to - row);
        pieces.push({
          tensor: source.tensor,
          dtype,
          row0: row - sourceStart,
          rows,
          slot,
          chunk,
          chunkRow: row - chunk.row0,
          bytes: rows * rowBytes,
        });
      }
      sourceStart += source.rows;
    }
  }
  return pieces;
}

function bad(message: string): TabTuneError {
  return new TabTuneError("BadCheckpoint", message);
}
