import { expect, test } from "vitest";
import { type FileTensor, ggufFile, type MetaValue } from "../../../e2e/gguf_file.ts";
import { isError } from "../../errors.ts";
import { BlobFileSet } from "../blob_files.ts";
import { peekGguf, readGgufFile } from "./container.ts";

const open = async (bytes: BlobPart) =>
  await readGgufFile(new BlobFileSet("t", [{ path: "m.gguf", file: new Blob([bytes]) }]), "m.gguf");

const METADATA: Record<string, MetaValue> = {
  "general.architecture": ["string", "qwen3vl"],
  "qwen3vl.block_count": ["u32", 1],
  "qwen3vl.rope.dimension_sections": ["array", "i32", [24, 20, 20, 0]],
};
const TENSORS: FileTensor[] = [
  { name: "output_norm.weight", shape: [2], type: "F32", bytes: new Uint8Array(Float32Array.of(1, 2).buffer) },
  { name: "t", shape: [2, 3], type: "F16", bytes: Uint8Array.of(0, 0, 0, 0x3c, 0, 0x40, 0, 0x42, 0, 0x44, 0, 0x45) },
];
const FILE = ggufFile(METADATA, TENSORS);

/** The file with some bytes written over. */
const changed = (at: number, ...bytes: number[]) => {
  const file = FILE.slice();
  file.set(bytes, at);
  return file;
};

test("the worked file of checkpoint-formats.md §4.2, byte by byte", async () => {
  expect(FILE.length).toBe(352);
  const hex = (from: number, to: number) => Buffer.from(FILE.subarray(from, to)).toString("hex");
  expect(hex(0, 24)).toBe("47475546030000000200000000000000" + "0300000000000000");
  expect(hex(0xe3, 0x10c)).toBe(
    "0100000000000000" + "74" + "02000000" + "0300000000000000" + "0200000000000000" + "01000000" + "2000000000000000",
  );
  const file = await open(FILE);
  expect([...file.metadata]).toEqual([
    ["general.architecture", "qwen3vl"],
    ["qwen3vl.block_count", 1],
    ["qwen3vl.rope.dimension_sections", [24, 20, 20, 0]],
  ]);
  expect(file.tensors).toEqual([
    { name: "output_norm.weight", dtype: "F32", shape: [2], file: "m.gguf", offset: 0x120, bytes: 8 },
    { name: "t", dtype: "F16", shape: [2, 3], file: "m.gguf", offset: 0x140, bytes: 12 },
  ]);
});

test("version 2, another alignment, an end without padding, and values of every type", async () => {
  expect((await open(ggufFile(METADATA, TENSORS, { version: 2 }))).tensors).toHaveLength(2);
  expect((await open(FILE.slice(0, 0x14c))).tensors[1]!.bytes).toBe(12);
  const every: Record<string, MetaValue> = {
    "general.alignment": ["u32", 128],
    a: ["u8", 200],
    b: ["i8", -3],
    c: ["u16", 60000],
    d: ["i16", -30000],
    e: ["i32", -5],
    f: ["f32", 0.5],
    g: ["bool", true],
    h: ["u64", 2 ** 40],
    i: ["i64", -(2 ** 40)],
    j: ["f64", 0.1],
    k: ["array", "string", ["", "é", "Ġ"]],
    l: ["array", "bool", [true, false]],
  };
  const file = await open(ggufFile(every, TENSORS, { alignment: 128 }));
  expect(Object.fromEntries(file.metadata)).toEqual(
    Object.fromEntries(Object.entries(every).map(([key, value]) => [key, value.at(-1)])),
  );
  expect(file.tensors.map(({ offset }) => offset % 128)).toEqual([0, 0]);
});

test("metadata that is longer than the first read is read to its end, and a peek reads no more than it needs", async () => {
  const long: Record<string, MetaValue> = {
    ...METADATA,
    long: ["array", "string", Array(40_000).fill("x".repeat(20))],
  };
  const set = new BlobFileSet("t", [{ path: "m.gguf", file: new Blob([ggufFile(long, TENSORS)]) }]);
  const reads: [number, number][] = [];
  const read = set.read.bind(set);
  set.read = async (path, offset, length) => {
    reads.push([offset, length]);
    return await read(path, offset, length);
  };
  expect((await peekGguf(set, "m.gguf", ["general.architecture"])).get("general.architecture")).toBe("qwen3vl");
  expect(reads).toEqual([[0, 1 << 20]]);
  const file = await readGgufFile(set, "m.gguf");
  expect(file.metadata.get("long")).toHaveLength(40_000);
  expect(reads).toHaveLength(3);
  expect(reads[2]![0]).toBe(1 << 20);
});

const info = (name: string, more: Partial<FileTensor>): FileTensor => ({ ...TENSORS[0]!, name, ...more });
test.each<[string, BlobPart, RegExp]>([
  ["nothing", new Uint8Array(0), /m\.gguf: expected a file that begins with GGUF, found only 0 bytes/],
  ["another file", "version https://git-lfs.github.com/spec/v1", /begins with GGUF, found "vers".*LFS/],
  ["big-endian", changed(4, 0, 0, 0, 3), /big-endian/],
  ["version 1", changed(4, 1), /version 2 or 3, found 1/],
  ["too many tensors", changed(8, 0xff, 0xff), /says 65535 tensors, but what follows has room for 10/],
  ["far too many", changed(14, 0xff, 0xff), /room for 10/],
  ["too many keys", changed(16, 0xff), /says 255 metadata keys.*room for 25/],
  ["an endless string", changed(0x38, 0xff, 0xff, 0xff), /needs 16777215 bytes from byte \d+ on, but the file has 352/],
  ["an endless array", changed(0x99, 0xff, 0xff), /elements of "qwen3vl.rope.dimension_sections"/],
  ["arrays of arrays", changed(0x95, 9), /array of plain values, found elements of type 9/],
  ["an unknown value type", changed(0x34, 13), /"general.architecture": expected a value type from 0 to 12, found 13/],
  ["a name that is not UTF-8", changed(0xeb, 0xff), /tensor 1: its name is not UTF-8/],
  ["a removed type", changed(0x100, 4), /tensor "t": its type is one that TabTune does not know \(ggml type 4\)/],
  ["a type that is not read", changed(0x100, 10), /tensor "t": its type is Q2_K \(ggml type 10\).*Q4_K_M/],
  ["a row that no block divides", changed(0x100, 8), /rows in Q8_0 need a multiple of 32 values, found 3/],
  ["an offset that is not aligned", changed(0x104, 0x21), /multiple of 32, found 33/],
  ["an overlap", changed(0x104, 0), /tensor "t" overlaps.*from byte 296 on, found 288/],
  ["an end beyond the file", FILE.slice(0, 0x14b), /tensor "t" ends at byte 332, but the file has 331.*truncated/],
  ["no dimensions", changed(0xec, 0), /1 to 4 dimensions, found 0/],
  ["five dimensions", changed(0xec, 5), /1 to 4 dimensions, found 5/],
  ["an empty dimension", changed(0xf0, 0), /positive numbers, found \[2, 0\]/],
  ["a product beyond everything", changed(0xf6, 0xff, 0xff), /shape of positive numbers/],
  ["two of one name", ggufFile(METADATA, [info("a", {}), info("a", {})]), /tensor "a" is there twice/],
  ["a long name", ggufFile(METADATA, [info("a".repeat(65), {})]), /1 to 64 bytes, found 65/],
  ["a bad alignment", ggufFile({ "general.alignment": ["u32", 33] }, []), /power of two up to 1048576, found 33/],
  ["a bool of 2", ggufFile({ a: ["u8", 2] }, []).map((b, i) => (i === 33 ? 7 : b)), /0 or 1\), found 2/],
])("%s is refused", async (_, bytes, message) => {
  const error: unknown = await open(bytes).catch((e: unknown) => e);
  expect(error).toBeInstanceOf(Error);
  expect((error as Error).message).toMatch(message);
  expect(isError(error, "BadCheckpoint") || isError(error, "UnsupportedModel")).toBe(true);
});

test("a key that is there twice is refused", async () => {
  const twice = ggufFile({ ab: ["u32", 1], ac: ["u32", 1] }, []);
  const at = Buffer.from(twice).indexOf("ac");
  twice[at + 1] = 0x62;
  await expect(open(twice)).rejects.toThrow(/metadata key "ab" is there twice/);
});
