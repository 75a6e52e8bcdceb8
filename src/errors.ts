/**
 * The one error type that crosses every border of the program, the worker's included.
 * `name` is the code (it survives structured cloning), `message` says what was expected, what was found and what to do.
 */
export class TabTuneError extends Error {
  constructor(code: ErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = code;
  }
}

/** Every code that callers may branch on. */
export type ErrorCode =
  | "Cancelled"
  | "BadCheckpoint"
  | "UnsupportedModel"
  | "BadImage"
  | "BadInput"
  | "Network"
  | "Quota"
  | "DamagedShard"
  | "Busy"
  | "NotFound"
  | "NoWebGPU"
  | "OutOfMemory"
  | "DeviceLost"
  | "ContextFull"
  | "Internal";

/** True for an error of ours with the given code, also after a trip through postMessage. */
export function isError(error: unknown, code: ErrorCode): boolean {
  return error instanceof Error && error.name === code;
}

/** Throws `Cancelled` when the signal has fired. */
export function throwIfCancelled(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw new TabTuneError("Cancelled", "The operation was cancelled.");
}

/** A value in a message: short, and never an error of its own, whatever a hostile file puts there. */
export function shown(value: unknown, most = 120): string {
  let text: string;
  try {
    text = JSON.stringify(value) ?? String(value);
  } catch {
    text = "something nested very deeply";
  }
  return text.length > most ? `${text.slice(0, most - 3)}…` : text;
}
