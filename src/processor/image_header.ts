/** What the first bytes of a file say it is, and its size in pixels where they say that too. */
export interface ImageHeader {
  kind: string;
  /** Undefined where only the browser can tell. */
  isImage: boolean | undefined;
  width?: number;
  height?: number;
}

const ascii = (b: Uint8Array, at: number, n: number) => String.fromCharCode(...b.subarray(at, at + n));

/** Reads magic bytes and dimensions. Never throws: what it cannot tell is left out. `b` is the start of the file, 64 KiB are plenty. */
export function readImageHeader(b: Uint8Array): ImageHeader {
  const view = new DataView(b.buffer, b.byteOffset, b.byteLength);
  const has = (n: number) => b.length >= n;
  if (has(24) && ascii(b, 1, 3) === "PNG" && b[0] === 0x89) {
    return { kind: "PNG", isImage: true, width: view.getUint32(16), height: view.getUint32(20) };
  }
  if (has(3) && b[0] === 0xff && b[1] === 0xd8 && b[2] === 0xff)
    return { kind: "JPEG", isImage: true, ...jpegSize(b, view) };
  if (has(10) && /^GIF8[79]a$/.test(ascii(b, 0, 6))) {
    return { kind: "GIF", isImage: true, width: view.getUint16(6, true), height: view.getUint16(8, true) };
  }
  if (has(26) && ascii(b, 0, 2) === "BM") {
    return {
      kind: "BMP",
      isImage: true,
      width: Math.abs(view.getInt32(18, true)),
      height: Math.abs(view.getInt32(22, true)),
    };
  }
  if (has(30) && ascii(b, 0, 4) === "RIFF" && ascii(b, 8, 4) === "WEBP")
    return { kind: "WebP", isImage: true, ...webpSize(b, view) };
  if (has(12) && ascii(b, 4, 4) === "ftyp") {
    const brand = ascii(b, 8, 4);
    if (brand.startsWith("avi")) return { kind: "AVIF", isImage: true };
    if (/^(hei|hev|mif|msf)/.test(brand)) return { kind: "HEIC", isImage: true };
    return { kind: "a video (MP4)", isImage: false };
  }
  const text = ascii(b, 0, Math.min(b.length, 256)).trimStart();
  if (/^(<\?xml[^>]*>\s*)?(<!--[\s\S]*?-->\s*)?<svg/i.test(text)) return { kind: "an SVG drawing", isImage: false };
  if (has(4) && ascii(b, 0, 2) === "PK") return { kind: "a zip archive (or an Office document)", isImage: false };
  if (ascii(b, 0, 4) === "%PDF") return { kind: "a PDF document", isImage: false };
  if (/^\s*</.test(text)) return { kind: "an HTML or XML text", isImage: false };
  if (b.length === 0) return { kind: "an empty file", isImage: false };
  return { kind: "a file of unknown type", isImage: undefined };
}

/** Width and height from the first start-of-frame segment. */
function jpegSize(b: Uint8Array, view: DataView): { width?: number; height?: number } {
  let at = 2;
  while (at + 9 < b.length) {
    if (b[at] !== 0xff) return {};
    const marker = b[at + 1]!;
    if (marker === 0xff) {
      at++;
      continue;
    }
    const isFrame = marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker);
    if (isFrame) return { height: view.getUint16(at + 5), width: view.getUint16(at + 7) };
    at += 2 + view.getUint16(at + 2);
  }
  return {};
}

function webpSize(b: Uint8Array, view: DataView): { width?: number; height?: number } {
  const chunk = ascii(b, 12, 4);
  if (chunk === "VP8 ") return { width: view.getUint16(26, true) & 0x3fff, height: view.getUint16(28, true) & 0x3fff };
  if (chunk === "VP8L") {
    const bits = view.getUint32(21, true);
    return { width: (bits & 0x3fff) + 1, height: ((bits >>> 14) & 0x3fff) + 1 };
  }
  if (chunk === "VP8X") {
    const u24 = (at: number) => b[at]! | (b[at + 1]! << 8) | (b[at + 2]! << 16);
    return { width: u24(24) + 1, height: u24(27) + 1 };
  }
  return {};
}
