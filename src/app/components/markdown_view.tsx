import { useMemo } from "preact/hooks";
import { copyText } from "../actions/chat.ts";
import { markdownBlocks } from "../markdown.ts";
import { sanitize } from "../sanitize.ts";

/** Markdown as safe HTML, block by block: while an answer grows, only its last block is written anew. */
export function MarkdownView({ text }: { text: string }) {
  const blocks = useMemo(() => markdownBlocks(text), [text]);
  return (
    // biome-ignore lint/a11y/noStaticElementInteractions lint/a11y/useKeyWithClickEvents: hears the clicks of the copy buttons inside
    <div class="markdown" onClick={copyCode}>
      {blocks.map((html, i) => (
        // Blocks only grow at the end, so their place is their identity.
        <Block key={i} html={html} />
      ))}
    </div>
  );
}

function Block({ html }: { html: string }) {
  const safe = useMemo(() => ({ __html: sanitize(html) }), [html]);
  return <div class="block" dangerouslySetInnerHTML={safe} />;
}

function copyCode(event: MouseEvent): void {
  const button = event.target instanceof Element ? event.target.closest("button.code-copy") : null;
  const code = button?.closest(".code")?.querySelector("code")?.textContent;
  if (code) void copyText(code.replace(/\n$/, ""), "Code copied.");
}
