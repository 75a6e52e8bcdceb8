/** What a file is by its first bytes, where that is certain and is not a picture that browsers show, and what to do instead. */
const NOT_PICTURES: [name: string, test: (bytes: Uint8Array, text: string) => boolean][] = [
  [
    "a ZIP archive, or an Office document. Unpack it, and drop the pictures from it (a ZIP of training rows belongs on the Train page)",
    (b, t) => t.startsWith("PK") && [3, 5, 7].includes(b[2] ?? 0),
  ],
  ["a PDF document. Export the page you mean as PNG, or drop a screenshot of it", (_, t) => t.startsWith("%PDF")],
  ["a HEIC photo. Export it as JPEG or PNG", (_, t) => /^....ftyp(heic|heix|hevc|mif1|msf1)/s.test(t)],
  ["a video. Drop single frames of it as pictures", (_, t) => /^....ftyp/s.test(t) || t.startsWith("\x1aE\xdf\xa3")],
  ["a TIFF picture. Export it as PNG", (_, t) => /^(II\*\0|MM\0\*)/.test(t)],
  ["a web page. Save the picture itself from it, or drop a screenshot", (_, t) => /^\s*<(!doctype html|html)/i.test(t)],
  ["a gzip archive. Unpack it, and drop the pictures from it", (b) => b[0] === 0x1f && b[1] === 0x8b],
  ["plain text. Paste it into the message itself", (b) => b.length > 3 && b.every(isTextByte)],
];

/** Bytes of UTF-8 text: no control characters but tab and line ends. */
function isTextByte(byte: number): boolean {
  return byte >= 32 ? byte !== 127 : byte === 9 || byte === 10 || byte === 13;
}

/** One sentence that names the file and says what it is instead of a picture. */
export async function explainBadPicture(file: Blob, name: string): Promise<string> {
  if (file.size === 0) return `${name} is empty (0 bytes). Was it copied completely?`;
  if (/\.(safetensors|gguf|onnx)$/i.test(name))
    return `${name} is a model's weights, not a picture. Open the folder that it lies in on the Models page.`;
  const bytes = new Uint8Array(await file.slice(0, 64).arrayBuffer());
  const text = String.fromCharCode(...bytes);
  const found = NOT_PICTURES.find(([, test]) => test(bytes, text))?.[0];
  if (found) return `${name} is not a picture this page can open: it is ${found}.`;
  return `${name} is not a picture that this browser can open. PNG, JPEG, WebP, GIF, AVIF and BMP work; the file may also be damaged.`;
}

/** The content hash that names a picture: SHA-256, hexadecimal. */
export async function hashPicture(file: Blob): Promise<string> {
  const digest = await crypto.subtle.digest("SHA-256", await file.arrayBuffer());
  return [...new Uint8Array(digest)].map((b) => b.toString(16).padStart(2, "0")).join("");
}

const addresses = new Map<string, string>();

/** An address under which the page can show a picture's bytes; one for each picture, for as long as the page lives. */
export function pictureAddress(picture: { id: string; blob: Blob }): string {
  let address = addresses.get(picture.id);
  if (!address) {
    address = URL.createObjectURL(picture.blob);
    addresses.set(picture.id, address);
  }
  return address;
}

/** True when the browser can show the file as a picture. Nothing is kept. */
export async function canShow(file: Blob): Promise<boolean> {
  const address = URL.createObjectURL(file);
  try {
    const image = new Image();
    image.src = address;
    await new Promise((resolve, reject) => {
      image.onload = resolve;
      image.onerror = reject;
    });
    return image.naturalWidth > 0;
  } catch {
    return false;
  } finally {
    URL.revokeObjectURL(address);
  }
}
