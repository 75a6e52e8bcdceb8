import DOMPurify from "dompurify";

const POLICY = {
  ALLOWED_TAGS: [
    ...["a", "b", "blockquote", "br", "button", "code", "del", "div", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr"],
    ...["i", "li", "ol", "p", "pre", "span", "strong", "table", "tbody", "td", "th", "thead", "tr", "ul"],
  ],
  ALLOWED_ATTR: ["href", "target", "rel", "title", "class", "type", "tabindex", "start"],
  ALLOWED_URI_REGEXP: /^(?:https?|mailto):/i,
  // The expression above is held against every attribute but these: they are no addresses.
  ADD_URI_SAFE_ATTR: ["target", "rel", "type", "tabindex", "start"],
  ALLOW_DATA_ATTR: false,
  ALLOW_ARIA_ATTR: false,
};

/** The second wall after `markdownBlocks`: only these tags and attributes reach the page. Needs a DOM. */
export function sanitize(html: string): string {
  return DOMPurify.sanitize(html, POLICY);
}
