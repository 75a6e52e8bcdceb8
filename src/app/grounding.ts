/**
 * Boxes and points in an answer. Qwen3-VL writes them as JSON objects with `bbox_2d` or `point_2d`, or between box tokens,
 * always as whole numbers on a grid of 0 to 1000 relative to the picture, whatever its size.
 */

export type Mark =
  /** Corners as shares of the picture's width and height, 0 to 1. */
  | { kind: "box"; x1: number; y1: number; x2: number; y2: number; label: string }
  | { kind: "point"; x: number; y: number; label: string };

export interface Grounding {
  marks: Mark[];
  /** Boxes and points that do not lie on the grid and are not drawn. */
  outside: number;
}

const GRID = 1000;
/** An answer with more marks than this is broken; drawing them all would only freeze the page. */
const MAX_MARKS = 500;
/** Characters; an object with one box is short. */
const LONGEST_OBJECT = 20_000;

/** Finds every complete box and point. Text that is still being written gives those that are already closed. */
export function parseGrounding(text: string): Grounding {
  const found: Grounding = { marks: [], outside: 0 };
  if (/(bbox|point)_2d"/.test(text)) for (const value of jsonObjects(text)) collect(value, found);
  if (text.includes("<|box_start|>")) collectTokens(text, found);
  found.marks.length = Math.min(found.marks.length, MAX_MARKS);
  return found;
}

/** Every outermost JSON object in free text, also inside code fences and unfinished arrays. */
function* jsonObjects(text: string): Generator<unknown> {
  // Stray braces make this read the same text again and again: an answer that takes so long is broken.
  let steps = 50 * text.length;
  let i = text.indexOf("{");
  while (i >= 0 && steps > 0) {
    const end = closingBrace(text, i);
    steps -= (end > 0 ? end : Math.min(text.length, i + LONGEST_OBJECT)) - i;
    let next = i + 1;
    if (end > 0) {
      try {
        yield JSON.parse(text.slice(i, end));
        next = end;
      } catch {
        // Not JSON: perhaps an object inside it is.
      }
    }
    i = text.indexOf("{", next);
  }
}

/** Index after the brace that closes the one at `start`, or -1; braces inside strings do not count. */
function closingBrace(text: string, start: number): number {
  let depth = 0;
  let quoted = false;
  const stop = Math.min(text.length, start + LONGEST_OBJECT);
  for (let i = start; i < stop; i++) {
    const c = text[i];
    if (quoted) {
      if (c === "\\") i++;
      else if (c === '"') quoted = false;
    } else if (c === '"') quoted = true;
    else if (c === "{") depth++;
    else if (c === "}" && --depth === 0) return i + 1;
  }
  return -1;
}

function collect(value: unknown, found: Grounding): void {
  if (Array.isArray(value)) {
    for (const item of value) collect(item, found);
    return;
  }
  if (typeof value !== "object" || value === null) return;
  const object = value as Record<string, unknown>;
  const label = labelOf(object);
  for (const numbers of rows(object.bbox_2d, 4)) addBox(numbers, label, found);
  for (const numbers of rows(object.point_2d, 2)) addPoint(numbers, label, found);
  for (const [key, inner] of Object.entries(object)) if (!key.endsWith("_2d")) collect(inner, found);
}

function labelOf(object: Record<string, unknown>): string {
  for (const key of ["label", "text_content", "text", "name", "sub_label"]) {
    const label = object[key];
    if (typeof label === "string" && label.trim() !== "") return label.trim().slice(0, 200);
  }
  return "";
}

/** One row of `count` numbers, or several of them. */
function rows(value: unknown, count: number): number[][] {
  if (!Array.isArray(value)) return [];
  const numbers = (row: unknown): row is number[] =>
    Array.isArray(row) && row.length === count && row.every((n) => typeof n === "number" && Number.isFinite(n));
  return numbers(value) ? [value] : value.filter(numbers);
}

function collectTokens(text: string, found: Grounding): void {
  const pattern = /(?:<\|object_ref_start\|>(.*?)<\|object_ref_end\|>\s*)?<\|box_start\|>(.*?)<\|box_end\|>/gs;
  for (const [, label = "", body = ""] of text.matchAll(pattern)) {
    const numbers = [...body.matchAll(/\((-?\d+(?:\.\d+)?)\s*,\s*(-?\d+(?:\.\d+)?)\)/g)].map((m) => [+m[1]!, +m[2]!]);
    if (numbers.length === 1) addPoint(numbers[0]!, label.trim(), found);
    for (let i = 0; i + 1 < numbers.length; i += 2) addBox([...numbers[i]!, ...numbers[i + 1]!], label.trim(), found);
  }
}

const onGrid = (numbers: number[]) => numbers.every((n) => n >= 0 && n <= GRID);

function addBox(numbers: number[], label: string, found: Grounding): void {
  const [x1, y1, x2, y2] = numbers.map((n) => n / GRID) as [number, number, number, number];
  if (!onGrid(numbers)) found.outside++;
  else
    found.marks.push({
      kind: "box",
      x1: Math.min(x1, x2),
      y1: Math.min(y1, y2),
      x2: Math.max(x1, x2),
      y2: Math.max(y1, y2),
      label,
    });
}

function addPoint(numbers: number[], label: string, found: Grounding): void {
  if (!onGrid(numbers)) found.outside++;
  else found.marks.push({ kind: "point", x: numbers[0]! / GRID, y: numbers[1]! / GRID, label });
}

/** One line for people who do not see the picture: "cat: from 10 % left, 20 % top, to 50 % left, 60 % top". */
export function describeMark(mark: Mark, index: number): string {
  const percent = (share: number) => `${Math.round(100 * share)} %`;
  const name = mark.label || `${mark.kind === "box" ? "Box" : "Point"} ${index + 1}`;
  if (mark.kind === "point") return `${name}: ${percent(mark.x)} from the left, ${percent(mark.y)} from the top`;
  return `${name}: ${percent(mark.x1)} to ${percent(mark.x2)} from the left, ${percent(mark.y1)} to ${percent(mark.y2)} from the top`;
}
