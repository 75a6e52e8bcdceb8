/** Passes streamed text on, holds back what could be the start of a stop string, and cuts at the first one. */
export class StopStrings {
  #stops: string[];
  #held = "";
  /** Set once a stop string was seen; nothing passes after it. */
  stopped = false;

  constructor(stops: readonly string[]) {
    this.#stops = stops.filter((s) => s.length > 0);
  }

  /** Text that may be shown now. */
  push(text: string): string {
    if (this.stopped) return "";
    this.#held += text;
    const found = this.#stops.map((s) => this.#held.indexOf(s)).filter((i) => i >= 0);
    if (found.length > 0) {
      this.stopped = true;
      return this.#held.slice(0, Math.min(...found));
    }
    let keep = 0;
    for (const stop of this.#stops) {
      for (let n = Math.min(stop.length - 1, this.#held.length); n > keep; n--) {
        if (stop.startsWith(this.#held.slice(-n))) keep = n;
      }
    }
    const out = this.#held.slice(0, this.#held.length - keep);
    this.#held = this.#held.slice(this.#held.length - keep);
    return out;
  }

  /** What was held back, at the end of the answer. */
  flush(): string {
    const rest = this.stopped ? "" : this.#held;
    this.#held = "";
    return rest;
  }
}
