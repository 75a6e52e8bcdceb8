import type { ReachAnswer, ReachRequest } from "./worker_reach.ts";

/** Hosts that index.html's policy names: the engine's worker asks them itself. */
const NAMED = /^(localhost|127\.0\.0\.1|([\w-]+\.)*(huggingface\.co|hf\.co))$/;

interface Open {
  head: (response: Response) => void;
  fail: (error: Error) => void;
  body: ReadableStreamDefaultController<Uint8Array> | undefined;
}

let worker: Worker | undefined;
const open = new Map<number, Open>();
let last = 0;

/**
 * What fetches from below an address that a visitor has typed: `fetch` itself where the page's policy allows it, else a worker
 * that may reach other hosts and does nothing but that.
 */
export function fetchFrom(address: string): typeof fetch {
  const { origin, hostname } = new URL(address);
  if (origin === self.location.origin || NAMED.test(hostname)) return (input, init) => fetch(input, init);
  if (!worker) {
    worker = new Worker(new URL("./worker_reach.ts", import.meta.url), { type: "module", name: "reach" });
    worker.onmessage = ({ data }: MessageEvent<ReachAnswer>) => take(data);
  }
  post({ kind: "allow", origin });
  return get;
}

function post(request: ReachRequest): void {
  worker?.postMessage(request);
}

const get: typeof fetch = async (input, init) => {
  const id = ++last;
  const { signal } = init ?? {};
  signal?.throwIfAborted();
  signal?.addEventListener("abort", () => {
    post({ kind: "abort", id });
    end(id, new DOMException("The request was ended.", "AbortError"));
  });
  return await new Promise<Response>((head, fail) => {
    open.set(id, { head, fail, body: undefined });
    post({ kind: "get", id, url: String(input), headers: (init?.headers ?? {}) as Record<string, string> });
  });
};

function take(answer: ReachAnswer): void {
  const { id } = answer;
  const request = open.get(id);
  if (!request) return;
  if (answer.kind === "piece") request.body?.enqueue(answer.bytes);
  else if (answer.kind === "end") end(id, answer.error === undefined ? undefined : new TypeError(answer.error));
  else {
    const hasBody = ![204, 205, 304].includes(answer.status);
    const stream = new ReadableStream<Uint8Array>({
      start(controller) {
        request.body = controller;
      },
      cancel: () => post({ kind: "abort", id }),
    });
    request.head(new Response(hasBody ? stream : null, { status: answer.status, headers: answer.headers }));
  }
}

function end(id: number, error: Error | undefined): void {
  const request = open.get(id);
  if (!request) return;
  open.delete(id);
  try {
    if (!error) request.body?.close();
    else if (request.body) request.body.error(error);
    else request.fail(error);
  } catch {
    // The reader has gone already.
  }
}
