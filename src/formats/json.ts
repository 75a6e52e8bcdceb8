import { TabTuneError } from "../errors.ts";

/** Levels of a small file: what walks through it, writing it among others, calls itself that often. */
const MAX_DEPTH = 100;

/**
 * What a checkpoint's small file holds. Throws `BadCheckpoint`, which names it by `path` and says what to do, for text that is no JSON or
 * is nested too deep to be walked through.
 */
export function parseJson(text: string, path: string, remedy = "Download it again."): unknown {
  if (isTooDeep(text)) {
    throw new TabTuneError("BadCheckpoint", `${path} is nested more than ${MAX_DEPTH} levels deep. ${remedy}`);
  }
  try {
    return JSON.parse(text) as unknown;
  } catch (cause) {
    throw new TabTuneError("BadCheckpoint", `${path} is not valid JSON. ${remedy}`, { cause });
  }
}

function isTooDeep(json: string): boolean {
  let depth = 0;
  for (let i = 0; i < json.length && depth <= MAX_DEPTH; i++) {
    const c = json[i];
    if (c === '"') {
      for (i++; i < json.length && json[i] !== '"'; i++) if (json[i] === "\\") i++;
    } else if (c === "[" || c === "{") depth++;
    else if (c === "]" || c === "}") depth--;
  }
  return depth > MAX_DEPTH;
}
