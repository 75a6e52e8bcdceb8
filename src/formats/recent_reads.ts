/** About ten of the 8B model's largest matrices in 4 bits. */
const MOST_BYTES = 256 << 20;

/** What was read as a whole because it cannot be read by rows: the last things that were used are kept. */
export class RecentReads<T> {
  readonly #kept = new Map<string, { bytes: number; value: Promise<T> }>();

  async get(name: string, bytes: number, read: () => Promise<T>): Promise<T> {
    const value = this.#kept.get(name)?.value ?? read();
    // Used last, so last in the order.
    this.#kept.delete(name);
    this.#kept.set(name, { bytes, value });
    let total = [...this.#kept.values()].reduce((sum, entry) => sum + entry.bytes, 0);
    for (const [other, entry] of this.#kept) {
      if (total <= MOST_BYTES || other === name) break;
      this.#kept.delete(other);
      total -= entry.bytes;
    }
    try {
      return await value;
    } catch (error) {
      this.#kept.delete(name);
      throw error;
    }
  }
}
