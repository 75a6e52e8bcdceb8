import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { DebugApi } from "../src/api/debug_protocol.ts";
import { type App, openApp } from "./browser.ts";
import { bmp, gif, withGamma, withOrientation } from "./picture_files.ts";
import { colourPng } from "./png.ts";
import { RandomCheckpoint } from "./random_checkpoint.ts";

/* What the model sees of a picture file: decoded by the browser, upright, on white, colours as stored. */

const checkpoint = new RandomCheckpoint({
  ...{ layers: 1, hidden: 32, heads: 1, kvHeads: 1, headDim: 32, ffn: 32, tied: true, vocabulary: 263 },
  vision: { depth: 2, hidden: 32, heads: 1, ffn: 32, taps: [0], positions: 16 },
});

const [WIDTH, HEIGHT] = [64, 128];
const RED = [200, 30, 30];
const GREEN = [30, 200, 30];
const BLUE = [30, 30, 200];
const YELLOW = [200, 200, 30];
/** A quarter of each colour: red, green above blue, yellow. */
const pixel = (x: number, y: number) => [RED, GREEN, BLUE, YELLOW][(x < WIDTH / 2 ? 0 : 1) + (y < HEIGHT / 2 ? 0 : 2)]!;

describe("a picture file", () => {
  let app: App;
  const folder = mkdtempSync(join(tmpdir(), "pictures-"));
  beforeAll(async () => {
    app = await openApp({ engineOnly: true, folders: { "/model/": checkpoint.folder, "/pictures/": folder } });
    await app.page.evaluate(async (base) => {
      await (tabtune.engine as unknown as DebugApi).debugLoad({ base, kv: "f32" });
    }, `${app.origin}/model/`);
  });
  afterAll(async () => {
    await app?.close();
    checkpoint.remove();
    rmSync(folder, { recursive: true });
  });

  /** Height, width, and the mean colours of the four corners (32×32 pixels each), as the model sees them. */
  async function corners(name: string, file: Buffer) {
    writeFileSync(join(folder, name), file);
    const { pixelValues, grid } = await app.page.evaluate(
      async ({ url, name }) => {
        const messages = [{ role: "user" as const, parts: [{ type: "image" as const, pictureId: name }] }];
        return await (tabtune.engine as unknown as DebugApi).debugForward({ messages, pictures: [{ name, url }] });
      },
      { url: `${app.origin}/pictures/${name}`, name },
    );
    const [, rows, cols] = grid[0]!;
    /** A block of four patches of [3][2][16][16] values from −1 to 1. */
    const mean = (block: number) =>
      [0, 1, 2].map((channel) => {
        let sum = 0;
        for (let patch = 0; patch < 4; patch++) {
          const at = (4 * block + patch) * 1536 + 512 * channel;
          for (let i = 0; i < 512; i++) sum += pixelValues[at + i]! / 2048;
        }
        return 127.5 * (sum + 1);
      });
    const across = cols! / 2;
    const last = (rows! / 2) * across - 1;
    return { height: 16 * rows!, width: 16 * cols!, corners: [0, across - 1, last - across + 1, last].map(mean) };
  }

  /** The canvas's own encoders: JPEG, WebP. */
  async function encoded(type: string): Promise<Buffer> {
    const png = colourPng(WIDTH, HEIGHT, pixel).toString("base64");
    const bytes = await app.page.evaluate(
      async ({ png, type }) => {
        const bitmap = await createImageBitmap(new Blob([Uint8Array.from(atob(png), (c) => c.charCodeAt(0))]));
        const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
        canvas.getContext("2d")!.drawImage(bitmap, 0, 0);
        const blob = await canvas.convertToBlob({ type, quality: 0.95 });
        return [...new Uint8Array(await blob.arrayBuffer())];
      },
      { png, type },
    );
    return Buffer.from(bytes);
  }

  /** Mean colours within `bound` of 255. */
  function expectColours(found: number[][], expected: number[][], bound: number): void {
    const worst = Math.max(...expected.flatMap((colour, i) => colour.map((v, c) => Math.abs(found[i]![c]! - v))));
    expect(worst, JSON.stringify(found)).toBeLessThanOrEqual(bound);
  }

  it.each<[string, () => Promise<Buffer> | Buffer, number]>([
    ["a.png", () => colourPng(WIDTH, HEIGHT, pixel), 0.01],
    ["a.bmp", () => bmp(WIDTH, HEIGHT, pixel), 0.01],
    ["a.gif", () => gif(WIDTH, HEIGHT, [RED, GREEN, BLUE, YELLOW], pixel), 0.01],
    ["a.jpg", async () => await encoded("image/jpeg"), 6],
    ["a.webp", async () => await encoded("image/webp"), 6],
    // The name says nothing: the first bytes do.
    ["png.jpg", () => colourPng(WIDTH, HEIGHT, pixel), 0.01],
  ])("%s is opened", async (name, make, bound) => {
    const seen = await corners(name, await make());
    expect(seen).toMatchObject({ width: WIDTH, height: HEIGHT });
    expectColours(seen.corners, [RED, GREEN, BLUE, YELLOW], bound);
  });

  it.each([
    [1, [RED, GREEN, BLUE, YELLOW]],
    [2, [GREEN, RED, YELLOW, BLUE]],
    [3, [YELLOW, BLUE, GREEN, RED]],
    [4, [BLUE, YELLOW, RED, GREEN]],
    [5, [RED, BLUE, GREEN, YELLOW]],
    [6, [BLUE, RED, YELLOW, GREEN]],
    [7, [YELLOW, GREEN, BLUE, RED]],
    [8, [GREEN, YELLOW, RED, BLUE]],
  ])("is turned upright by its EXIF orientation (%i)", async (orientation, expected) => {
    const seen = await corners(`turned${orientation}.jpg`, withOrientation(await encoded("image/jpeg"), orientation));
    const isTurned = orientation > 4;
    expect([seen.width, seen.height]).toEqual(isTurned ? [HEIGHT, WIDTH] : [WIDTH, HEIGHT]);
    expectColours(seen.corners, expected, 6);
  });

  it("with holes is laid on white", async () => {
    const alpha = [255, 128, 0, 255];
    const half = (v: number) => (v * 128 + 255 * 127) / 255;
    const file = colourPng(WIDTH, HEIGHT, (x, y) => {
      const quarter = (x < WIDTH / 2 ? 0 : 1) + (y < HEIGHT / 2 ? 0 : 2);
      return [...pixel(x, y), alpha[quarter]!];
    });
    const white = [255, 255, 255];
    expectColours((await corners("alpha.png", file)).corners, [RED, GREEN.map(half), white, YELLOW], 1.5);
  });

  it("keeps its colours as they are stored, whatever gamma it claims", async () => {
    const seen = await corners("gamma.png", withGamma(colourPng(WIDTH, HEIGHT, pixel), 1));
    expectColours(seen.corners, [RED, GREEN, BLUE, YELLOW], 0.01);
  });

  it("finds what an earlier one of its size left, and comes out bit for bit as if there had been none", async () => {
    const urls = [
      [WIDTH, HEIGHT, 1],
      [WIDTH, HEIGHT, 3],
      [HEIGHT, HEIGHT, 5],
    ].map(([width, height, step], i) => {
      writeFileSync(
        join(folder, `size${i}.png`),
        colourPng(width!, height!, (x, y) => [(x * step!) & 255, y, x ^ y]),
      );
      return `${app.origin}/pictures/size${i}.png`;
    });
    // The first two have the same size.
    const order = [0, 1, 2, 0, 2, 1];
    const { fresh, again } = await app.page.evaluate(
      async ({ urls, order }) => {
        const { debugEncode } = tabtune.engine as unknown as DebugApi;
        return {
          fresh: await debugEncode(urls.map((url) => ({ url, fresh: true }))),
          again: await debugEncode([
            ...order.map((i) => ({ url: urls[i]! })),
            { url: urls[2]!, cancel: true },
            { url: urls[2]! },
            { url: urls[0]!, cancel: true },
            { url: urls[1]! },
          ]),
        };
      },
      { urls, order },
    );
    expect(fresh.map(({ list }) => list)).toEqual([0, 1, 2]);
    expect(fresh[0]!.features).toHaveLength(2);
    expect(fresh[0]!.features[1]).not.toEqual(fresh[1]!.features[1]);
    // The larger size takes a larger workspace, which then does for both.
    expect(again.map(({ list }) => list)).toEqual([0, 0, 1, 2, 1, 2, -1, 1, -1, 2]);
    const expected = [...order, -1, 2, -1, 1].map((i) => fresh[i]?.features ?? []);
    expect(again.map(({ features }) => features)).toEqual(expected);
    expect(again.map(({ kept }) => kept > 0)).toEqual(again.map(() => true));
    expect(again.map(({ left }) => left)).toEqual(again.map(() => 0));
  });
});
