/**
 * Numbers in [0, 1) with 32 random bits each, from any whole number; the same on every machine. The state is sfc32's, filled from the
 * seed by splitmix's finalizer, so that neighbouring seeds give unrelated streams.
 */
export function randomFrom(...seeds: number[]): () => number {
  let mix = 0x9e3779b9;
  const fill = (value: number): number => {
    mix = Math.imul(mix ^ value, 0x85ebca6b);
    mix = Math.imul(mix ^ (mix >>> 13), 0xc2b2ae35);
    mix ^= mix >>> 16;
    return mix >>> 0;
  };
  for (const seed of seeds) {
    fill(seed >>> 0);
    fill(Math.floor(seed / 2 ** 32) >>> 0);
  }
  let [a, b, c, counter] = [fill(1), fill(2), fill(3), 1];
  const next = () => {
    const t = (a + b + counter) >>> 0;
    counter = (counter + 1) >>> 0;
    a = (b ^ (b >>> 9)) >>> 0;
    b = (c + (c << 3)) >>> 0;
    c = (((c << 21) | (c >>> 11)) + t) >>> 0;
    return t / 2 ** 32;
  };
  for (let i = 0; i < 12; i++) next();
  return next;
}

/** 0 … count − 1 in an order that the seeds decide, the same on every machine (Fisher and Yates). */
export function shuffled(count: number, ...seeds: number[]): number[] {
  const random = randomFrom(...seeds);
  const order = Array.from({ length: count }, (_, i) => i);
  for (let i = count - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    [order[i], order[j]] = [order[j]!, order[i]!];
  }
  return order;
}
