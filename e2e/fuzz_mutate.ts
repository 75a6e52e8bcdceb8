// Seeded damage to files: the same seed gives the same file.

/** 32-bit generator (mulberry32): numbers from 0 up to 1. */
function randomOf(seed: number): () => number {
  let s = seed | 0;
  return () => {
    s = (s + 0x6d2b79f5) | 0;
    let t = Math.imul(s ^ (s >>> 15), 1 | s);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Numbers at which counts, lengths and offsets break. */
const NUMBERS = [0n, 1n, 2n, 0x7fn, 0x80n, 0xffn, 0xffffn, 0x7fffffffn, 0x80000000n, 0xffffffffn];
const WIDE_NUMBERS = [...NUMBERS, 1n << 32n, (1n << 53n) - 1n, (1n << 53n) + 1n, (1n << 63n) - 1n, (1n << 64n) - 1n];
/** The same as they may stand in a text. */
const WORDS = [
  "0",
  "-1",
  "1e308",
  "1e999",
  "0.5",
  "4294967296",
  "9007199254740993",
  "null",
  "true",
  '"x"',
  "[]",
  "{}",
  '"__proto__"',
];

/** Sizes that are nearly right, and values of other kinds. */
const JSON_VALUES = [
  ...[0, -1, 1, 3, 8, 16, 32, 64, 0.5, 4294967296, 9007199254740991, 1e308, null, true, "", "x", "__proto__"],
  ...["I32", "F16", "BF16", "F32", "U8", "I64", "F8_E4M3"],
];

/** A damaged copy of one of the files; the others are as they were. Text files are also damaged as texts, JSON also as values. */
export function mutate(files: ReadonlyMap<string, Uint8Array>, seed: number): Map<string, Uint8Array<ArrayBuffer>> {
  const random = randomOf(seed);
  const pick = <T>(list: readonly T[]): T => list[Math.floor(random() * list.length)]!;
  const out = new Map([...files].map(([path, bytes]) => [path, bytes.slice()]));
  const path = pick([...files.keys()]);
  for (let n = 1 + Math.floor(random() * 4); n > 0; n--) {
    const bytes = out.get(path)!;
    const isText = bytes.length > 0 && !bytes.includes(0);
    const asJson = isText && path.endsWith(".json") && random() < 0.5 ? damageJson(bytes, random, pick) : undefined;
    const asText = () =>
      isText && random() < 0.6 ? damageText(bytes, random, pick) : damageBytes(bytes, random, pick);
    out.set(path, asJson ?? asText());
  }
  return out;
}

type Pick = <T>(list: readonly T[]) => T;

function damageBytes(bytes: Uint8Array<ArrayBuffer>, random: () => number, pick: Pick): Uint8Array<ArrayBuffer> {
  // Headers stand at both ends; most of a file is weights, where damage goes unseen.
  const size = bytes.length;
  const reach = pick([16, 64, 512, 4096, size]);
  const near = Math.floor(random() * Math.min(size, reach));
  const at = random() < 0.25 ? Math.max(0, size - 1 - near) : near;
  const length = 1 + Math.floor(random() * pick([1, 8, 64, Math.max(1, size)]));
  switch (Math.floor(random() * 8)) {
    case 0:
      if (size > 0) bytes[at]! ^= 1 << Math.floor(random() * 8);
      return bytes;
    case 1:
      if (size > 0) bytes[at] = Math.floor(random() * 256);
      return bytes;
    case 2:
    case 3: {
      const width = pick([1, 2, 4, 8]);
      let value = pick([...WIDE_NUMBERS, BigInt(size), BigInt(size + 1), BigInt(Math.max(0, size - 1))]);
      for (let i = 0; i < width && at + i < size; i++, value >>= 8n) bytes[at + i] = Number(value & 0xffn);
      return bytes;
    }
    case 4:
      return bytes.slice(0, at);
    case 5:
      return joined(bytes.subarray(0, at), bytes.subarray(Math.min(size, at + length)));
    case 6:
      return joined(bytes.subarray(0, at), bytes.subarray(at, at + length), bytes.subarray(at));
    default: {
      const noise = Uint8Array.from({ length: Math.min(length, 64) }, () => Math.floor(random() * 256));
      return joined(bytes.subarray(0, at), noise, bytes.subarray(at));
    }
  }
}

function damageText(bytes: Uint8Array, random: () => number, pick: Pick): Uint8Array<ArrayBuffer> {
  const text = new TextDecoder().decode(bytes);
  const from = Math.floor(random() * text.length);
  // The first of its kind behind a random place.
  const replaceNext = (pattern: RegExp, by: (found: string) => string) => {
    const match = pattern.exec(text.slice(from));
    if (!match) return text;
    const start = from + match.index;
    return text.slice(0, start) + by(match[0]) + text.slice(start + match[0].length);
  };
  const changed = () => {
    switch (Math.floor(random() * 7)) {
      case 0:
        return replaceNext(/-?\d+(\.\d+)?/, () => pick(WORDS));
      case 1:
        return replaceNext(/"[^"]*"/, () => pick(WORDS));
      case 2:
        return replaceNext(/[[{]/, (open) => open.repeat(pick([2, 100, 20_000])));
      case 3: {
        const depth = pick([2, 100, 20_000]);
        return replaceNext(/:\s*/, () => `:${"[".repeat(depth)}${"]".repeat(depth)},"x":`);
      }
      case 4:
        return replaceNext(/[,:"\]}]/, () => "");
      case 5:
        return replaceNext(/"([^"]*)"/, (found) => `${found.slice(0, -1).repeat(pick([2, 50]))}"`);
      default:
        return text.slice(0, from) + pick(['"', "\\", "\n", ",", "\u0000", "\ud800", ";", "\t"]) + text.slice(from);
    }
  };
  return new TextEncoder().encode(changed()) as Uint8Array<ArrayBuffer>;
}

/** Changes one value somewhere inside, so that what comes out is JSON again; undefined for what is none before. */
function damageJson(bytes: Uint8Array, random: () => number, pick: Pick): Uint8Array<ArrayBuffer> | undefined {
  let top: unknown;
  try {
    top = JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    return undefined;
  }
  const places: [holder: Record<string, unknown>, key: string][] = [];
  let isDeep = false;
  const walk = (value: unknown, depth: number) => {
    if (typeof value !== "object" || value === null) return;
    // Damage of before: too deep to be written again.
    isDeep ||= depth > 20;
    if (isDeep) return;
    for (const key of Object.keys(value)) {
      places.push([value as Record<string, unknown>, key]);
      walk((value as Record<string, unknown>)[key], depth + 1);
    }
  };
  walk(top, 0);
  if (isDeep || places.length === 0) return undefined;
  const [holder, key] = pick(places);
  const value = holder[key];
  const [other, otherKey] = pick(places);
  switch (Math.floor(random() * 6)) {
    case 0:
      if (Array.isArray(holder)) holder.splice(Number(key), 1);
      else delete holder[key];
      break;
    case 1:
      if (Array.isArray(holder)) holder.splice(Number(key), 0, value);
      else holder[`${key}${pick(["", "2", ".weight", "_scale"])}`] = value;
      break;
    case 2:
      // Copied, since a value inside itself is no JSON.
      holder[key] = structuredClone(other[otherKey]);
      break;
    case 3:
      holder[key] = typeof value === "number" ? pick([value + 1, value - 1, value * 2, value / 2, -value]) : [value];
      break;
    default:
      holder[key] = pick(JSON_VALUES);
  }
  return new TextEncoder().encode(JSON.stringify(top)) as Uint8Array<ArrayBuffer>;
}

function joined(...parts: Uint8Array[]): Uint8Array<ArrayBuffer> {
  const out = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}
