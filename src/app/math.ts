import type { TokenizerAndRendererExtension } from "marked";

/**
 * Formulas in TeX stay as they were written, in a type of their own: what looks like emphasis inside them (`a_1`, `x*y*z`) is
 * no markup. The page brings no typesetter for them.
 */
export function mathExtensions(escapeText: (text: string) => string): TokenizerAndRendererExtension<string, string>[] {
  return [
    {
      name: "mathBlock",
      level: "block",
      start: (text) => text.match(/\$\$|\\\[/)?.index,
      tokenizer(text) {
        const found = text.match(/^(?:\$\$([\s\S]+?)\$\$|\\\[([\s\S]+?)\\\])[ \t]*(?:\n|$)/);
        return found ? { type: "mathBlock", raw: found[0], text: (found[1] ?? found[2]!).trim() } : undefined;
      },
      renderer: ({ text }) => `<div class="math" tabindex="0">${escapeText(text)}</div>\n`,
    },
    {
      name: "mathInline",
      level: "inline",
      start: (text) => text.match(/\$|\\\(|\\\[/)?.index,
      tokenizer(text) {
        const marked = text.match(/^(?:\\\((.+?)\\\)|\\\[(.+?)\\\]|\$\$(.+?)\$\$)/s);
        if (marked) return token(marked[0], marked[1] ?? marked[2] ?? marked[3]!);
        const dollars = text.match(/^\$(?!\s)([^$\n]+?)(?<!\s)\$(?![\d\w])/);
        return dollars && isFormula(dollars[1]!) ? token(dollars[0], dollars[1]!) : undefined;
      },
      renderer: ({ text }) => `<span class="math">${escapeText(text)}</span>`,
    },
  ];
}

const token = (raw: string, text: string) => ({ type: "mathInline", raw, text: text.trim() });

/** Dollars may be money: a formula is one letter, or has a sign that prices lack. */
const isFormula = (text: string) =>
  /^[A-Za-z]'?$/.test(text) || /[\\^_={}<>]|[A-Za-z0-9)]\s*[+*/-]\s*[A-Za-z0-9(]/.test(text);
