import { expect, it } from "vitest";
import { explainBadPicture, hashPicture } from "./picture_file.ts";

const file = (...parts: BlobPart[]) => new Blob(parts);

it.each([
  [file("PK\x03\x04rest"), "ZIP archive"],
  [file("%PDF-1.7"), "PDF"],
  [file("\0\0\0\x18ftypheic\0\0\0\0"), "HEIC"],
  [file("\0\0\0\x18ftypisom\0\0\0\0"), "video"],
  [file("II*\0"), "TIFF"],
  [file(" <!DOCTYPE html><p>"), "web page"],
  [file(new Uint8Array([0x1f, 0x8b, 8])), "gzip"],
  [file("Dear Sir or Madam,\n\tthank you."), "plain text"],
  [file(""), "empty"],
  [file(new Uint8Array([0x89, 0x50, 0x4e, 0x47, 0, 0])), "damaged"],
])("says what a bad file is and names it (%#)", async (blob, word) => {
  const message = await explainBadPicture(blob, "cat.png");
  expect(message).toContain("cat.png");
  expect(message).toContain(word);
});

it("names pictures by their content", async () => {
  expect(await hashPicture(file("abc"))).toBe("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
});
