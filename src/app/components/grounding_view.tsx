import { useMemo, useState } from "preact/hooks";
import type { Picture } from "../../api/index.ts";
import { describeMark, type Mark, parseGrounding } from "../grounding.ts";
import { pictureAddress } from "../picture_file.ts";
import { dialog, lightbox } from "../state.ts";

/** Boxes and points of an answer, drawn over the picture they are about. Nothing when the answer has none. */
export function GroundingView({ text, pictures }: { text: string; pictures: Picture[] }) {
  const { marks, outside } = useMemo(() => parseGrounding(text), [text]);
  // The format does not say which picture is meant: the last one, until the visitor chooses.
  const [chosen, setChosen] = useState<string | undefined>(undefined);
  const picture = pictures.find((p) => p.id === chosen) ?? pictures.at(-1);
  if (!picture || (marks.length === 0 && outside === 0)) return null;
  return (
    <figure class="grounding">
      <div class="grounding-picture">
        <MarkedPicture picture={picture} marks={marks} />
        <button
          type="button"
          class="cover"
          aria-label={`Enlarge ${picture.name} with ${marks.length} marks`}
          onClick={() => {
            lightbox.value = { picture, answer: text };
            dialog.value = "lightbox";
          }}
        />
      </div>
      <figcaption>
        {pictures.length > 1 && (
          <label class="inline-field">
            Drawn over{" "}
            <select value={picture.id} onChange={(e) => setChosen(e.currentTarget.value)}>
              {pictures.map((p, i) => (
                <option key={p.id} value={p.id}>
                  {i + 1}. {p.name}
                </option>
              ))}
            </select>
          </label>
        )}
        <details>
          <summary>
            {marks.length} {marks.length === 1 ? "mark" : "marks"} in words
          </summary>
          <ul>
            {marks.map((mark, i) => (
              <li key={i}>{describeMark(mark, i)}</li>
            ))}
          </ul>
        </details>
        {outside > 0 && <p>{outside} not drawn: outside the grid of 0 to 1000.</p>}
      </figcaption>
    </figure>
  );
}

const HUES = [205, 145, 25, 300, 85, 260, 0, 175];

function MarkedPicture({ picture, marks }: { picture: Picture; marks: Mark[] }) {
  const hues = new Map<string, number>();
  for (const { label } of marks) if (!hues.has(label)) hues.set(label, HUES[hues.size % HUES.length]!);
  const place = (mark: Mark) => (mark.kind === "box" ? { left: mark.x1, top: mark.y1 } : { left: mark.x, top: mark.y });
  return (
    <span class="marked">
      <img src={pictureAddress(picture)} alt={picture.name} />
      {/* One unit is one step of the model's grid, whatever the picture's shape. */}
      <svg viewBox="0 0 1000 1000" preserveAspectRatio="none" aria-hidden="true">
        {marks.map((mark, i) =>
          mark.kind === "box" ? (
            <rect
              key={i}
              x={1000 * mark.x1}
              y={1000 * mark.y1}
              width={1000 * (mark.x2 - mark.x1)}
              height={1000 * (mark.y2 - mark.y1)}
              style={{ "--hue": `${hues.get(mark.label)}` }}
            />
          ) : null,
        )}
      </svg>
      {marks.map((mark, i) => {
        const { left, top } = place(mark);
        return (
          <span
            key={i}
            class={`mark ${mark.kind} ${top < (mark.kind === "box" ? 0.08 : 0.14) ? "low" : ""} ${left > 0.75 ? "left" : ""}`}
            style={{ left: `${100 * left}%`, top: `${100 * top}%`, "--hue": `${hues.get(mark.label)}` }}
            aria-hidden="true"
          >
            {mark.label && <span class="mark-label">{mark.label}</span>}
          </span>
        );
      })}
    </span>
  );
}

/** A picture at full size, with the marks of an answer when it has any. */
export function Lightbox({ picture, answer }: { picture: Picture; answer?: string }) {
  const { marks } = useMemo(() => parseGrounding(answer ?? ""), [answer]);
  return <MarkedPicture picture={picture} marks={marks} />;
}
