import { describe, expect, it } from "vitest";
import { markdownBlocks } from "./markdown.ts";

const html = (text: string) => markdownBlocks(text).join("");

describe("markdownBlocks", () => {
  it("keeps earlier blocks the same while the last one grows", () => {
    const before = markdownBlocks("# Title\n\nFirst.\n\n- a\n- b");
    const after = markdownBlocks("# Title\n\nFirst.\n\n- a\n- b\n- c");
    expect(before).toHaveLength(3);
    expect(after.slice(0, 2)).toEqual(before.slice(0, 2));
    expect(after[2]).not.toBe(before[2]);
  });

  it("shows raw HTML as text", () => {
    for (const hostile of [
      "<script>alert(1)</script>",
      "<img src=x onerror=alert(1)>",
      'Hi <b onclick="x()">bold</b>',
      "<svg/onload=alert(1)>",
      "<!-- comment -->",
      "<details open ontoggle=alert(1)>",
      "<style>*{display:none}</style>",
    ]) {
      const tags = html(hostile).match(/<\/?([a-z!][a-z0-9-]*)/gi) ?? [];
      expect(
        tags.filter((tag) => !/^<\/?p$/.test(tag)),
        hostile,
      ).toEqual([]);
    }
  });

  it("links only to the web and to mail", () => {
    for (const href of [
      "javascript:alert(1)",
      "JaVaScRiPt:x",
      "data:text/html,x",
      "vbscript:x",
      "#/models",
      "/x",
      "blob:x",
    ])
      expect(html(`[click](<${href}>)`), href).not.toContain("<a");
    const good = html("[a](https://example.com/?q=%22&b) and <me@example.com>");
    expect(good).toContain('href="https://example.com/?q=%22&amp;b"');
    expect(good.match(/rel="noopener noreferrer nofollow"/g)).toHaveLength(2);
    expect(html('[a](https://e.com/"onclick="x)')).not.toContain('"onclick');
  });

  it("never fetches a picture: its name links to it", () => {
    const out = html("![a <b> cat](https://example.com/cat.png) ![x](javascript:x)");
    expect(out).not.toContain("<img");
    expect(out).toContain("a &lt;b&gt; cat</a>");
  });

  it("escapes code and its language", () => {
    const out = html('```ts"><script>\nconst a = "<b>";\n```\n\nand `<i>`');
    expect(out).not.toMatch(/<(script|b|i)>/);
    expect(out).toContain("const a = &quot;&lt;b&gt;&quot;;");
    expect(html("```\nopen")).toContain("<pre");
  });

  it("renders tables and task lists without inputs", () => {
    const out = html("| a | b |\n|:-:|--:|\n| 1 | <u>2</u> |\n\n- [x] done\n- [ ] open");
    expect(out).toContain('<th class="align-center">a</th>');
    expect(out).toContain('<td class="align-right">&lt;u&gt;2&lt;/u&gt;</td>');
    expect(out).toContain("☑");
    expect(out).not.toContain("<input");
  });

  it("keeps formulas as they were written", () => {
    expect(html("so $a_1 * b_2 * c$ holds")).toContain('<span class="math">a_1 * b_2 * c</span>');
    expect(html("\\(x_i < y_j\\) and $n$")).toContain(
      '<span class="math">x_i &lt; y_j</span> and <span class="math">n</span>',
    );
    expect(html("$$\n\\sum_{i=1}^n x_i\n$$")).toContain('<div class="math" tabindex="0">\\sum_{i=1}^n x_i</div>');
    expect(html("\\[ E = mc^2 \\]\n\nnext")).toMatch(/<div class="math"[^>]*>E = mc\^2<\/div>\n<p>next/);
    expect(html("$<img src=x>_1$")).not.toContain("<img");
    for (const money of ["It costs $5 and then $10.", "from $3 to $4", "a $ sign and a $ sign"])
      expect(html(money), money).not.toContain("math");
    expect(html("`$a_1$`")).not.toContain("math");
    expect(html("$$\nopen_a")).toContain("open_a");
  });

  it("resolves reference links across blocks", () => {
    expect(html("See [this].\n\n[this]: https://example.com/a")).toContain('href="https://example.com/a"');
  });
});
