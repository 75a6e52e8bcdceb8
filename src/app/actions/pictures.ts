import type { Picture, PictureInfo } from "../../api/index.ts";
import { isError } from "../../errors.ts";
import { engine } from "../engine_link.ts";
import { canShow, explainBadPicture, hashPicture } from "../picture_file.ts";
import {
  conversation,
  draft,
  loaded,
  pictureBudget,
  pictureInfos,
  pictureKey,
  reading,
  rejected,
  suggestions,
} from "../state.ts";
import { messageOf, toast } from "./notices.ts";
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

/** The files of a drop or a paste. Says so when there are folders, or only addresses. */
export function filesOf(data: DataTransfer | null): File[] {
  rejected.value = [];
  const entries = [...(data?.items ?? [])].map((item) => item.webkitGetAsEntry?.());
  const folders = entries.flatMap((entry) => (entry?.isDirectory ? entry.name : []));
  for (const name of folders)
    reject(
      name,
      `${name} is a folder. Drop the pictures that are in it; the folder of a model is opened on the Models page.`,
    );
  const files = [...(data?.files ?? [])].filter((file) => !folders.includes(file.name));
  if (files.length + folders.length === 0 && data?.types.includes("text/uri-list"))
    toast("Drop or paste picture files. Pictures on other sites are not fetched.");
  return files;
}
