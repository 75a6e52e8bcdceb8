import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { crc32, deflateSync } from "node:zlib";

/** A whole small checkpoint: the demo model, else one of the reference folders. */
export const SMALL_CHECKPOINT = ["public/models/demo", "../shared/reference/s-0/checkpoint"].find((folder) =>
  existsSync(join(folder, "model.safetensors")),
);

interface Entry {
  dtype: string;
  shape: number[];
  data_offsets: [number, number];
}

/** The files of a checkpoint folder in a place where they may be damaged. `remove` deletes them. */
export class CheckpointCopy {
  readonly folder = mkdtempSync(join(tmpdir(), "checkpoint-"));

  constructor(from: string) {
    cpSync(from, this.folder, { recursive: true });
  }

  json(name: string, change: (value: Record<string, unknown>) => void): void {
    const path = join(this.folder, name);
    const value = JSON.parse(readFileSync(path, "utf8"));
    change(value);
    writeFileSync(path, JSON.stringify(value));
  }

  write(name: string, text: string): void {
    writeFileSync(join(this.folder, name), text);
  }

  /** Hands over the weight file's header and data; what comes back is written. */
  weights(change: (header: Record<string, Entry>, data: Buffer) => Buffer | undefined): void {
    const path = join(this.folder, "model.safetensors");
    const file = readFileSync(path);
    const bytes = Number(file.readBigUInt64LE(0));
    const header = JSON.parse(file.toString("utf8", 8, 8 + bytes));
    const data = change(header, file.subarray(8 + bytes)) ?? file.subarray(8 + bytes);
    const json = Buffer.from(JSON.stringify(header));
    const start = Buffer.alloc(8);
    start.writeBigUInt64LE(BigInt(json.length));
    writeFileSync(path, Buffer.concat([start, json, data]));
  }

  /** The weight file as bare bytes. */
  weightFile(change: (file: Buffer) => Buffer): void {
    const path = join(this.folder, "model.safetensors");
    writeFileSync(path, change(readFileSync(path)));
  }

  remove(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** A grey PNG of any size, a bit per pixel and a few kilobytes even at 100 megapixels. */
export function greyPng(width: number, height: number): Buffer {
  const chunk = (type: string, data: Buffer) => {
    const body = Buffer.concat([Buffer.from(type, "latin1"), data]);
    const out = Buffer.alloc(body.length + 8);
    out.writeUInt32BE(data.length, 0);
    body.copy(out, 4);
    out.writeUInt32BE(crc32(body), body.length + 4);
    return out;
  };
  const head = Buffer.alloc(13);
  head.writeUInt32BE(width, 0);
  head.writeUInt32BE(height, 4);
  head[8] = 1; // one bit of grey
  const row = Buffer.alloc(1 + Math.ceil(width / 8), 0xaa);
  row[0] = 0;
  const rows = Buffer.concat(Array.from({ length: height }, () => row));
  const signature = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]);
  return Buffer.concat([
    signature,
    chunk("IHDR", head),
    chunk("IDAT", deflateSync(rows)),
    chunk("IEND", Buffer.alloc(0)),
  ]);
}
