import { draft, type Example, examples, suggestions } from "../state.ts";
import { send } from "./chat.ts";
import { attempt } from "./notices.ts";
import { addPictures } from "./pictures.ts";

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

/** Asks an example's first question and offers the others. A message that is being written only gets the picture. */
export async function takeExample(example: Example): Promise<void> {
  await attempt(`The example ${example.title} could not be opened`, async () => {
    const response = await fetch(examplePicture(example));
    if (!response.ok) throw new Error(`the server answered ${response.status}`);
    const blob = await response.blob();
    const untouched = draft.peek().text.trim() === "" && draft.peek().pictures.length === 0;
    await addPictures([new File([blob], example.file.split("/").pop()!, { type: blob.type })]);
    suggestions.value = example.questions.filter((q) => typeof q === "string");
    if (untouched && suggestions.value[0]) await send(suggestions.value[0]);
  });
}
