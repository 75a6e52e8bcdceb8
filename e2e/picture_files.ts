import { crc32 } from "node:zlib";

/* Writers of small picture files for tests: plain, uncompressed, of one kind each. */

type Pixel = (x: number, y: number) => number[];

/** 24 bits a pixel, bottom row first. `width` a multiple of 4. */
export function bmp(width: number, height: number, pixel: Pixel): Buffer {
  const out = Buffer.alloc(54 + 3 * width * height);
  out.write("BM", "latin1");
  out.writeUInt32LE(out.length, 2);
  out.writeUInt32LE(54, 10);
  out.writeUInt32LE(40, 14);
  out.writeInt32LE(width, 18);
  out.writeInt32LE(height, 22);
  out.writeUInt16LE(1, 26);
  out.writeUInt16LE(24, 28);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) out.set(pixel(x, height - 1 - y).toReversed(), 54 + 3 * (y * width + x));
  }
  return out;
}

/** Four colours. The code table is cleared after every two pixels, so that codes stay three bits long. */
export function gif(width: number, height: number, palette: number[][], pixel: Pixel): Buffer {
  const codes: number[] = [];
  for (let i = 0; i < width * height; i++) {
    if (i % 2 === 0) codes.push(4);
    codes.push(palette.indexOf(pixel(i % width, Math.floor(i / width))));
  }
  codes.push(5);
  const data = Buffer.alloc(Math.ceil((3 * codes.length) / 8));
  codes.forEach((code, i) => {
    for (let bit = 0; bit < 3; bit++) data[(3 * i + bit) >> 3]! |= ((code >> bit) & 1) << ((3 * i + bit) & 7);
  });
  const blocks: Buffer[] = [];
  for (let at = 0; at < data.length; at += 255) {
    const part = data.subarray(at, at + 255);
    blocks.push(Buffer.from([part.length]), part);
  }
  const size = Buffer.alloc(4);
  size.writeUInt16LE(width, 0);
  size.writeUInt16LE(height, 2);
  return Buffer.concat([
    Buffer.from("GIF89a", "latin1"),
    ...[size, Buffer.from([0x91, 0, 0]), Buffer.from(palette.flat())],
    ...[Buffer.from([0x2c, 0, 0, 0, 0]), size, Buffer.from([0, 2])],
    ...[...blocks, Buffer.from([0, 0x3b])],
  ]);
}

/** A JPEG with an Exif segment that says how it is turned. */
export function withOrientation(jpeg: Buffer, orientation: number): Buffer {
  const tiff = Buffer.from("MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\0\0\0\0\0\0\0", "latin1");
  tiff.writeUInt16BE(orientation, 18);
  const body = Buffer.concat([Buffer.from("Exif\0\0", "latin1"), tiff]);
  const head = Buffer.from([0xff, 0xe1, 0, body.length + 2]);
  return Buffer.concat([jpeg.subarray(0, 2), head, body, jpeg.subarray(2)]);
}

/** A PNG that says its values have been raised to the power of `gamma`. */
export function withGamma(png: Buffer, gamma: number): Buffer {
  const body = Buffer.from("gAMA\0\0\0\0", "latin1");
  body.writeUInt32BE(Math.round(100_000 * gamma), 4);
  const chunk = Buffer.alloc(16);
  chunk.writeUInt32BE(4, 0);
  body.copy(chunk, 4);
  chunk.writeUInt32BE(crc32(body), 12);
  // After the signature and the header chunk.
  return Buffer.concat([png.subarray(0, 33), chunk, png.subarray(33)]);
}
