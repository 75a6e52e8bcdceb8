/*
 * The only part of the app that may contact hosts which the page's policy does not name: the server's policy for this one script
 * allows https. It holds nothing but what it is told, asks for files with GET, and only below the addresses that a visitor has typed.
 */

/** What the engine's worker asks for. */
export type ReachRequest =
  | { kind: "allow"; origin: string }
  | { kind: "get"; id: number; url: string; headers: Record<string, string> }
  | { kind: "abort"; id: number };

/** What comes back: the head of the answer, pieces of its body, and its end or the reason why there is none. */
export type ReachAnswer =
  | { kind: "head"; id: number; status: number; headers: [string, string][] }
  | { kind: "piece"; id: number; bytes: Uint8Array<ArrayBuffer> }
  | { kind: "end"; id: number; error?: string };

const allowed = new Set<string>();
const running = new Map<number, AbortController>();

self.onmessage = ({ data }: MessageEvent<ReachRequest>) => {
  if (data.kind === "allow") allowed.add(data.origin);
  else if (data.kind === "abort") running.get(data.id)?.abort();
  else void get(data.id, data.url, data.headers);
};

function say(answer: ReachAnswer, transfer: Transferable[] = []): void {
  self.postMessage(answer, { transfer });
}

async function get(id: number, url: string, headers: Record<string, string>): Promise<void> {
  const abort = new AbortController();
  running.set(id, abort);
  try {
    if (!allowed.has(new URL(url).origin)) throw new Error(`${new URL(url).origin} was not named by the visitor`);
    const response = await fetch(url, {
      headers,
      signal: abort.signal,
      credentials: "omit",
      referrerPolicy: "no-referrer",
      cache: "no-store",
    });
    const found: [string, string][] = [];
    response.headers.forEach((value, name) => {
      found.push([name, value]);
    });
    say({ kind: "head", id, status: response.status, headers: found });
    for (const reader = response.body?.getReader(); reader; ) {
      const { done, value } = await reader.read();
      if (done) break;
      const bytes = value as Uint8Array<ArrayBuffer>;
      say({ kind: "piece", id, bytes }, [bytes.buffer]);
    }
    say({ kind: "end", id });
  } catch (error) {
    say({ kind: "end", id, error: error instanceof Error ? error.message : String(error) });
  } finally {
    running.delete(id);
  }
}
