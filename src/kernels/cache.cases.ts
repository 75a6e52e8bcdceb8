import { f16ToF32 } from "../formats/index.ts";
import { type CacheType, cacheRowBytes } from "./cache.ts";
import type { Bench } from "./case.ts";

/** Opens rows of d channels as they lie in a cache, by formulas of their own. */
export function openCache(type: CacheType, bytes: ArrayBuffer, d: number): Float64Array {
  if (type === "f32") return Float64Array.from(new Float32Array(bytes));
  if (type === "f16") return Float64Array.from(new Uint16Array(bytes), f16ToF32);
  const rowBytes = cacheRowBytes("i8", d);
  const codes = new Int8Array(bytes);
  const halves = new Uint16Array(bytes);
  return Float64Array.from({ length: (bytes.byteLength / rowBytes) * d }, (_, i) => {
    const [row, c] = [Math.floor(i / d), i % d];
    const magnitude = halves[((row + 1) * rowBytes - 16) / 2 + Math.floor(c / 16)]!;
    return (codes[row * rowBytes + c]! / 127) * f16ToF32(magnitude);
  });
}

/** Random rows of a cache, padding included, and the values that they stand for. */
export function randomCache(bench: Bench, type: CacheType, rows: number, d: number, scale: number) {
  const bytes = new Uint8Array(rows * cacheRowBytes(type, d));
  if (type === "f32") new Float32Array(bytes.buffer).set(bench.values(rows * d, scale));
  // Halves of magnitudes between 2^-4 and 2, of either sign.
  const half = () =>
    (bench.random() < 0.5 ? 0x8000 : 0) | (((11 + 5 * bench.random()) << 10) & 0x7c00) | (bench.random() * 1024);
  const halves = new Uint16Array(bytes.buffer);
  if (type === "f16") for (let i = 0; i < halves.length; i++) halves[i] = half();
  if (type === "i8") {
    const rowBytes = cacheRowBytes(type, d);
    for (let i = 0; i < bytes.length; i++) bytes[i] = Math.floor(bench.random() * 255) - 127;
    for (let end = rowBytes; end <= bytes.length; end += rowBytes)
      for (let i = end / 2 - 8; i < end / 2; i++) halves[i] = half() & 0x7fff;
  }
  return { slice: bench.upload(new Uint32Array(bytes.buffer)), values: openCache(type, bytes.buffer, d) };
}

function nearestHalf(x: number): number {
  const step = 2 ** (Math.max(Math.floor(Math.log2(Math.abs(x))), -14) - 10);
  return Math.round(x / step) * step;
}

/** What a cache keeps of one row, by formulas of their own. */
export function keptRow(type: CacheType, row: Float64Array): Float64Array {
  if (type === "f32") return row.map(Math.fround);
  if (type === "f16") return row.map(nearestHalf);
  return row.map((x, i) => {
    const group = row.subarray(i - (i % 16), i - (i % 16) + 16);
    const most = nearestHalf(group.reduce((a, b) => Math.max(a, Math.abs(b)), 0));
    return (Math.round((x / most) * 127) / 127) * most;
  });
}
