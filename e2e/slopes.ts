// What tests of gradients share: the loss in float64, and slopes of it against gradients of the app.

/** Deterministic numbers in [-1, 1). */
export function numbers(seed: number): (count: number, scale: number) => Float32Array<ArrayBuffer> {
  let state = seed;
  return (count, scale) =>
    Float32Array.from({ length: count }, () => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      return scale * (state / 2 ** 31 - 1);
    });
}

/** Sum of the cross-entropies of the labels that are not -100, each predicted by the row before it. */
export function crossEntropy(logits: Float64Array, labels: readonly number[], vocab: number): number {
  let total = 0;
  for (let t = 0; t + 1 < labels.length; t++) {
    const label = labels[t + 1]!;
    if (label === -100) continue;
    const row = logits.subarray(t * vocab, (t + 1) * vocab);
    const top = row.reduce((a, b) => Math.max(a, b));
    const sum = row.reduce((a, z) => a + Math.exp(z - top), 0);
    total += top + Math.log(sum) - row[label]!;
  }
  return total;
}

/**
 * The slope of a loss along a random direction through some arrays, against the same direction of their gradients: the difference
 * relative to the gradients' length. `lossAt` gets the arrays moved.
 */
export function slopeError(
  values: Record<string, Float32Array>,
  gradients: Record<string, Float32Array>,
  draw: (count: number, scale: number) => Float32Array,
  lossAt: (moved: Map<string, Float64Array>) => number,
): number {
  const directions = new Map(Object.entries(values).map(([name, data]) => [name, draw(data.length, 1)]));
  const at = (h: number) =>
    lossAt(
      new Map(
        Object.entries(values).map(([name, data]) => [
          name,
          Float64Array.from(data, (v, i) => v + h * directions.get(name)![i]!),
        ]),
      ),
    );
  const slope = (at(1e-4) - at(-1e-4)) / 2e-4;
  let [along, squares] = [0, 0];
  for (const [name, direction] of directions) {
    gradients[name]!.forEach((g, i) => {
      along += g * direction[i]!;
      squares += g * g;
    });
  }
  return Math.abs(slope - along) / Math.sqrt(squares);
}
