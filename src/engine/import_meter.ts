import type { ModelManifest } from "../formats/index.ts";
import type { ImportProgress } from "./import_types.ts";

/** Counts what has been read and tells the caller, with the speed over the last ten seconds. */
export class Meter {
  private readonly manifest: ModelManifest;
  private readonly report: ((progress: ImportProgress) => void) | undefined;
  private bytesDone = 0;
  private shard = 0;
  private samples: { time: number; bytes: number }[] = [];

  constructor(manifest: ModelManifest, report: ((progress: ImportProgress) => void) | undefined) {
    this.manifest = manifest;
    this.report = report;
  }

  found(checked: number, stored: number): void {
    const bytesTotal = this.manifest.bytesSource;
    const share = stored / this.manifest.shards.length;
    this.tell("Checking what is stored", bytesTotal * share * (checked / stored), checked);
  }

  start(done: Set<number>): void {
    const share =
      [...done].reduce((sum, index) => sum + this.manifest.shards[index]!.bytes, 0) / this.manifest.bytesTotal;
    this.bytesDone = Math.round(this.manifest.bytesSource * share);
    this.shard = done.size;
    this.samples = [{ time: performance.now(), bytes: this.bytesDone }];
    this.tell("Reading and storing", this.bytesDone, this.shard);
  }

  read(bytes: number): void {
    this.bytesDone = Math.min(this.bytesDone + bytes, this.manifest.bytesSource);
    this.samples.push({ time: performance.now(), bytes: this.bytesDone });
    while (this.samples.length > 2 && this.samples.at(-1)!.time - this.samples[0]!.time > 10_000) this.samples.shift();
    this.tell("Reading and storing", this.bytesDone, this.shard);
  }

  stored(): void {
    this.shard++;
    this.tell("Reading and storing", this.bytesDone, this.shard);
  }

  comparing(): void {
    this.tell("Comparing the files' checksums", this.manifest.bytesSource, this.shard);
  }

  private tell(phase: ImportProgress["phase"], bytesDone: number, shard: number): void {
    const first = this.samples[0];
    const last = this.samples.at(-1);
    const milliseconds = first && last ? last.time - first.time : 0;
    const bytesPerSecond = first && last && milliseconds > 0 ? ((last.bytes - first.bytes) / milliseconds) * 1000 : 0;
    const bytesTotal = this.manifest.bytesSource;
    const secondsLeft = bytesPerSecond > 0 ? (bytesTotal - bytesDone) / bytesPerSecond : Number.POSITIVE_INFINITY;
    this.report?.({
      phase,
      bytesDone,
      bytesTotal,
      shard,
      shards: this.manifest.shards.length,
      bytesPerSecond,
      secondsLeft,
    });
  }
}
