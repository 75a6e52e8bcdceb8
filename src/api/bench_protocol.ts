/** What a benchmark run may be told; times in milliseconds. */
export interface BenchOptions {
  preset: "qwen3-vl-2b" | "qwen3-vl-4b" | "qwen3-vl-8b" | "tiny";
  /** Parts to run, by name; all when absent. */
  only?: string[];
  /** A single measurement that is expected to take longer than this is left out. */
  capMilliseconds: number;
}

/** One measured number. `name` is unique within its part: runs are compared by both. */
export interface BenchRow {
  part: string;
  name: string;
  value: number;
  /** "×": how many times as fast as a peer, or as small. */
  unit: "tok/s" | "ms" | "GB/s" | "TFLOP/s" | "MiB" | "count" | "×";
  /** Share of the ceiling of the same run that binds this measurement. */
  share?: number;
  bound?: "bandwidth" | "arithmetic";
  /** Why a number is missing (value 0) or what to keep in mind. */
  note?: string;
}

/** The part of the worker that only the benchmark uses. */
export interface BenchApi {
  /** Measures with random weights of a preset on the device; nothing is downloaded or stored. */
  debugBench(options: BenchOptions, onRow: (row: BenchRow) => void): Promise<void>;
}
