import { inflateSync } from "node:zlib";

/** Pixels of an 8-bit RGB PNG without interlacing, as PIL writes them: all that the reference folders hold. */
export function readPng(file: Buffer): { rgb: Uint8Array<ArrayBuffer>; width: number; height: number } {
  const data: Buffer[] = [];
  for (let at = 8; at < file.length; ) {
    const length = file.readUInt32BE(at);
    if (file.toString("latin1", at + 4, at + 8) === "IDAT") data.push(file.subarray(at + 8, at + 8 + length));
    at += length + 12;
  }
  const [width, height] = [file.readUInt32BE(16), file.readUInt32BE(20)];
  const kind = `${file[24]} bits, colour type ${file[25]}, interlace ${file[28]}`;
  if (kind !== "8 bits, colour type 2, interlace 0") throw new Error(`a PNG of ${kind}: expected 8 bits of RGB`);
  const raw = inflateSync(Buffer.concat(data));
  const stride = 3 * width;
  const rgb = new Uint8Array(stride * height);
  for (let y = 0; y < height; y++) {
    const filter = raw[y * (stride + 1)]!;
    for (let x = 0; x < stride; x++) {
      const left = x < 3 ? 0 : rgb[y * stride + x - 3]!;
      const above = y === 0 ? 0 : rgb[(y - 1) * stride + x]!;
      const corner = x < 3 || y === 0 ? 0 : rgb[(y - 1) * stride + x - 3]!;
      rgb[y * stride + x] = raw[y * (stride + 1) + 1 + x]! + predict(filter, left, above, corner);
    }
  }
  return { rgb, width, height };
}

function predict(filter: number, left: number, above: number, corner: number): number {
  if (filter === 0) return 0;
  if (filter === 1) return left;
  if (filter === 2) return above;
  if (filter === 3) return (left + above) >> 1;
  const estimate = left + above - corner;
  const [a, b, c] = [left, above, corner].map((value) => Math.abs(estimate - value)) as [number, number, number];
  if (a <= b && a <= c) return left;
  return b <= c ? above : corner;
}
