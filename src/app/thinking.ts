/** An answer split into what a thinking model thought and what it says. */
export interface Answer {
  thoughts: string;
  /** False while the model is still thinking. */
  thoughtsEnded: boolean;
  text: string;
}

const OPEN = "<think>";
const CLOSE = "</think>";

/**
 * Splits at the model's own tags. The template of a thinking model opens the tag in the prompt, so its answers hold only
 * the closing one; `startsThinking` says that this is such a model, so that the stream is folded from its first word.
 */
export function splitThinking(raw: string, startsThinking = false): Answer {
  const open = raw.match(/^\s*<think>/);
  const end = raw.indexOf(CLOSE);
  if (end >= 0 && (open || startsThinking || !raw.slice(0, end).includes(OPEN))) {
    const thoughts = raw.slice(open ? open[0].length : 0, end).trim();
    return { thoughts, thoughtsEnded: true, text: raw.slice(end + CLOSE.length).trimStart() };
  }
  if (open || startsThinking)
    return { thoughts: raw.slice(open?.[0].length ?? 0).trim(), thoughtsEnded: false, text: "" };
  return { thoughts: "", thoughtsEnded: true, text: raw };
}
