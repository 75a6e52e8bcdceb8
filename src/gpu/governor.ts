/**
 * Keeps single submits short, so that the page and the desktop stay alive and no watchdog fires:
 * it learns how much work (in FLOPs, or bytes weighed as FLOPs) the device does in a millisecond and says where to cut.
 */
export class Governor {
  /** Work per millisecond; starts at a software adapter's speed and follows the measurements. */
  #pace = 1e6;
  /** A submit should stay under this on a visible page (architecture: 100 ms at most). */
  readonly targetMilliseconds = 40;

  /** How much work to put into the next submit. */
  get budget(): number {
    return this.#pace * this.targetMilliseconds;
  }

  /** Largest share of one dispatch, given the work of one row: rows so that it stays near the target. */
  rows(workPerRow: number, atLeast: number, atMost: number): number {
    return Math.max(atLeast, Math.min(atMost, Math.floor(this.budget / Math.max(1, workPerRow))));
  }

  /** Reports a finished submit. Short ones say little about the pace: queueing and mapping dominate them. */
  learn(work: number, milliseconds: number): void {
    const measured = work / Math.max(0.2, milliseconds);
    if (measured > this.#pace) this.#pace = Math.min(measured, this.#pace * 8);
    else if (milliseconds > 5) this.#pace = 0.5 * this.#pace + 0.5 * measured;
  }
}
