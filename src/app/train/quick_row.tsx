import { useRef, useState } from "preact/hooks";
import type { MessagePart, Picture } from "../../api/index.ts";
import { readPictures } from "../actions/pictures.ts";
import { change } from "../actions/train_data.ts";
import { pictureAddress } from "../picture_file.ts";
import { rejected } from "../state.ts";

/** Takes pictures for a row; what is no picture is told, and forgotten when something else is taken. */
export async function takePictures(files: Iterable<File>): Promise<{ pictures: Picture[]; problem?: string }> {
  rejected.value = [];
  const pictures = await readPictures(files);
  const problem = rejected
    .peek()
    .map(({ message }) => message)
    .join(" ");
  rejected.value = [];
  return { pictures, ...(problem ? { problem } : {}) };
}

/** Types rows in, one after another: picture, question, answer, Enter. */
export function QuickRow() {
  const [pictures, setPictures] = useState<Picture[]>([]);
  const [question, setQuestion] = useState("");
  const [answer, setAnswer] = useState("");
  const [problem, setProblem] = useState<string | undefined>(undefined);
  const first = useRef<HTMLInputElement>(null);
  const isReady = question.trim() !== "" && answer.trim() !== "";
  const add = async (files: Iterable<File>) => {
    const taken = await takePictures(files);
    setPictures(taken.pictures);
    setProblem(taken.problem);
  };
  const submit = async () => {
    if (!isReady) return;
    const images = pictures.map(({ id }): MessagePart => ({ type: "image", pictureId: id }));
    const messages = [
      { role: "user" as const, parts: [...images, { type: "text" as const, text: question.trim() }] },
      { role: "assistant" as const, parts: [{ type: "text" as const, text: answer.trim() }] },
    ];
    if (!(await change({ kind: "put", row: { id: crypto.randomUUID(), messages }, pictures }))) return;
    // The picture stays: several questions about one are common.
    setQuestion("");
    setAnswer("");
    first.current?.focus();
  };
  return (
    <form
      class="quick-row"
      aria-label="New row"
      onSubmit={(event) => {
        event.preventDefault();
        void submit();
      }}
      onPaste={(event) => {
        const files = [...(event.clipboardData?.files ?? [])];
        if (files.length === 0) return;
        event.preventDefault();
        void add(files);
      }}
      data-takes-files
      onDrop={(event) => {
        event.preventDefault();
        void add([...(event.dataTransfer?.files ?? [])]);
      }}
    >
      <label class="quiet button">
        {pictures[0] ? <img class="row-picture" src={pictureAddress(pictures[0])} alt={pictures[0].name} /> : "Picture"}
        <input
          type="file"
          class="visually-hidden"
          aria-label="Picture of the new row"
          accept="image/*"
          multiple
          onChange={(event) => {
            const files = [...(event.currentTarget.files ?? [])];
            event.currentTarget.value = "";
            void add(files);
          }}
        />
      </label>
      <input
        ref={first}
        type="text"
        placeholder="Question"
        aria-label="Question of the new row"
        value={question}
        onInput={(event) => setQuestion(event.currentTarget.value)}
      />
      <input
        type="text"
        placeholder="Right answer"
        aria-label="Answer of the new row"
        value={answer}
        onInput={(event) => setAnswer(event.currentTarget.value)}
      />
      <button type="submit" class="quiet" disabled={!isReady}>
        Add
      </button>
      {problem && (
        <p class="fail" role="alert">
          {problem}
        </p>
      )}
    </form>
  );
}
