import { expect, test } from "vitest";
import { isError, TabTuneError } from "../errors.ts";
import { BlobFileSet } from "./blob_files.ts";
import { openCheckpoint } from "./open_checkpoint.ts";
import { parseSafetensorsHeader, readSafetensorsHeader, writeSafetensors } from "./safetensors.ts";

const floats = (...values: number[]) => new Uint8Array(new Float32Array(values).buffer);
const small = () =>
  writeSafetensors([
    { name: "a", dtype: "F32", shape: [2, 3], bytes: floats(1, 2, 3, 4, 5, 6) },
    { name: "b.weight", dtype: "BF16", shape: [2], bytes: new Uint8Array([0x80, 0x3f, 0x00, 0xc0]) },
    { name: "empty", dtype: "F32", shape: [0, 4], bytes: new Uint8Array(0) },
  ]);
const folder = (files: Record<string, BlobPart>) =>
  new BlobFileSet(
    "test",
    Object.entries(files).map(([path, data]) => ({ path, file: new Blob([data]) })),
  );
/** A file with this header, whatever it says, and `data` bytes after it. */
function withHeader(header: unknown, data: number): Uint8Array<ArrayBuffer> {
  const json = new TextEncoder().encode(typeof header === "string" ? header : JSON.stringify(header));
  const file = new Uint8Array(8 + json.length + data);
  new DataView(file.buffer).setUint32(0, json.length, true);
  file.set(json, 8);
  return file;
}
const tensor = (dtype: unknown, shape: unknown, range: unknown) => ({ dtype, shape, data_offsets: range });

test("the worked file of the format's description", async () => {
  const json =
    '{"__metadata__":{"format":"pt"},"a":{"dtype":"BF16","shape":[2,2],"data_offsets":[0,8]},"s":{"dtype":"U8","shape":[3],"data_offsets":[8,11]}}';
  const file = withHeader(`${json}   `, 11);
  expect(file.length).toBe(163);
  const { tensors } = await readSafetensorsHeader(folder({ "x.safetensors": file }), "x.safetensors");
  expect(tensors).toEqual([
    { name: "a", dtype: "BF16", shape: [2, 2], file: "x.safetensors", offset: 152, bytes: 8 },
    { name: "s", dtype: "U8", shape: [3], file: "x.safetensors", offset: 160, bytes: 3 },
  ]);
});

test("what is written is read back", async () => {
  const files = folder({ "config.json": '{"model_type":"x"}', "model.safetensors": small() });
  const checkpoint = await openCheckpoint(files);
  expect(checkpoint.config).toEqual({ model_type: "x" });
  expect([...checkpoint.tensors.keys()]).toEqual(["a", "b.weight", "empty"]);
  expect(await checkpoint.readRows("a", 1, 1)).toEqual(floats(4, 5, 6));
  expect(await checkpoint.readRows("b.weight", 1, 1)).toEqual(new Uint8Array([0x00, 0xc0]));
  expect(await checkpoint.readRows("empty", 0, 0)).toEqual(new Uint8Array(0));
  await expect(checkpoint.readRows("c", 0, 1)).rejects.toThrow(/expected a tensor "c"/);
});

const lies: [string, Uint8Array<ArrayBuffer>, RegExp][] = [
  ["nothing", new Uint8Array(0), /only 0 bytes/],
  ["a few bytes", new Uint8Array(9), /only 9 bytes/],
  ["a Git LFS pointer", new TextEncoder().encode("version https://git-lfs.github.com/spec/v1\noid sha256:0"), /LFS/],
  ["a length beyond the file", withHeader("{}", 0).fill(200, 0, 1), /header says 200 bytes.*truncated/],
  ["a length of 2^60", withHeader("{}", 0).fill(16, 7, 8), /header length/],
  ["no JSON", withHeader("{nonsense}", 0), /not valid JSON/],
  ["bad UTF-8", withHeader("{}xx", 0).fill(0xff, 9, 11), /not valid JSON/],
  ["an array", withHeader("[]", 0), /not a JSON object/],
  ["a tensor that is no object", withHeader({ a: 1 }, 0), /known dtype/],
  ["an unknown dtype", withHeader({ a: tensor("F12", [1], [0, 1]) }, 1), /"a": expected a known dtype.*"F12"/],
  ["a dtype from the prototype", withHeader({ a: tensor("constructor", [1], [0, 1]) }, 1), /known dtype/],
  ["a negative shape", withHeader({ a: tensor("F32", [-1], [0, 4]) }, 4), /whole numbers/],
  ["a fractional shape", withHeader({ a: tensor("F32", [1.5], [0, 6]) }, 6), /whole numbers/],
  ["a shape that overflows", withHeader({ a: tensor("F32", [2 ** 40, 2 ** 40], [0, 4]) }, 4), /needs/],
  ["a shape that is text", withHeader({ a: tensor("F32", "1", [0, 4]) }, 4), /whole numbers/],
  ["offsets the wrong way round", withHeader({ a: tensor("F32", [1], [4, 0]) }, 4), /data_offsets/],
  ["three offsets", withHeader({ a: tensor("F32", [1], [0, 4, 8]) }, 4), /data_offsets/],
  ["offsets of other length", withHeader({ a: tensor("F32", [2], [0, 4]) }, 4), /needs 8 bytes.*hold 4/],
  ["offsets outside the file", withHeader({ a: tensor("F32", [1], [0, 4]) }, 3), /truncated/],
  ["offsets far outside", withHeader({ a: tensor("U8", [2 ** 50], [0, 2 ** 50]) }, 4), /truncated/],
  ["bytes after the last tensor", withHeader({ a: tensor("F32", [1], [0, 4]) }, 9), /Bytes follow/],
  ["a gap", withHeader({ a: tensor("F32", [1], [4, 8]) }, 8), /leaves a gap/],
  [
    "tensors that overlap",
    withHeader({ a: tensor("F32", [2], [0, 8]), b: tensor("F32", [2], [4, 12]) }, 12),
    /"b" overlaps/,
  ],
  [
    "a tensor twice",
    withHeader(
      '{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"\\u0061":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}',
      1,
    ),
    /names a tensor twice/,
  ],
];
test.each(lies)("%s is refused with a reason", async (_, file, message) => {
  const files = folder({ "m.safetensors": file });
  const error: unknown = await readSafetensorsHeader(files, "m.safetensors").catch((e: unknown) => e);
  expect(isError(error, "BadCheckpoint"), String(error)).toBe(true);
  expect((error as Error).message).toMatch(message);
  expect((error as Error).message.length).toBeLessThan(600);
});

test("a truncated file is refused at every length", async () => {
  const file = small();
  for (let length = 0; length < file.length; length++) {
    const files = folder({ "m.safetensors": file.slice(0, length) });
    await expect(readSafetensorsHeader(files, "m.safetensors")).rejects.toThrow(/m\.safetensors/);
  }
});

test("mutated headers either parse to tensors inside the file or are refused, and quickly", () => {
  const file = small();
  const length = new DataView(file.buffer).getUint32(0, true);
  const header = file.slice(8, 8 + length);
  let seed = 12345;
  const random = (n: number) => {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    return Math.floor((seed / 2 ** 32) * n);
  };
  const scraps = ["{", "}", "[", '"', ",", ":", "-1", "1e308", "9".repeat(30), "null", '{"a":', "\\u0000", " "];
  let parsed = 0;
  const started = performance.now();
  for (let round = 0; round < 5000; round++) {
    let text = String.fromCharCode(...header);
    for (let change = random(3); change >= 0; change--) {
      const at = random(text.length);
      const kind = random(4);
      if (kind === 0) text = text.slice(0, at) + String.fromCharCode(random(256)) + text.slice(at + 1);
      else if (kind === 1) text = text.slice(0, at) + scraps[random(scraps.length)] + text.slice(at);
      else if (kind === 2) text = text.slice(0, at) + text.slice(at + random(12));
      else text = text.replace(/\d+/g, (digits) => (random(4) === 0 ? String(random(40)) : digits));
    }
    const bytes = Uint8Array.from(text, (c) => c.charCodeAt(0));
    const size = 8 + bytes.length + (file.length - 8 - length);
    try {
      for (const { offset, bytes: n, shape } of parseSafetensorsHeader("m", bytes, size)) {
        expect(offset >= 8 + bytes.length && offset + n <= size && shape.length <= 16).toBe(true);
      }
      parsed++;
    } catch (error) {
      if (!(error instanceof TabTuneError)) throw error;
    }
  }
  expect(parsed).toBeGreaterThan(0);
  expect(parsed).toBeLessThan(4000);
  expect(performance.now() - started).toBeLessThan(10_000);
});

test("a deeply nested header is refused, not followed", () => {
  const bytes = new TextEncoder().encode(`{"a":${"[".repeat(2_000_000)}`);
  expect(() => parseSafetensorsHeader("m", bytes, bytes.length + 8)).toThrow(/not valid JSON/);
});

const shard1 = () => writeSafetensors([{ name: "a", dtype: "F32", shape: [1], bytes: floats(1) }]);
const shard2 = () => writeSafetensors([{ name: "b", dtype: "F32", shape: [1], bytes: floats(2) }]);
const index = (map: unknown) => JSON.stringify({ metadata: {}, weight_map: map });
const sharded = (map: unknown, more: Record<string, BlobPart> = {}) =>
  folder({
    "config.json": "{}",
    "model.safetensors.index.json": index(map),
    "m-1.safetensors": shard1(),
    "m-2.safetensors": shard2(),
    ...more,
  });

test("shards are joined by their own headers", async () => {
  const checkpoint = await openCheckpoint(sharded({ a: "m-1.safetensors", b: "m-2.safetensors" }));
  expect([...checkpoint.tensors.keys()]).toEqual(["a", "b"]);
  expect(await checkpoint.readRows("b", 0, 1)).toEqual(floats(2));
});

test.each<[string, unknown, Record<string, BlobPart>, RegExp]>([
  ["a tensor that its shard does not have", { a: "m-1.safetensors", c: "m-2.safetensors" }, {}, /"c" is in m-2/],
  ["a shard that is missing", { a: "m-1.safetensors", b: "m-3.safetensors" }, {}, /1 are missing: m-3/],
  ["a way out of the folder", { a: "../m-1.safetensors" }, {}, /same folder/],
  ["an address", { a: "https://x/y.safetensors" }, {}, /same folder/],
  ["no map", [1], {}, /weight_map/],
  ["an empty map", {}, {}, /1 to 1000/],
  [
    "the same tensor in two shards",
    { a: "m-1.safetensors", b: "m-2.safetensors" },
    { "m-2.safetensors": shard1() },
    /in both/,
  ],
])("an index with %s is refused", async (_, map, more, message) => {
  await expect(openCheckpoint(sharded(map, more))).rejects.toThrow(message);
});

test("a folder that holds a whole file beside an incomplete index uses the file", async () => {
  const files = sharded({ a: "m-1.safetensors", b: "gone.safetensors" }, { "model.safetensors": small() });
  expect((await openCheckpoint(files)).tensors.has("b.weight")).toBe(true);
});

test("folders without a checkpoint say what is missing", async () => {
  await expect(openCheckpoint(folder({ "photo.jpg": "x" }))).rejects.toThrow(/no config\.json/);
  await expect(openCheckpoint(folder({ "config.json": "{}" }))).rejects.toThrow(/found neither/);
  await expect(openCheckpoint(folder({ "config.json": "{" }))).rejects.toThrow(/not valid JSON/);
});

test("a picked folder's own name is taken off its paths", async () => {
  const files = new BlobFileSet("picked", [
    { path: "picked/config.json", file: new Blob(["{}"]) },
    { path: "picked/model.safetensors", file: new Blob([small()]) },
  ]);
  expect((await openCheckpoint(files)).tensors.size).toBe(3);
});

test("the fingerprint follows config, headers and weights", async () => {
  const base = { "config.json": "{}", "model.safetensors": small() };
  const print = async (files: Record<string, BlobPart>) => (await openCheckpoint(folder(files))).fingerprint;
  const first = await print(base);
  expect(await print(base)).toBe(first);
  expect(await print({ ...base, "config.json": '{"x":1}' })).not.toBe(first);
  expect(await print({ ...base, "model.safetensors": shard1() })).not.toBe(first);
  const retrained = small();
  retrained[retrained.length - 7]! ^= 1;
  expect(await print({ ...base, "model.safetensors": retrained })).not.toBe(first);
});
