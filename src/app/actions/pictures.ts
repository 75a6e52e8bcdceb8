import type { Picture, PictureInfo } from "../../api/index.ts";
import { isError } from "../../errors.ts";
import { engine } from "../engine_link.ts";
import { canShow, explainBadPicture, hashPicture } from "../picture_file.ts";
import {
  conversation,
  draft,
  type Example,
  examples,
  loaded,
  pictureBudget,
  pictureInfos,
  pictureKey,
  reading,
  rejected,
  suggestions,
} from "../state.ts";
import { attempt, messageOf, toast } from "./notices.ts";
import { writeSetting } from "./settings.ts";

/** Reads dropped, pasted or picked files. Those that are no pictures are listed with the reason. */
export async function readPictures(files: Iterable<File>): Promise<Picture[]> {
  const taken: Picture[] = [];
  for (const file of files) {
    reading.value++;
    try {
      if (!(await canShow(file))) reject(file.name, await explainBadPicture(file, file.name));
      else
        taken.push({ id: await hashPicture(file), name: file.name || "picture", blob: file, ...pictureBudget.peek() });
    } catch (error) {
      reject(file.name, `${file.name} could not be read: ${messageOf(error)}`);
    } finally {
      reading.value--;
    }
  }
  return taken;
}

/** Adds files to the message that is being written. */
export async function addPictures(files: Iterable<File>): Promise<void> {
  rejected.value = [];
  for (const picture of await readPictures(files)) addToDraft(picture);
}

function addToDraft(picture: Picture): void {
  if (draft.value.pictures.some((p) => p.id === picture.id)) return;
  // The same picture in one conversation keeps the budget that it has there.
  const earlier = conversation.value.pictures.find((p) => p.id === picture.id);
  draft.value = { ...draft.value, pictures: [...draft.value.pictures, earlier ?? picture] };
  void inspect(earlier ?? picture);
}

function reject(name: string, message: string): void {
  rejected.value = [...rejected.value.filter((r) => r.name !== name), { name, message }];
}

export function removeFromDraft(id: string): void {
  draft.value = { ...draft.value, pictures: draft.value.pictures.filter((p) => p.id !== id) };
  if (draft.value.pictures.length === 0) suggestions.value = [];
}

/** Sets the pixel budget of a picture of the draft; `undefined` goes back to the model's own. */
export function setBudget(id: string, minPixels: number | undefined, maxPixels: number | undefined): void {
  const pictures = draft.value.pictures.map((picture) => {
    if (picture.id !== id) return picture;
    const { minPixels: _, maxPixels: __, ...rest } = picture;
    return { ...rest, ...(minPixels ? { minPixels } : {}), ...(maxPixels ? { maxPixels } : {}) };
  });
  draft.value = { ...draft.value, pictures };
  for (const picture of pictures) if (picture.id === id) void inspect(picture);
}

/** The pixel budget that pictures get when they are added. */
export function keepBudget(minPixels: number | undefined, maxPixels: number | undefined): void {
  pictureBudget.value = { ...(minPixels ? { minPixels } : {}), ...(maxPixels ? { maxPixels } : {}) };
  void writeSetting("pictureBudget", pictureBudget.value);
  toast("New pictures start with this pixel budget.");
}

const asked = new Set<string>();

/** Asks the model what it will see of a picture. A picture that it cannot read leaves the draft, with the reason. */
export async function inspect(picture: Picture): Promise<void> {
  const model = loaded.peek();
  const key = pictureKey(picture);
  if (!model || asked.has(key) || pictureInfos.peek().has(key)) return;
  asked.add(key);
  try {
    const info = await engine().inspectPicture(picture);
    if (loaded.peek()?.id === model.id) addInfos([[key, info]]);
  } catch (error) {
    const inDraft = draft.peek().pictures.some((p) => pictureKey(p) === key);
    if (inDraft && (isError(error, "BadImage") || isError(error, "BadInput"))) {
      removeFromDraft(picture.id);
      reject(picture.name, messageOf(error));
    }
  } finally {
    asked.delete(key);
  }
}

export function addInfos(infos: Iterable<readonly [string, PictureInfo]>): void {
  pictureInfos.value = new Map([...pictureInfos.peek(), ...infos]);
}

/** After another model was loaded, sizes and costs are asked for again. */
export function inspectAgain(): void {
  pictureInfos.value = new Map();
  for (const picture of [...draft.peek().pictures, ...conversation.peek().pictures]) void inspect(picture);
}

// ── Example charts ──

const exampleAddress = (file: string) => new URL(`examples/${file}`, document.baseURI).href;
export const examplePicture = (example: Example) => exampleAddress(example.file);

/** The list is part of the app; without it the page simply shows no examples. */
export async function loadExamples(): Promise<void> {
  try {
    const response = await fetch(exampleAddress("index.json"));
    if (!response.ok) return;
    const list: unknown = await response.json();
    if (!Array.isArray(list)) return;
    examples.value = list.filter(
      (e): e is Example => typeof e?.file === "string" && typeof e?.title === "string" && Array.isArray(e?.questions),
    );
  } catch {}
}

/** Puts an example into the draft and offers its questions. */
export async function takeExample(example: Example): Promise<void> {
  await attempt(`The example ${example.title} could not be opened`, async () => {
    const response = await fetch(examplePicture(example));
    if (!response.ok) throw new Error(`the server answered ${response.status}`);
    const blob = await response.blob();
    draft.value = { ...draft.value, pictures: [] };
    await addPictures([new File([blob], example.file.split("/").pop()!, { type: blob.type })]);
    suggestions.value = example.questions.filter((q) => typeof q === "string");
  });
}

/** Puts a picture into the clipboard's place: files of a paste event. Says so when there is nothing to take. */
export function filesOf(data: DataTransfer | null): File[] {
  const files = [...(data?.files ?? [])];
  if (files.length === 0 && data?.types.includes("text/uri-list"))
    toast("Drop or paste picture files. Pictures on other sites are not fetched.");
  return files;
}
