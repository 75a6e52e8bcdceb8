import { crc32, deflateSync, inflateSync } from "node:zlib";

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

/** @param rows each a filter byte and the row's bytes */
function writePng(width: number, height: number, bits: number, colourType: number, rows: Buffer): Buffer {
  const chunk = (type: string, data: Buffer) => {
    const body = Buffer.concat([Buffer.from(type, "latin1"), data]);
    const out = Buffer.alloc(body.length + 8);
    out.writeUInt32BE(data.length, 0);
    body.copy(out, 4);
    out.writeUInt32BE(crc32(body), body.length + 4);
    return out;
  };
  const head = Buffer.alloc(13);
  head.writeUInt32BE(width, 0);
  head.writeUInt32BE(height, 4);
  head.set([bits, colourType], 8);
  const signature = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]);
  const body = [chunk("IHDR", head), chunk("IDAT", deflateSync(rows)), chunk("IEND", Buffer.alloc(0))];
  return Buffer.concat([signature, ...body]);
}

/** A grey PNG of any size, a bit per pixel and a few kilobytes even at 100 megapixels. */
export function greyPng(width: number, height: number): Buffer {
  const row = Buffer.alloc(1 + Math.ceil(width / 8), 0xaa);
  row[0] = 0;
  return writePng(width, height, 1, 0, Buffer.concat(Array.from({ length: height }, () => row)));
}

/** An 8-bit PNG whose pixels, [r, g, b] or [r, g, b, a], come from a function. */
export function colourPng(width: number, height: number, pixel: (x: number, y: number) => number[]): Buffer {
  const channels = pixel(0, 0).length;
  const rows = Buffer.alloc(height * (1 + width * channels));
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) rows.set(pixel(x, y), y * (1 + width * channels) + 1 + x * channels);
  }
  return writePng(width, height, 8, channels === 4 ? 6 : 2, rows);
}
