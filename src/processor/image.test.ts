import { crc32 } from "node:zlib";
import { describe, expect, it, test } from "vitest";
import { type RgbImage, resizeBicubic, resizeInTurns, smartResize, toPatches } from "./image.ts";

/** The synthetic picture of qwen3-vl.md §11.4. */
function synthetic(height: number, width: number): RgbImage {
  const rgb = new Uint8Array(3 * height * width);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      rgb.set(
        [7 * x + 3 * y, x * x + 5 * y, x * y + 11 * x + 2 * y].map((v) => v % 256),
        3 * (y * width + x),
      );
    }
  }
  return { rgb, width, height };
}

const LIMITS = { factor: 32, minPixels: 65536, maxPixels: 16777216 };
const hex = (bytes: Uint8Array) => crc32(bytes).toString(16).padStart(8, "0");

// Source: qwen3-vl.md §11.4, the column of transformers' fast processor.
test.each([
  { from: [300, 200], to: [320, 224], source: "48856db9", resized: "b0969a65", sum: 27_407_646 },
  { from: [333, 517], to: [320, 512], source: "932476c6", resized: "bb3b9f51", sum: 62_663_675 },
  { from: [1000, 700], to: [992, 704], source: "ba8e9ad1", resized: "d6e59e00", sum: 267_246_210 },
  { from: [448, 448], to: [448, 448], source: "5b61cfbb", resized: "5b61cfbb", sum: undefined },
])("$from → $to is transformers' picture byte for byte", ({ from, to, source, resized, sum }) => {
  const [height, width] = from as [number, number];
  const image = synthetic(height, width);
  expect(hex(image.rgb)).toBe(source);
  const size = smartResize(height, width, LIMITS);
  expect([size.height, size.width]).toEqual(to);
  const small = resizeBicubic(image, size.height, size.width);
  expect(hex(small.rgb)).toBe(resized);
  if (sum) expect(small.rgb.reduce((a, b) => a + b, 0)).toBe(sum);
});

test("patches of 448×448 are transformers' pixel values", () => {
  const settings = { patchSize: 16, temporalPatchSize: 2, mergeSize: 2, mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5] };
  const pixels = toPatches([synthetic(448, 448)], settings);
  expect(pixels).toHaveLength(784 * 1536);
  const expectAt = (at: number, values: number[]) =>
    values.forEach((value, i) => void expect(pixels[at + i]).toBeCloseTo(value, 6));
  expectAt(0, [-1, -0.945098, -0.8901961, -0.8352941]);
  expectAt(256, [-1, -0.945098]);
  expectAt(512, [-1, -0.9921569]);
  expectAt(1536, [-0.1215686, -0.0666667]);
  expectAt(784 * 1536 - 2, [-0.1686275, -0.5921569]);
});

test("a resize in turns is the same, and can be cancelled while it goes on", async () => {
  const image = synthetic(2500, 2000);
  const whole = resizeBicubic(image, 640, 512);
  expect(hex((await resizeInTurns(image, 640, 512)).rgb)).toBe(hex(whole.rgb));
  const abort = new AbortController();
  const work = resizeInTurns(image, 640, 512, abort.signal);
  setTimeout(() => abort.abort());
  await expect(work).rejects.toMatchObject({ name: "Cancelled" });
});

describe("smart resize", () => {
  it.each<[string, [number, number], object, [number, number]]>([
    ["a single pixel grows to the least area", [1, 1], {}, [256, 256]],
    ["100 megapixels shrink into the budget", [10_000, 10_000], { maxPixels: 1024 * 1024 }, [1024, 1024]],
    ["a side stays a multiple of 32", [97, 61], { minPixels: 1 }, [96, 64]],
    ["rounding a half goes to the even multiple", [48, 80], { minPixels: 1 }, [64, 64]],
  ])("%s", (_, [height, width], limits, expected) => {
    const size = smartResize(height, width, { ...LIMITS, ...limits });
    expect([size.height, size.width]).toEqual(expected);
  });

  it("refuses a strip longer than 200 times its width by its size", () => {
    expect(() => smartResize(10, 2001, LIMITS)).toThrow(expect.objectContaining({ name: "BadImage" }));
    expect(() => smartResize(10, 2001, LIMITS)).toThrow(/2001/);
  });
});
