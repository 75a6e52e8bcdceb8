export type Files = ReadonlyMap<string, Uint8Array<ArrayBuffer>>;

export interface Target {
  name: string;
  /** Sets of files that are read without complaint. */
  seeds: Files[];
  read(files: Files): Promise<void>;
  /**
   * How many bytes may be asked for at once for one byte of file. More than 1 only where files are packed: deflate unpacks to 1032
   * times its size at most.
   */
  unpacks?: number;
}
