import { expect, it } from "vitest";
import type { Conversation } from "../api/index.ts";
import { readConversationFile, writeConversationFile } from "./conversation_file.ts";
import { hashPicture } from "./picture_file.ts";

const blob = new Blob([new Uint8Array([0, 255, 128, 7])], { type: "image/webp" });

async function example(): Promise<Conversation> {
  const id = await hashPicture(blob);
  return {
    id: "c1",
    title: "Über Bilder",
    created: 5,
    updated: 6,
    system: "Be short.",
    sampling: {
      temperature: 0.5,
      topK: 20,
      topP: 0.8,
      minP: 0,
      repetitionPenalty: 1,
      presencePenalty: 1.5,
      seed: 7,
      maxTokens: 99,
      stop: ["\n"],
    },
    messages: [
      {
        id: "m1",
        role: "user",
        parts: [
          { type: "image", pictureId: id },
          { type: "text", text: "What? 🦙" },
        ],
      },
      { id: "m2", role: "assistant", parts: [{ type: "text", text: "A cat." }], modelName: "Demo" },
    ],
    pictures: [{ id, name: "cat.webp", blob, maxPixels: 65536 }],
  };
}

it("brings a conversation back with its pictures, under ids of its own", async () => {
  const before = await example();
  const after = await readConversationFile(await (await writeConversationFile(before)).text());
  expect(after.id).not.toBe(before.id);
  expect(after).toMatchObject({ title: before.title, system: before.system, sampling: before.sampling });
  expect(after.messages.map(({ role, parts, modelName }) => ({ role, parts, modelName }))).toEqual(
    before.messages.map(({ role, parts, modelName }) => ({ role, parts, modelName })),
  );
  const [picture] = after.pictures;
  expect(picture).toMatchObject({ id: before.pictures[0]!.id, name: "cat.webp", maxPixels: 65536 });
  expect(picture!.blob.type).toBe("image/webp");
  expect(new Uint8Array(await picture!.blob.arrayBuffer())).toEqual(new Uint8Array([0, 255, 128, 7]));
});

// biome-ignore lint/suspicious/noExplicitAny: a tree of JSON that tests break on purpose
type Written = Record<string, any>;

const broken = async (edit: (file: Written) => void) => {
  const file = JSON.parse(await (await writeConversationFile(await example())).text());
  edit(file);
  return JSON.stringify(file);
};

it.each<[string, (file: Written) => void]>([
  ["format", (f) => (f.format = "x")],
  ["version 1", (f) => (f.version = 2)],
  ["messages", (f) => (f.messages = {})],
  ["message 1", (f) => (f.messages[0].role = "root")],
  ["message 1", (f) => (f.messages[0].parts[0].pictureId = "elsewhere")],
  ["picture 1", (f) => (f.pictures[0].data = "%%%")],
  ["picture 1", (f) => (f.pictures[0] = null)],
])("refuses a file and says why: %s", async (word, edit) => {
  const error = await readConversationFile(await broken(edit)).catch((e: Error) => e);
  expect(error).toMatchObject({ name: "BadInput" });
  expect((error as Error).message).toContain(word);
});

it("refuses what is not JSON", async () => {
  await expect(readConversationFile("PK\x03\x04")).rejects.toMatchObject({ name: "BadInput" });
});

it("drops settings that are not numbers and types that are no pictures", async () => {
  const text = await broken((f) => {
    f.sampling.topK = "many";
    f.pictures[0].type = "text/html";
  });
  const after = await readConversationFile(text);
  expect(after.sampling).toBeUndefined();
  expect(after.pictures[0]!.blob.type).toBe("image/png");
});
