import { type DataPart, error, type Problem, type RowTurn, show } from "./row.ts";

/** Where a row says that its picture is. */
export type PictureSource =
  | { kind: "path"; path: string }
  /** A data URL, or base64 alone. */
  | { kind: "data"; url: string }
  | { kind: "bytes"; bytes: Uint8Array; name: string };

/** A part before its picture has been looked for; a slot is a place that the next picture of the row's list fills. */
export type DraftPart = { type: "text"; text: string } | { type: "picture"; source: PictureSource } | { type: "slot" };
export interface DraftTurn {
  role: RowTurn["role"];
  parts: DraftPart[];
}
export interface DraftRow {
  turns: DraftTurn[];
  part?: DataPart;
}

type Raw = Record<string, unknown>;

/** How a row is written: TRL and OpenAI, LLaVA and ShareGPT, ChartQA as released, or columns for picture, question and answer. */
export type RowShape = "messages" | "conversations" | "ChartQA" | "columns";

const COLUMNS = {
  picture: "image images picture pictures img image_path picture_path image_file file_name filename imgname path".split(
    " ",
  ),
  question: "question query prompt instruction user input".split(" "),
  answer: "answer answers label labels response output completion target assistant ground_truth".split(" "),
  system: ["system", "system_prompt"],
};

const ROLES: Readonly<Record<string, RowTurn["role"]>> = {
  user: "user",
  human: "user",
  assistant: "assistant",
  gpt: "assistant",
  model: "assistant",
  bot: "assistant",
  system: "system",
  developer: "system",
};

/** The shape of a row, or undefined when nothing in it looks like a training example. */
export function shapeOf(raw: unknown): RowShape | undefined {
  if (typeof raw !== "object" || raw === null || Array.isArray(raw)) return undefined;
  const row = lowerKeys(raw as Raw);
  if (list(row.messages) || list(row.prompt)) return "messages";
  if (list(row.conversations) || list(row.conversation)) return "conversations";
  if ("imgname" in row && "query" in row && "label" in row) return "ChartQA";
  const has = (names: string[]) => names.some((name) => name in row);
  return has(COLUMNS.answer) || (has(COLUMNS.question) && has(COLUMNS.picture)) ? "columns" : undefined;
}

/** Reads one row of a known shape. Never throws; with an error among the problems there is no row. */
export function parseRow(raw: unknown, shape: RowShape): { row?: DraftRow; problems: Problem[] } {
  const problems: Problem[] = [];
  if (typeof raw !== "object" || raw === null || Array.isArray(raw)) {
    problems.push(error("row", "an object with fields", show(raw), "Write each example as one object."));
    return { problems };
  }
  const row = lowerKeys(raw as Raw);
  const turns =
    shape === "messages" || shape === "conversations" ? conversation(row, problems) : columns(row, problems);
  checkTurns(turns, problems);
  if (problems.some((p) => p.severity === "error")) return { problems };
  const part = typeof row.split === "string" ? partOfName(row.split) : undefined;
  return { row: { turns, ...(part ? { part } : {}) }, problems };
}

/** What a name such as "train_human.json" or "validation" says about the split. */
export function partOfName(name: string): DataPart | undefined {
  const word = name
    .toLowerCase()
    .match(/(?:^|[^a-z])(train|training|val|valid|validation|test|dev|eval)(?![a-z])/)?.[1];
  if (!word) return undefined;
  return word.startsWith("train") ? "train" : "heldBack";
}

function lowerKeys(raw: Raw): Raw {
  return Object.fromEntries(Object.entries(raw).map(([key, value]) => [key.toLowerCase().trim(), value]));
}

/** A list as it is, or written as JSON in a cell. */
function list(value: unknown): unknown[] | undefined {
  if (Array.isArray(value)) return value;
  if (typeof value !== "string" || !value.trimStart().startsWith("[")) return undefined;
  try {
    const parsed: unknown = JSON.parse(value);
    return Array.isArray(parsed) ? parsed : undefined;
  } catch {
    return undefined;
  }
}

function conversation(row: Raw, problems: Problem[]): DraftTurn[] {
  const prompt = list(row.prompt);
  const [field, messages] = prompt
    ? ["prompt", [...prompt, ...(list(row.completion) ?? [])]]
    : row.messages !== undefined
      ? ["messages", list(row.messages) ?? []]
      : ["conversations", list(row.conversations) ?? list(row.conversation) ?? []];
  const turns: DraftTurn[] = [];
  messages.forEach((value, i) => {
    const turn = oneTurn(value, `${field}[${i}]`, problems);
    if (turn) turns.push(turn);
  });
  if (typeof row.system === "string" && row.system && turns[0]?.role !== "system") {
    turns.unshift({ role: "system", parts: [{ type: "text", text: row.system }] });
  }
  const listed = row.images ?? row.image ?? row.pictures ?? row.picture;
  placePictures(turns, pictureList(listed, row.images !== undefined ? "images" : "image", problems), problems);
  return turns;
}

function oneTurn(value: unknown, field: string, problems: Problem[]): DraftTurn | undefined {
  const message = (typeof value === "object" && value !== null ? value : {}) as Raw;
  const name = message.role ?? message.from;
  const role =
    typeof name === "string" && Object.hasOwn(ROLES, name.toLowerCase()) ? ROLES[name.toLowerCase()] : undefined;
  if (!role) {
    const expected = "system, user or assistant (or human and gpt)";
    problems.push(error(`${field}.role`, expected, show(name), "Rename the role; turns of tools are not learnt."));
    return undefined;
  }
  const content = message.content ?? message.value;
  const parts: DraftPart[] = [];
  for (const part of Array.isArray(content) ? content : [content]) onePart(part, `${field}.content`, parts, problems);
  return { role, parts };
}

function onePart(part: unknown, field: string, out: DraftPart[], problems: Problem[]): void {
  if (typeof part === "string") {
    splitText(part, out);
    return;
  }
  const fields = (typeof part === "object" && part !== null ? part : {}) as Raw;
  const picture = fields.image_url ?? fields.image ?? fields.picture;
  // Parquet gives every part every field: those that are not meant are null.
  if (fields.type === "image" || fields.type === "image_url" || (picture !== undefined && picture !== null)) {
    if (picture === undefined || picture === null) out.push({ type: "slot" });
    else {
      const source = pictureSource(picture, field, problems);
      if (source) out.push({ type: "picture", source });
    }
  } else if (typeof fields.text === "string") out.push({ type: "text", text: fields.text });
  else
    problems.push(
      error(field, "text, or parts with text and pictures", show(part), "Videos, sounds and files cannot be learnt."),
    );
}

/** Text with <image> where a picture stands; spaces beside the mark belong to the way of writing, not to the text. */
function splitText(text: string, out: DraftPart[]): void {
  const pieces = text.split("<image>");
  pieces.forEach((piece, i) => {
    if (i > 0) out.push({ type: "slot" });
    const clean = pieces.length > 1 ? piece.trim() : piece;
    if (clean !== "") out.push({ type: "text", text: clean });
  });
}

/** Fills the slots in order; where the text has none, pictures go to the front of the first user's turn, as TRL does it. */
function placePictures(turns: DraftTurn[], pictures: PictureSource[], problems: Problem[]): void {
  const parts = turns.flatMap((turn) => turn.parts);
  const slots = parts.filter((part) => part.type === "slot").length;
  const isInline = parts.some((part) => part.type === "picture");
  if (slots === 0 && (pictures.length === 0 || isInline)) return;
  const user = turns.find((turn) => turn.role === "user");
  if (slots === 0 && user) {
    user.parts.unshift(...pictures.map((source) => ({ type: "picture" as const, source })));
    return;
  }
  if (slots !== pictures.length) {
    const expected = `${slots} pictures, one for each place in the text`;
    problems.push(error("images", expected, String(pictures.length), "Give as many pictures as places for them."));
    return;
  }
  let next = 0;
  for (const turn of turns) {
    turn.parts = turn.parts.map((p) => (p.type === "slot" ? { type: "picture", source: pictures[next++]! } : p));
  }
}

function pictureList(value: unknown, field: string, problems: Problem[]): PictureSource[] {
  if (value === undefined || value === null || value === "") return [];
  const values = list(value) ?? [value];
  return values.map((v) => pictureSource(v, field, problems)).filter((source) => source !== undefined);
}

function pictureSource(value: unknown, field: string, problems: Problem[]): PictureSource | undefined {
  if (typeof value === "string" && value.trim() !== "") {
    const text = value.trim();
    if (/^https?:/i.test(text)) {
      const remedy = "Nothing is fetched from elsewhere: download the picture and drop it along.";
      problems.push(error(field, "a path or a data URL", show(text), remedy));
      return undefined;
    }
    return text.startsWith("data:")
      ? { kind: "data", url: text }
      : { kind: "path", path: text.replace(/^file:\/\//, "") };
  }
  if (value instanceof Uint8Array) return { kind: "bytes", bytes: value, name: "picture" };
  if (typeof value === "object" && value !== null && !Array.isArray(value)) {
    const { bytes, path, url } = value as Raw;
    const name = typeof path === "string" && path ? path : "picture";
    if (bytes instanceof Uint8Array) return { kind: "bytes", bytes, name };
    if (typeof bytes === "string" && bytes) return { kind: "data", url: bytes };
    if (typeof (url ?? path) === "string") return pictureSource(url ?? path, field, problems);
  }
  problems.push(error(field, "a path, a data URL or the picture's bytes", show(value), "Name the picture's file."));
  return undefined;
}

function columns(row: Raw, problems: Problem[]): DraftTurn[] {
  const filled = (names: string[]) =>
    names.find((name) => row[name] !== undefined && row[name] !== null && row[name] !== "");
  const [picture, question, answer, system] = [
    filled(COLUMNS.picture),
    filled(COLUMNS.question),
    filled(COLUMNS.answer),
    filled(COLUMNS.system),
  ];
  if (!question) {
    problems.push(
      error("question", `a column ${COLUMNS.question.slice(0, 3).join(", ")} …`, show(row), "Add the question."),
    );
  }
  if (!answer) {
    problems.push(
      error("answer", `a column ${COLUMNS.answer.slice(0, 3).join(", ")} …`, "no answer", "Add the answer."),
    );
  }
  if (!question || !answer) return [];
  const cell = picture && row[picture];
  // Several pictures in one cell of a table.
  const isSeveral = typeof cell === "string" && !cell.startsWith("data:") && /[;|]/.test(cell) && !list(cell);
  const listed = isSeveral ? cell.split(/\s*[;|]\s*/) : cell;
  // Alpaca's rows have an instruction and a text that it is about.
  const about = question === "instruction" && row.input ? `\n\n${String(row.input)}` : "";
  const user: DraftTurn = { role: "user", parts: [] };
  splitText(textOf(row[question], question, problems) + about, user.parts);
  const turns: DraftTurn[] = [
    user,
    { role: "assistant", parts: [{ type: "text", text: textOf(row[answer], answer, problems) }] },
  ];
  if (system) turns.unshift({ role: "system", parts: [{ type: "text", text: textOf(row[system], system, problems) }] });
  placePictures(turns, pictureList(listed, picture ?? "image", problems), problems);
  return turns;
}

/** A cell as text; of several answers the first. */
function textOf(value: unknown, field: string, problems: Problem[]): string {
  const values = list(value);
  const first = values ? values[0] : value;
  if (values && values.length > 1) {
    problems.push({
      ...error(field, "one answer", `${values.length}`, "The first one is learnt."),
      severity: "warning",
    });
  }
  if (typeof first === "string") return first;
  if (typeof first === "number" || typeof first === "boolean" || typeof first === "bigint") return String(first);
  problems.push(error(field, "text or a number", show(first), "Write it as text."));
  return "";
}

/** Longest text of a turn, in characters: far more than any context holds. */
const MAX_TEXT = 1_000_000;
/** What the chat template itself writes: in a text it hints at rows that were rendered before. */
const CONTROL = /<\|(?:im_start|im_end|endoftext|vision_start|vision_end|vision_pad|image_pad|video_pad)\|>/;

/** What holds for every row, however it was written or typed in. */
export function checkTurns(
  turns: readonly { role: string; parts: readonly { type: string; text?: string }[] }[],
  problems: Problem[],
): void {
  if (problems.some((p) => p.severity === "error")) return;
  if (turns.length === 0) {
    problems.push(error("messages", "a question and an answer", "no turns", "Add both or remove the row."));
    return;
  }
  if (!turns.some((turn) => turn.role === "assistant")) {
    problems.push(error("messages", "an assistant turn", "no answer", "Add the answer: it is what is learnt."));
  }
  turns.forEach(({ role, parts }, i) => {
    const field = `turn ${i + 1} (${role})`;
    const text = parts.map((part) => part.text ?? "").join("");
    const hasPicture = parts.some((part) => part.type !== "text");
    if (role === "assistant" && text.trim() === "") {
      problems.push(error(field, "a text to learn", "an empty answer", "Write the answer or remove the row."));
    } else if (text.trim() === "" && !hasPicture) {
      problems.push(error(field, "a text or a picture", "nothing", "Fill it or remove the turn."));
    }
    if (role !== "user" && hasPicture) {
      problems.push(
        error(field, "text only", "a picture", "The chat template shows pictures in user turns only: move it."),
      );
    }
    if (role === "system" && i > 0) {
      problems.push(
        error(field, "the system text first", "it in between", "The chat template would leave it out: move it."),
      );
    }
    const control = CONTROL.exec(text)?.[0];
    if (control) {
      const remedy = "It is learnt as plain text; remove it if it comes from a chat template.";
      problems.push({ ...error(field, "plain text", control, remedy), severity: "warning" });
    }
    if (text.length > MAX_TEXT) {
      problems.push(error(field, `at most ${MAX_TEXT} characters`, String(text.length), "Shorten the text."));
    }
  });
  if (turns.at(-1)!.role !== "assistant" && !problems.some((p) => p.severity === "error")) {
    const remedy = "It teaches nothing; the turns before it do.";
    problems.push({ ...error("messages", "an answer at the end", "a turn without one", remedy), severity: "warning" });
  }
}
