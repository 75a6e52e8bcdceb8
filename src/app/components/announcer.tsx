import { useEffect, useState } from "preact/hooks";
import { runHere } from "../state.ts";
import { splitThinking } from "../thinking.ts";
import { STAGE_WORDS } from "./message.tsx";

/** How often newly written sentences are read out. */
const EVERY = 4_000;

/** Up to the last full sentence or line; what is left comes with the next one. */
const wholeSentences = (text: string) => text.match(/^[\s\S]*(?:[.!?:…]["”')]*\s|\n)/)?.[0].length ?? 0;

/** Signs that only format would be read out as "asterisk asterisk". */
const plain = (text: string) => text.replace(/[*_`#|~]+/g, " ").trim();

/**
 * Reads an answer to people who do not see it: first what is being done, then whole sentences now and then. The conversation
 * itself is no live region, since it changes with every token.
 */
export function Announcer() {
  const run = runHere.value;
  const [words, setWords] = useState("");
  useEffect(() => {
    if (!run) return;
    let said = 0;
    const unsaid = () => splitThinking(run.text.peek()).text.slice(said);
    const say = (length: number) => {
      const part = unsaid().slice(0, length);
      said += length;
      if (plain(part)) setWords(plain(part));
    };
    const timer = setInterval(() => say(wholeSentences(unsaid())), EVERY);
    const forget = run.stage.subscribe(({ name }) => setWords(`${STAGE_WORDS[name]} …`));
    return () => {
      clearInterval(timer);
      forget();
      if (run.abort.signal.aborted) setWords("Stopped.");
      else say(unsaid().length);
    };
  }, [run]);
  return (
    <p class="visually-hidden" role="status">
      {words}
    </p>
  );
}
