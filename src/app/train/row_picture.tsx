import { useEffect, useState } from "preact/hooks";
import type { DatasetRow } from "../../api/index.ts";
import { engine } from "../engine_link.ts";

/** A picture of a data set; its bytes are let go when it is no longer shown. */
export function RowPicture({ id, large = false }: { id: string; large?: boolean }) {
  const [address, setAddress] = useState<string | undefined>(undefined);
  const [missing, setMissing] = useState(false);
  useEffect(() => {
    let made: string | undefined;
    let isGone = false;
    setAddress(undefined);
    setMissing(false);
    engine()
      .datasetPicture(id)
      .then(
        ({ blob }) => {
          if (isGone) return;
          made = URL.createObjectURL(blob);
          setAddress(made);
        },
        () => setMissing(true),
      );
    return () => {
      isGone = true;
      if (made) URL.revokeObjectURL(made);
    };
  }, [id]);
  const size = large ? "row-picture large" : "row-picture";
  if (missing) return <span class={`${size} missing`}>gone</span>;
  return address ? <img class={size} src={address} alt="" /> : <span class={size} />;
}

export const textOf = (message: DatasetRow["messages"][number] | undefined) =>
  (message?.parts ?? []).map((part) => (part.type === "text" ? part.text : "")).join("");

export const picturesOf = (row: Pick<DatasetRow, "messages">): string[] =>
  row.messages.flatMap(({ parts }) => parts.flatMap((part) => (part.type === "image" ? part.pictureId : [])));

/** The last question and its answer: what most rows consist of. */
export function lastTurns({ messages }: Pick<DatasetRow, "messages">): { question: string; answer: string } {
  const answer = messages.findLastIndex(({ role }) => role === "assistant");
  const before = messages.slice(0, answer < 0 ? undefined : answer).findLast(({ role }) => role === "user");
  return { question: textOf(before), answer: textOf(messages[answer]) };
}
