import { expect, test } from "vitest";
import { AllocationWatch } from "../../e2e/fuzz_run.ts";
import { openZip, writeZip } from "./zip.ts";

const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
const bytesOf = async (blob: Blob) => new Uint8Array(await blob.arrayBuffer());
/** Offset of a record's signature, "PK" and two more bytes. */
const find = (bytes: Uint8Array, a: number, b: number) =>
  bytes.findIndex((_, i) => bytes[i] === 0x50 && bytes[i + 1] === 0x4b && bytes[i + 2] === a && bytes[i + 3] === b);

test("what is written comes back: packed text, stored bytes, Blobs", async () => {
  const zip = await writeZip([
    { path: "a/rows.jsonl", data: "äöü\n".repeat(500) },
    { path: "p.png", data: new Uint8Array([1, 2, 3]) },
    { path: "b.bin", data: new Blob(["blob"]) },
  ]);
  expect(zip.size).toBeLessThan(700);
  const files = await openZip(zip, "x.zip");
  expect(files.map(({ path, size }) => [path, size])).toEqual([
    ["a/rows.jsonl", 3500],
    ["p.png", 3],
    ["b.bin", 4],
  ]);
  expect(text(await files[0]!.read())).toBe("äöü\n".repeat(500));
  expect([...(await files[1]!.read())]).toEqual([1, 2, 3]);
  expect(text(await files[2]!.read())).toBe("blob");
});

test("damage is found: no archive, a cut one, changed bytes", async () => {
  await expect(openZip(new Blob(["hello"]), "no.zip")).rejects.toThrow(/no\.zip: it cannot be read as a zip/);
  const zip = await bytesOf(await writeZip([{ path: "p", data: new Uint8Array(1000).fill(7) }]));
  await expect(openZip(new Blob([zip.slice(0, 900)]), "cut.zip")).rejects.toThrow(/cut\.zip/);
  zip[500] = 8;
  const [file] = await openZip(new Blob([zip]), "bad.zip");
  await expect(file!.read()).rejects.toThrow(/“p” in it cannot be unpacked/);
});

test("sizes that the archive cannot hold are refused before anything is asked for", async () => {
  const zip = await bytesOf(await writeZip([{ path: "p", data: new Uint8Array(10) }]));
  const directory = find(zip, 1, 2);
  for (const [field, size] of [
    [20, 0x01000000],
    [24, 0x00100000],
  ] as const) {
    const changed = zip.slice();
    new DataView(changed.buffer).setUint32(directory + field, size, true);
    await expect(openZip(new Blob([changed]), "z.zip")).rejects.toThrow(/“p” in it is said to take .* cannot hold/);
  }
});

test("a bomb is refused before it is unpacked, and one that lies about its size while it is", async () => {
  const zip = await writeZip([{ path: "zeros", data: "0".repeat(40 << 20) }]);
  await expect(openZip(zip, "bomb.zip")).rejects.toThrow(/“zeros” in it would unpack from \d+ to 41943040 bytes/);
  const bytes = await bytesOf(zip);
  const view = new DataView(bytes.buffer);
  // Both places where the unpacked size stands now say 1000.
  view.setUint32(find(bytes, 1, 2) + 24, 1000, true);
  view.setUint32(find(bytes, 3, 4) + 22, 1000, true);
  const [file] = await openZip(new Blob([bytes]), "liar.zip");
  expect(file!.size).toBe(1000);
  await expect(file!.read()).rejects.toThrow(/liar\.zip: “zeros” in it cannot be unpacked/);
});

test("memory is asked for as bytes come out, not as the directory says", async () => {
  const data = Array.from({ length: 3000 }, (_, i) => (i * 7919) % 10_007).join();
  const bytes = await bytesOf(await writeZip([{ path: "p", data }]));
  // A megabyte, which so many packed bytes could hold.
  new DataView(bytes.buffer).setUint32(find(bytes, 1, 2) + 24, 1 << 20, true);
  const [file] = await openZip(new Blob([bytes]), "z.zip");
  const watch = new AllocationWatch();
  watch.start();
  const error = await file!.read().catch((e: unknown) => e);
  watch.stop();
  expect(String(error)).toMatch(/z\.zip: “p” in it (unpacks to 14\d+ bytes, expected 1048576|cannot be unpacked)/);
  expect(watch.largest).toBeLessThanOrEqual(1 << 16);
});

test("an archive that claims to be enormous is refused", async () => {
  const bytes = await bytesOf(await writeZip([{ path: "f", data: new Uint8Array(4) }]));
  new DataView(bytes.buffer).setUint32(find(bytes, 1, 2) + 24, 0xf0000000, true);
  await expect(openZip(new Blob([bytes]), "big.zip")).rejects.toThrow(/would unpack/);
});

test("reading stops when it is cancelled", async () => {
  const [file] = await openZip(await writeZip([{ path: "f", data: "x" }]), "c.zip");
  await expect(file!.read(AbortSignal.abort())).rejects.toThrow(/cancelled/);
});
