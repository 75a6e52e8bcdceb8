import { Marked, type Tokens } from "marked";
import { mathExtensions } from "./math.ts";

const ESCAPES: Record<string, string> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };

function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (c) => ESCAPES[c]!);
}

/** The address when it may be a link: absolute, to the web or to mail. Anything else stays text. */
function safeAddress(href: string): string | undefined {
  try {
    const url = new URL(href);
    return ["http:", "https:", "mailto:"].includes(url.protocol) ? url.href : undefined;
  } catch {
    return undefined;
  }
}

function link(href: string, html: string, title?: string | null): string {
  const address = safeAddress(href);
  if (!address) return html;
  const hint = title ? ` title="${escapeHtml(title)}"` : "";
  return `<a href="${escapeHtml(address)}" target="_blank" rel="noopener noreferrer nofollow"${hint}>${html}</a>`;
}

const marked = new Marked<string, string>({
  gfm: true,
  breaks: true,
  renderer: {
    /** Raw HTML is shown as it was written. */
    html: ({ text }) => escapeHtml(text),
    code({ text, lang }) {
      const name = (lang ?? "").match(/^[\w+#.-]{1,30}/)?.[0] ?? "";
      const head = `<div class="code-head"><span>${escapeHtml(name)}</span><button type="button" class="code-copy">Copy</button></div>`;
      return `<div class="code">${head}<pre tabindex="0"><code>${escapeHtml(text)}\n</code></pre></div>\n`;
    },
    link({ href, title, tokens }) {
      return link(href, this.parser.parseInline(tokens), title);
    },
    /** A picture from elsewhere is never fetched: its name links to it. */
    image({ href, title, text }) {
      return link(href, escapeHtml(text || title || href), title);
    },
    checkbox: ({ checked }: Tokens.Checkbox): string => (checked ? "☑ " : "☐ "),
    table(token) {
      const cell = (c: Tokens.TableCell) => {
        const tag = c.header ? "th" : "td";
        return `<${tag}${c.align ? ` class="align-${c.align}"` : ""}>${this.parser.parseInline(c.tokens)}</${tag}>`;
      };
      const row = (cells: Tokens.TableCell[]) => `<tr>${cells.map(cell).join("")}</tr>`;
      const body = token.rows.map(row).join("");
      return `<div class="table" tabindex="0"><table><thead>${row(token.header)}</thead><tbody>${body}</tbody></table></div>\n`;
    },
  },
});

marked.use({ extensions: mathExtensions(escapeHtml) });

/**
 * HTML of each block of a markdown text, so that a growing answer only changes its last blocks. Tags come from this file
 * alone: text is escaped, raw HTML too. What is put into the page still goes through the sanitiser (`sanitize.ts`).
 */
export function markdownBlocks(text: string): string[] {
  const tokens = marked.lexer(text);
  const blocks: string[] = [];
  for (const token of tokens) {
    if (token.type === "space" || token.type === "def") continue;
    blocks.push(marked.parser([token]));
  }
  return blocks;
}
