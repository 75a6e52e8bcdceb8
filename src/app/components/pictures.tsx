import { useState } from "preact/hooks";
import type { Picture } from "../../api/index.ts";
import { keepBudget, setBudget } from "../actions/pictures.ts";
import { formatCount } from "../format.ts";
import { pictureAddress } from "../picture_file.ts";
import { dialog, lightbox, loaded, pictureInfos, pictureKey } from "../state.ts";
import { IconButton } from "./controls.tsx";

/** A thumbnail that opens the picture at full size. */
function Thumbnail({ picture }: { picture: Picture }) {
  return (
    <button
      type="button"
      class="thumbnail"
      aria-label={`Open ${picture.name}`}
      onClick={() => {
        lightbox.value = { picture };
        dialog.value = "lightbox";
      }}
    >
      <img src={pictureAddress(picture)} alt={picture.name} />
    </button>
  );
}

/** "1280 × 960 → 1024 × 768, 768 tokens": what the model sees of a picture. */
function SeenSize({ picture }: { picture: Picture }) {
  const info = pictureInfos.value.get(pictureKey(picture));
  if (!info) return <span class="seen">{loaded.value ? "measuring …" : "size: known when a model is loaded"}</span>;
  const { width, height, resizedWidth, resizedHeight, tokens } = info;
  const shrunk = resizedWidth * resizedHeight < 0.9 * width * height;
  const same = width === resizedWidth && height === resizedHeight;
  const hint = shrunk
    ? "The model sees a smaller copy, to stay inside the pixel budget. Fine print may be lost."
    : "Sizes are rounded to whole patches of the model.";
  return (
    <span class={`seen ${shrunk ? "shrunk" : ""}`} title={same ? undefined : hint}>
      {same ? `${width} × ${height}` : `${width} × ${height} → ${resizedWidth} × ${resizedHeight}`}
      {shrunk && " (shrunk)"}, {formatCount(tokens)} tokens
    </span>
  );
}

/** Pictures of a message that was sent. */
export function SentPictures({ pictures }: { pictures: Picture[] }) {
  if (pictures.length === 0) return null;
  return (
    <ul class="pictures" aria-label="Pictures of this message">
      {pictures.map((picture) => (
        <li key={picture.id} class="sent-picture">
          <Thumbnail picture={picture} />
          <span class="file-name" title={picture.name}>
            {picture.name}
          </span>
          <SeenSize picture={picture} />
        </li>
      ))}
    </ul>
  );
}

/** Pictures of the message that is being written, each with its size, budget and a way out. */
export function DraftPictures({ pictures, onRemove }: { pictures: Picture[]; onRemove: (id: string) => void }) {
  const [open, setOpen] = useState<string | undefined>(undefined);
  if (pictures.length === 0) return null;
  return (
    <ul class="pictures draft" aria-label="Pictures to send">
      {pictures.map((picture) => (
        <li key={picture.id} class="draft-picture">
          <Thumbnail picture={picture} />
          <div class="draft-facts">
            <span class="file-name" title={picture.name}>
              {picture.name}
            </span>
            <SeenSize picture={picture} />
          </div>
          <IconButton
            icon="sliders"
            label={`Pixel budget of ${picture.name}`}
            pressed={open === picture.id}
            onClick={() => setOpen(open === picture.id ? undefined : picture.id)}
          />
          <IconButton icon="close" label={`Remove ${picture.name}`} onClick={() => onRemove(picture.id)} />
          {open === picture.id && <Budget picture={picture} />}
        </li>
      ))}
    </ul>
  );
}

function Budget({ picture }: { picture: Picture }) {
  const model = loaded.value;
  const number = (text: string) => (Number(text) > 0 ? Math.round(Number(text)) : undefined);
  const { minPixels, maxPixels } = picture;
  return (
    <fieldset class="budget">
      <legend>Pixels that the model may see</legend>
      <label>
        At least
        <input
          type="number"
          min="1"
          value={minPixels ?? ""}
          placeholder={model ? String(model.minPixels) : ""}
          onChange={(e) => setBudget(picture.id, number(e.currentTarget.value), maxPixels)}
        />
      </label>
      <label>
        At most
        <input
          type="number"
          min="1"
          value={maxPixels ?? ""}
          placeholder={model ? String(model.defaultMaxPixels) : ""}
          onChange={(e) => setBudget(picture.id, minPixels, number(e.currentTarget.value))}
        />
      </label>
      <div class="budget-buttons">
        {model && (
          <button type="button" class="quiet" onClick={() => setBudget(picture.id, minPixels, model.maxPixels)}>
            Sharpest ({formatCount(model.maxPixels)})
          </button>
        )}
        <button type="button" class="quiet" onClick={() => setBudget(picture.id, undefined, undefined)}>
          Model's own
        </button>
        <button type="button" class="quiet" onClick={() => keepBudget(minPixels, maxPixels)}>
          Keep for new pictures
        </button>
      </div>
      <p class="hint">More pixels show finer detail and cost more tokens and time.</p>
    </fieldset>
  );
}
