/** Who owns which bytes on the GPU. The one source for the memory that the page shows and that tests compare. */
export class Ledger {
  #bytes = new Map<string, number>();

  add(owner: string, bytes: number): void {
    this.#bytes.set(owner, (this.#bytes.get(owner) ?? 0) + bytes);
  }

  remove(owner: string, bytes: number): void {
    const left = (this.#bytes.get(owner) ?? 0) - bytes;
    if (left > 0) this.#bytes.set(owner, left);
    else this.#bytes.delete(owner);
  }

  get total(): number {
    let sum = 0;
    for (const bytes of this.#bytes.values()) sum += bytes;
    return sum;
  }

  byOwner(): Record<string, number> {
    return Object.fromEntries([...this.#bytes].sort((a, b) => b[1] - a[1]));
  }
}
