import { TabTuneError, throwIfCancelled } from "../errors.ts";

/** How requests are made; tests put in their own clock. */
export interface HttpClient {
  fetch: typeof fetch;
  /** Waits, or rejects when the signal fires. */
  delay: (milliseconds: number, signal?: AbortSignal) => Promise<void>;
  /** Tries without any progress before giving up, and the wait before the second; it doubles each time. */
  attempts: number;
  firstDelay: number;
  /** A connection that brings nothing for this long is dropped and tried again. */
  idleMilliseconds: number;
  /** Sent as a bearer token to the base's own host; the browser drops it on redirects to another host. */
  token?: string;
}

export const DEFAULT_CLIENT: HttpClient = {
  fetch: (input, init) => fetch(input, init),
  delay: sleep,
  attempts: 7,
  firstDelay: 500,
  idleMilliseconds: 30_000,
};

/** What a server said to a request for a range. */
export type RangeAnswer =
  | { kind: "part"; bytes: Uint8Array<ArrayBuffer>; total: number | undefined; tag: string | undefined }
  /** The server ignores ranges; `length` is what it announced. The body has been dropped unless it was within `keepWhole`. */
  | { kind: "whole"; bytes: Uint8Array<ArrayBuffer> | undefined; length: number | undefined }
  | { kind: "missing"; why: string }
  /** Asked beyond the end. */
  | { kind: "beyond"; total: number | undefined };

/** A server that asks for more is asked again after this. The Hub's windows are five minutes long. */
const MAX_SERVER_DELAY = 300_000;

class Retry extends Error {
  readonly waitMilliseconds: number | undefined;
  readonly limit: number;
  constructor(message: string, waitMilliseconds?: number, limit = Number.POSITIVE_INFINITY, options?: ErrorOptions) {
    super(message, options);
    this.waitMilliseconds = waitMilliseconds;
    this.limit = limit;
  }
}

/**
 * Bytes offset … offset+length-1 of a URL, or fewer at the end of the file. Connection loss, 408, 425, 429 and 5xx are tried again,
 * continuing after the bytes that have come; the server's own waiting time is kept to (at most five minutes).
 */
export async function fetchRange(
  client: HttpClient,
  url: string,
  offset: number,
  length: number,
  keepWhole: number,
  signal?: AbortSignal,
): Promise<RangeAnswer> {
  const progress: Progress = { out: new Uint8Array(length), have: 0, want: length, total: undefined, tag: undefined };
  return await retrying(
    client,
    url,
    () => progress.have,
    signal,
    async () => {
      const answer = await requestPart(client, url, offset, progress, keepWhole, signal);
      if (answer) return answer;
      const bytes = progress.have === length ? progress.out : progress.out.slice(0, progress.have);
      return { kind: "part", bytes, total: progress.total, tag: progress.tag };
    },
  );
}

/** A whole small file with the headers that came with it; `bytes` is undefined when it is missing. */
export async function fetchWhole(
  client: HttpClient,
  url: string,
  limit: number,
  signal?: AbortSignal,
): Promise<{ bytes: Uint8Array<ArrayBuffer> | undefined; headers: Headers }> {
  return await retrying(
    client,
    url,
    () => 0,
    signal,
    async () => {
      return await withResponse(client, url, undefined, signal, async (response, idle) => {
        const { headers } = response;
        if (isMissing(url, response)) return { bytes: undefined, headers };
        if (response.status !== 200) throw refusal(client, url, response);
        return { bytes: await readBody(url, response, limit, idle), headers };
      });
    },
  );
}

interface Progress {
  out: Uint8Array<ArrayBuffer>;
  have: number;
  /** Bytes wanted in all; lowered when the file turns out to be shorter. */
  want: number;
  total: number | undefined;
  /** What the server calls this version of the file. */
  tag: string | undefined;
}

async function retrying<T>(
  client: HttpClient,
  url: string,
  progress: () => number,
  signal: AbortSignal | undefined,
  attempt: () => Promise<T>,
): Promise<T> {
  let failures = 0;
  /** Those since the last one that may be tried more often: a refusal behind two 503s is the first of its kind. */
  let limited = 0;
  let before = progress();
  for (;;) {
    throwIfCancelled(signal);
    try {
      return await attempt();
    } catch (error) {
      throwIfCancelled(signal);
      if (!(error instanceof Retry)) throw error;
      if (progress() > before) failures = limited = 0;
      before = progress();
      failures++;
      limited = error.limit < client.attempts ? limited + 1 : 0;
      if (failures >= client.attempts || limited >= error.limit) {
        throw new TabTuneError(
          "Network",
          `${shorten(url)}: ${error.message} (${failures} tries). What has been stored is kept; check the connection and start again to go on.`,
          { cause: error },
        );
      }
      await client.delay(error.waitMilliseconds ?? client.firstDelay * 2 ** (failures - 1), signal);
    }
  }
}

/** One request for what is still missing. Fills `progress`; answers only when there is something else to say. */
async function requestPart(
  client: HttpClient,
  url: string,
  offset: number,
  progress: Progress,
  keepWhole: number,
  signal: AbortSignal | undefined,
): Promise<RangeAnswer | undefined> {
  while (progress.have < progress.want) {
    const first = offset + progress.have;
    const range = `bytes=${first}-${offset + progress.want - 1}`;
    const answer = await withResponse(client, url, range, signal, async (response, idle) => {
      if (isMissing(url, response)) return { kind: "missing" as const, why: `status ${response.status}` };
      if (response.status === 416) return { kind: "beyond" as const, total: contentRange(response)?.total };
      if (response.status === 200) return await wholeAnswer(url, response, keepWhole, idle);
      if (response.status !== 206) throw refusal(client, url, response);
      await readPart(url, response, first, progress, offset, idle);
      return undefined;
    });
    if (answer) return answer;
  }
  return undefined;
}

async function wholeAnswer(url: string, response: Response, keepWhole: number, idle: () => void): Promise<RangeAnswer> {
  // With a Content-Encoding the announced length is that of the compressed bytes.
  const plain = !response.headers.get("content-encoding");
  const header = response.headers.get("content-length");
  const length = plain && header !== null ? Number(header) : undefined;
  if (length !== undefined && length > keepWhole) return { kind: "whole", bytes: undefined, length };
  const bytes = await readBody(url, response, keepWhole, idle, length);
  return { kind: "whole", bytes, length: bytes.length };
}

async function readPart(
  url: string,
  response: Response,
  first: number,
  progress: Progress,
  offset: number,
  idle: () => void,
): Promise<void> {
  const tag = versionTag(response);
  if (progress.tag !== undefined && tag !== undefined && tag !== progress.tag) {
    throw new TabTuneError(
      "Network",
      `${shorten(url)}: the file changed on the server while it was read (ETag ${progress.tag}, now ${tag}). Start again.`,
    );
  }
  progress.tag ??= tag;
  // Content-Range may be hidden by CORS; then the length of the body is all there is to check.
  const range = contentRange(response);
  let count = progress.want - progress.have;
  if (range) {
    if (range.first !== first || range.last < first || range.last - first + 1 > count) {
      throw new Retry(
        `asked for bytes from ${first}, the server sent bytes ${range.first} to ${range.last}`,
        undefined,
        3,
      );
    }
    if (range.total !== undefined) {
      if (progress.total !== undefined && progress.total !== range.total) {
        throw new TabTuneError(
          "Network",
          `${shorten(url)}: the file changed on the server while it was read (${progress.total} bytes, now ${range.total}). Start again.`,
        );
      }
      progress.total = range.total;
      progress.want = Math.min(progress.want, range.total - offset);
    }
    count = range.last - first + 1;
  }
  const end = progress.have + count;
  for await (const chunk of bodyChunks(response, idle)) {
    if (progress.have + chunk.length > end) {
      throw new Retry(`the server sent more than the ${count} bytes it announced`, undefined, 3);
    }
    progress.out.set(chunk, progress.have);
    progress.have += chunk.length;
  }
  if (range && progress.have < end) throw new Retry("the connection was cut");
  if (!range) {
    if (progress.have === 0) throw new Retry("the server sent an empty answer");
    // Without a total, a short body is either a cut or the file's end; asking again tells which (416).
    if (progress.have < end)
      throw new Retry("the connection was cut, or the file is shorter than expected", undefined, 3);
  }
}

async function* bodyChunks(response: Response, idle: () => void): AsyncGenerator<Uint8Array> {
  const reader = response.body?.getReader();
  if (!reader) return;
  try {
    for (;;) {
      const { done, value } = await reader.read();
      idle();
      if (done) return;
      yield value;
    }
  } finally {
    void reader.cancel().catch(() => undefined);
  }
}

async function readBody(
  url: string,
  response: Response,
  limit: number,
  idle: () => void,
  announced?: number,
): Promise<Uint8Array<ArrayBuffer>> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of bodyChunks(response, idle)) {
    length += chunk.length;
    if (length > limit) {
      throw new TabTuneError("Network", `${shorten(url)}: expected at most ${limit} bytes, the server sends more.`);
    }
    chunks.push(chunk);
  }
  if (announced !== undefined && length !== announced) throw new Retry("the connection was cut");
  const out = new Uint8Array(length);
  let at = 0;
  for (const chunk of chunks) {
    out.set(chunk, at);
    at += chunk.length;
  }
  return out;
}

/** Makes one request, gives its response to `use`, and ends the request whatever happens, also when nothing comes for too long. */
async function withResponse<T>(
  client: HttpClient,
  url: string,
  range: string | undefined,
  signal: AbortSignal | undefined,
  use: (response: Response, idle: () => void) => Promise<T>,
): Promise<T> {
  const abort = new AbortController();
  const onAbort = () => abort.abort();
  signal?.addEventListener("abort", onAbort);
  let timer: ReturnType<typeof setTimeout> | undefined;
  const idle = () => {
    clearTimeout(timer);
    timer = setTimeout(onAbort, client.idleMilliseconds);
  };
  try {
    idle();
    const headers: Record<string, string> = {};
    if (range) headers.range = range;
    if (client.token) headers.authorization = `Bearer ${client.token}`;
    const response = await client.fetch(url, {
      headers,
      signal: abort.signal,
      credentials: "omit",
      referrerPolicy: "no-referrer",
      cache: "no-store",
    });
    idle();
    return await use(response, idle);
  } catch (cause) {
    if (cause instanceof TabTuneError || cause instanceof Retry) throw cause;
    // fetch and the body reader reject with TypeError or AbortError for every kind of connection trouble.
    throw new Retry("no connection, or the server does not allow this page to read it", undefined, undefined, {
      cause,
    });
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", onAbort);
    abort.abort();
  }
}

/** Missing, or a single-page server's index.html in its place. */
function isMissing(url: string, response: Response): boolean {
  if (response.status === 404 || response.status === 410) return true;
  const type = response.headers.get("content-type") ?? "";
  return response.ok && type.startsWith("text/html") && !new URL(url).pathname.endsWith(".html");
}

/** A strong ETag without its quotes, where the server sends one and lets this page see it. */
function versionTag(response: Response): string | undefined {
  return /^"([^"]+)"$/.exec(response.headers.get("etag") ?? "")?.[1];
}

function contentRange(response: Response): { first: number; last: number; total: number | undefined } | undefined {
  const header = response.headers.get("content-range");
  const match = header && /^bytes (?:(\d+)-(\d+)|\*)\/(\d+|\*)$/.exec(header.trim());
  if (!match) return undefined;
  return {
    first: Number(match[1] ?? 0),
    last: Number(match[2] ?? -1),
    total: match[3] === "*" ? undefined : Number(match[3]),
  };
}

function refusal(client: HttpClient, url: string, response: Response): Error {
  const { status } = response;
  const code = response.headers.get("x-error-code") ?? "";
  if (status === 408 || status === 425 || status === 429 || status >= 500) {
    return new Retry(`the server answered ${status}`, serverDelay(response));
  }
  if (code === "GatedRepo") {
    return new TabTuneError(
      "Network",
      `${shorten(url)}: this repository is gated. Accept its terms on its own page, then give an access token, or import a downloaded folder.`,
    );
  }
  if (status === 401 && client.token) {
    return new TabTuneError(
      "Network",
      `${shorten(url)}: the server does not take this access token (401). It may have run out: make a new one with read access.`,
    );
  }
  if (status === 401) {
    return new TabTuneError(
      "Network",
      `${shorten(url)}: the server wants an access token (401), or the repository does not exist. Check its name.`,
    );
  }
  // A signed address that has run out answers 403; the next request gets a new one.
  if (status === 403) return new Retry("the server refuses access (403)", undefined, 3);
  return new TabTuneError("Network", `${shorten(url)}: expected status 206, the server answered ${status}.`);
}

/** Milliseconds the server asks to wait: Retry-After in seconds or as a date, or the `t` of its rate-limit header. */
function serverDelay(response: Response): number | undefined {
  const after = response.headers.get("retry-after");
  const limit = /;\s*t=(\d+)/.exec(response.headers.get("ratelimit") ?? "");
  const seconds = after === null ? Number(limit?.[1] ?? Number.NaN) : Number(after);
  const milliseconds = Number.isFinite(seconds) ? seconds * 1000 : Date.parse(after ?? "") - Date.now();
  return Number.isFinite(milliseconds) ? Math.min(Math.max(0, milliseconds), MAX_SERVER_DELAY) : undefined;
}

function sleep(milliseconds: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const onAbort = () => {
      clearTimeout(timer);
      reject(new TabTuneError("Cancelled", "The operation was cancelled."));
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", onAbort);
      resolve();
    }, milliseconds);
    signal?.addEventListener("abort", onAbort, { once: true });
  });
}

/** The URL without its query, which may hold a signature. */
function shorten(url: string): string {
  return url.replace(/[?#].*$/, "");
}
