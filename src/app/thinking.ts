/** An answer split into what a thinking model thought and what it says. */
export interface Answer {
  thoughts: string;
  /** False while the model is still thinking. */
  thoughtsEnded: boolean;
  text: string;
}

/** How the text of a thinking model's answer begins. */
export const THOUGHTS = "<think>\n";

const CLOSE = "</think>";

/** Splits at the model's own tags; also where an opening one is missing. */
export function splitThinking(raw: string): Answer {
  const open = raw.match(/^\s*<think>/);
  const end = raw.indexOf(CLOSE);
  if (end >= 0 && (open || !raw.slice(0, end).includes("<think>"))) {
    const thoughts = raw.slice(open ? open[0].length : 0, end).trim();
    return { thoughts, thoughtsEnded: true, text: raw.slice(end + CLOSE.length).trimStart() };
  }
  if (open) return { thoughts: raw.slice(open[0].length).trim(), thoughtsEnded: false, text: "" };
  return { thoughts: "", thoughtsEnded: true, text: raw };
}
