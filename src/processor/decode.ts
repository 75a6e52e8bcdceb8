import { TabTuneError, throwIfCancelled } from "../errors.ts";
import type { RgbImage } from "./image.ts";
import { readImageHeader } from "./image_header.ts";

/** Decoding takes 4 bytes a pixel: above this a tab may be killed. */
const MAX_MEGAPIXELS = 120;

const BAND_PIXELS = 1 << 20;

/** Copies the colours of opaque RGBA. */
function dropAlpha(rgba: Uint8ClampedArray, rgb: Uint8Array): void {
  for (let i = 0, o = 0; i < rgba.length; i += 4, o += 3) {
    rgb[o] = rgba[i]!;
    rgb[o + 1] = rgba[i + 1]!;
    rgb[o + 2] = rgba[i + 2]!;
  }
}

/** Opens a picture that the browser knows, upright. Throws `BadImage` that names the file, what it is, and what to do. */
async function openImage(blob: Blob, name: string): Promise<ImageBitmap> {
  const header = readImageHeader(new Uint8Array(await blob.slice(0, 1 << 16).arrayBuffer()));
  const isNone = (cause?: unknown) =>
    new TabTuneError(
      "BadImage",
      `“${name}” is not a picture: expected PNG, JPEG, WebP, GIF, BMP or AVIF, found ${header.kind}. Export it as PNG or JPEG and try again.`,
      { cause },
    );
  if (header.isImage === false) throw isNone();
  const megapixels = ((header.width ?? 0) * (header.height ?? 0)) / 1e6;
  if (megapixels > MAX_MEGAPIXELS) {
    throw new TabTuneError(
      "BadImage",
      `“${name}” has ${header.width} × ${header.height} pixels (${Math.round(megapixels)} megapixels); at most ${MAX_MEGAPIXELS} can be opened. Make it smaller first.`,
    );
  }
  try {
    return await createImageBitmap(blob, {
      imageOrientation: "from-image",
      premultiplyAlpha: "none",
      colorSpaceConversion: "none",
    });
  } catch (cause) {
    if (!header.isImage) throw isNone(cause);
    throw new TabTuneError(
      "BadImage",
      `“${name}” looks like ${header.kind} but this browser cannot open it: the file is damaged, or the format is not supported here. Export it as PNG or JPEG and try again.`,
      { cause },
    );
  }
}

/** The size of a picture that can be decoded. Throws `BadImage` like `decodeImage`. */
export async function probeImage(blob: Blob, name: string): Promise<{ width: number; height: number }> {
  const bitmap = await openImage(blob, name);
  const { width, height } = bitmap;
  bitmap.close();
  return { width, height };
}

/**
 * Decodes any picture that the browser knows, upright by its EXIF orientation, colours as stored, alpha flattened on white.
 * Throws `BadImage` that names the file, what it is, and what to do; `Cancelled` between two bands.
 */
export async function decodeImage(blob: Blob, name: string, signal?: AbortSignal): Promise<RgbImage> {
  const bitmap = await openImage(blob, name);
  try {
    const { width, height } = bitmap;
    const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
    if (!context)
      throw new TabTuneError("BadImage", `“${name}” (${width} × ${height}) is too large for this browser's canvas.`);
    // Drawn over white: whatever is transparent ends up flattened.
    context.fillStyle = "#ffffff";
    context.fillRect(0, 0, width, height);
    context.drawImage(bitmap, 0, 0);
    // In bands, so that a large photo is not in memory once more as RGBA.
    const rgb = new Uint8Array(width * height * 3);
    const band = Math.max(1, Math.floor(BAND_PIXELS / width));
    for (let y = 0; y < height; y += band) {
      const rows = Math.min(band, height - y);
      dropAlpha(context.getImageData(0, y, width, rows).data, rgb.subarray(y * width * 3));
      await new Promise((resolve) => setTimeout(resolve));
      throwIfCancelled(signal);
    }
    return { rgb, width, height };
  } finally {
    bitmap.close();
  }
}
