import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

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
