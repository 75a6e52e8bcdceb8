import { shown, TabTuneError } from "../../errors.ts";
import type { GgufFile, GgufMeta, GgufScalar } from "./container.ts";

/** Looks values of known types up in the metadata of a file. Every error names file, key, expected and found. */
export class Metadata {
  #file: Pick<GgufFile, "path" | "metadata">;

  constructor(file: Pick<GgufFile, "path" | "metadata">) {
    this.#file = file;
  }

  bad(key: string, expected: string, found: GgufMeta | undefined): TabTuneError {
    const what = found === undefined ? "no such key" : shown(found, 80);
    return new TabTuneError(
      "BadCheckpoint",
      `${this.#file.path}: metadata key ${key}: expected ${expected}, found ${what}. Get another conversion of this model.`,
    );
  }

  has(key: string): boolean {
    return this.#file.metadata.has(key);
  }

  number(key: string, fallback?: number): number {
    const value = this.#file.metadata.get(key) ?? fallback;
    if (typeof value !== "number" || !Number.isFinite(value)) throw this.bad(key, "a number", value);
    return value;
  }

  text(key: string): string | undefined {
    const value = this.#file.metadata.get(key);
    if (value !== undefined && typeof value !== "string") throw this.bad(key, "a text", value);
    return value;
  }

  #list(key: string, type: "number" | "string" | "boolean", what: string): readonly GgufScalar[] | undefined {
    const value = this.#file.metadata.get(key);
    if (value === undefined) return undefined;
    if (typeof value === "object" && value.every((v) => typeof v === type)) return value;
    throw this.bad(key, what, value);
  }

  numbers(key: string): readonly number[] | undefined {
    return this.#list(key, "number", "a list of numbers") as readonly number[] | undefined;
  }

  texts(key: string): readonly string[] | undefined {
    return this.#list(key, "string", "a list of texts") as readonly string[] | undefined;
  }

  flags(key: string): readonly boolean[] | undefined {
    return this.#list(key, "boolean", "a list of yes and no") as readonly boolean[] | undefined;
  }
}
