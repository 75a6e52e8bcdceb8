export type Files = ReadonlyMap<string, Uint8Array<ArrayBuffer>>;

export interface Target {
  name: string;
  /** Sets of files that are read without complaint. */
  seeds: Files[];
  read(files: Files): Promise<void>;
}
