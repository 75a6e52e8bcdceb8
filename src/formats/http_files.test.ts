import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, expect, test } from "vitest";
import { isError } from "../errors.ts";
import { HttpFileSet } from "./http_files.ts";
import type { HttpClient } from "./http_range.ts";
import { openHub, parseHubRepo } from "./hub.ts";

const servers: Server[] = [];
afterEach(async () => {
  for (const server of servers.splice(0)) {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  }
});

type Handler = (request: IncomingMessage, response: ServerResponse, count: number) => void;
async function serve(handler: Handler): Promise<{ base: string; requests: IncomingMessage[] }> {
  const requests: IncomingMessage[] = [];
  const server = createServer((request, response) => handler(request, response, requests.push(request)));
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { base: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`, requests };
}

const data = Uint8Array.from({ length: 1_000_000 }, (_, i) => (i * 7 + (i >> 8)) & 255);
const rangeOf = (request: IncomingMessage) => {
  const match = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? "");
  return match ? { first: Number(match[1]), last: Math.min(Number(match[2]), data.length - 1) } : undefined;
};
/** A server that does it right. */
const good: Handler = (request, response) => {
  const range = rangeOf(request);
  if (!range) return void response.writeHead(200).end(data);
  if (range.first >= data.length)
    return void response.writeHead(416, { "content-range": `bytes */${data.length}` }).end();
  response.writeHead(206, { "content-range": `bytes ${range.first}-${range.last}/${data.length}` });
  response.end(data.subarray(range.first, range.last + 1));
};
const waits: number[] = [];
const client: Partial<HttpClient> = {
  delay: async (milliseconds) => void waits.push(milliseconds),
};
const open = (base: string, more: Partial<HttpClient> = {}) =>
  new HttpFileSet(base, { client: { ...client, ...more } });
const failure = async (promise: Promise<unknown>) => {
  const error: unknown = await promise.then(
    () => undefined,
    (e: unknown) => e,
  );
  expect(error).toBeInstanceOf(Error);
  return error as Error;
};

test("ranges come back exactly, across the part that was read first", async () => {
  const { base, requests } = await serve(good);
  const files = open(base);
  expect(await files.size("w.bin")).toBe(data.length);
  expect(requests.length).toBe(1);
  for (const [offset, length] of [
    [0, 10],
    [262_140, 20],
    [500_000, 100_001],
    [data.length - 1, 1],
    [10, 0],
  ] as const) {
    expect(await files.read("w.bin", offset, length)).toEqual(data.slice(offset, offset + length));
  }
  expect((await failure(files.read("w.bin", data.length - 1, 2))).message).toMatch(/the file has 1000000/);
});

test("a cut connection is continued after the bytes that came", async () => {
  const { base, requests } = await serve((request, response, count) => {
    const range = rangeOf(request)!;
    if (count === 1 || count > 4) return good(request, response, count);
    response.writeHead(206, {
      "content-range": `bytes ${range.first}-${range.last}/${data.length}`,
      "content-length": range.last - range.first + 1,
    });
    response.write(data.subarray(range.first, range.first + 50_000), () => setTimeout(() => response.destroy(), 20));
  });
  const files = open(base);
  expect(await files.read("w.bin", 300_000, 400_000)).toEqual(data.slice(300_000, 700_000));
  const starts = requests.map((request) => rangeOf(request)!.first);
  expect(starts.slice(0, 2)).toEqual([0, 300_000]);
  expect(starts.at(-1)!).toBeGreaterThan(300_000);
  expect(requests.length).toBe(5);
});

test("429 and 503 wait as long as the server says, then go on; the wait doubles where it says nothing", async () => {
  waits.length = 0;
  const { base } = await serve((request, response, count) => {
    if (count === 1) response.writeHead(429, { "retry-after": "3" }).end();
    else if (count === 2) response.writeHead(429, { ratelimit: '"resolvers";r=0;t=7' }).end();
    else if (count < 6) response.writeHead(503).end("busy");
    else good(request, response, count);
  });
  expect(await open(base).size("w.bin")).toBe(data.length);
  expect(waits).toEqual([3000, 7000, 2000, 4000, 8000]);
});

test("a server that stays broken is given up with a message, not forever", async () => {
  const { base, requests } = await serve((_, response) => void response.writeHead(500).end());
  const error = await failure(open(base).size("w.bin"));
  expect(isError(error, "Network")).toBe(true);
  expect(error.message).toMatch(/w\.bin: the server answered 500 \(7 tries\)/);
  expect(requests.length).toBe(7);
});

test("no server at all is a Network error", async () => {
  const error = await failure(open("http://127.0.0.1:1/", { attempts: 2 }).size("w.bin"));
  expect(isError(error, "Network")).toBe(true);
});

test("a server that is silent for too long is asked again", async () => {
  const { base } = await serve((request, response, count) => {
    if (count > 1) good(request, response, count); // The first request gets no answer.
  });
  expect(await open(base, { idleMilliseconds: 100 }).size("w.bin")).toBe(data.length);
});

test.each<[string, (first: number, last: number) => string]>([
  ["starts elsewhere", (first, last) => `bytes ${first + 1}-${last}/${data.length}`],
  ["is longer than asked", (first, last) => `bytes ${first}-${last + 5}/${data.length}`],
])("an answer whose range %s is never taken", async (_, range) => {
  const { base } = await serve((request, response, count) => {
    if (count === 1) return good(request, response, count);
    const { first, last } = rangeOf(request)!;
    response.writeHead(206, { "content-range": range(first, last) }).end(data.subarray(first, last + 1));
  });
  const error = await failure(open(base).read("w.bin", 300_000, 1000));
  expect(isError(error, "Network")).toBe(true);
  expect(error.message).toMatch(/asked for bytes from 300000/);
});

test("a shorter range than asked is completed", async () => {
  const { base } = await serve((request, response) => {
    const { first, last } = rangeOf(request)!;
    const end = Math.min(last, first + 99_999);
    response.writeHead(206, { "content-range": `bytes ${first}-${end}/${data.length}` });
    response.end(data.subarray(first, end + 1));
  });
  expect(await open(base).read("w.bin", 300_000, 500_000)).toEqual(data.slice(300_000, 800_000));
});

test("more bytes than announced are not taken", async () => {
  const { base } = await serve((request, response, count) => {
    if (count === 1) return good(request, response, count);
    const { first, last } = rangeOf(request)!;
    response
      .writeHead(206, { "content-range": `bytes ${first}-${last}/${data.length}` })
      .end(data.subarray(first, last + 9));
  });
  expect((await failure(open(base).read("w.bin", 300_000, 1000))).message).toMatch(/more than the 1000 bytes/);
});

test("a file that is replaced during the read is noticed", async () => {
  const { base } = await serve((request, response, count) => {
    if (count === 1) return good(request, response, count);
    const { first, last } = rangeOf(request)!;
    response.writeHead(206, { "content-range": `bytes ${first}-${last}/999999` }).end(data.subarray(first, last + 1));
  });
  expect((await failure(open(base).read("w.bin", 300_000, 1000))).message).toMatch(/replaced/);
});

test("a server without ranges: small files are read whole, once", async () => {
  const { base, requests } = await serve(
    (_, response) => void response.writeHead(200, { "content-length": data.length }).end(data),
  );
  const files = open(base);
  expect(await files.read("w.bin", 700_000, 1000)).toEqual(data.slice(700_000, 701_000));
  expect(await files.read("w.bin", 5, 5)).toEqual(data.slice(5, 10));
  expect(requests.length).toBe(1);
});

test("a server without ranges: large files are refused before they are read", async () => {
  let sent = 0;
  const { base } = await serve((_, response) => {
    response.writeHead(200, { "content-length": 5e9 });
    const more = () => {
      sent += 65536;
      if (!response.destroyed && response.write(new Uint8Array(65536))) setTimeout(more, 1);
    };
    response.on("drain", more);
    more();
  });
  const error = await failure(open(base).size("w.bin"));
  expect(isError(error, "Network")).toBe(true);
  expect(error.message).toMatch(/ignores range requests and the file has 5000000000 bytes/);
  expect(sent).toBeLessThan(64 << 20);
});

test("missing files: 404, and the web page that single-page servers send in their place", async () => {
  const { base } = await serve((request, response) => {
    if (request.url === "/a") response.writeHead(404).end();
    else response.writeHead(200, { "content-type": "text/html; charset=utf-8" }).end("<!doctype html>");
  });
  const files = open(base);
  expect(await files.has("a")).toBe(false);
  expect(await files.has("config.json")).toBe(false);
  expect(isError(await failure(files.text("config.json")), "NotFound")).toBe(true);
});

test("where the files are known, no other is asked for", async () => {
  const { base, requests } = await serve(good);
  const files = new HttpFileSet(base, { only: ["w.bin"] });
  expect([await files.has("w.bin"), await files.has("x.bin"), await files.list()]).toEqual([true, false, undefined]);
  expect(isError(await failure(files.size("x.bin")), "NotFound")).toBe(true);
  expect(requests.length).toBe(0);
  expect(await files.size("w.bin")).toBe(data.length);
});

test("redirects are followed", async () => {
  const { base } = await serve((request, response, count) => {
    if (request.url === "/w.bin") response.writeHead(302, { location: "/elsewhere?signature=1" }).end();
    else good(request, response, count);
  });
  expect(await open(base).read("w.bin", 400_000, 10)).toEqual(data.slice(400_000, 400_010));
});

test("an address that ran out (403) is asked for again, but a lasting refusal ends", async () => {
  const { base, requests } = await serve((request, response, count) => {
    if (count % 2 === 0) response.writeHead(403).end();
    else good(request, response, count);
  });
  expect(await open(base).read("w.bin", 400_000, 10)).toEqual(data.slice(400_000, 400_010));
  const { base: closed } = await serve((_, response) => void response.writeHead(403).end());
  expect((await failure(open(closed).size("w.bin"))).message).toMatch(/403/);
  expect(requests.length).toBe(3);
  // Behind other failures it is still the first.
  const { base: busy } = await serve((request, response, count) => {
    if (count < 4) response.writeHead([503, 503, 403][count - 1]!).end();
    else good(request, response, count);
  });
  expect(await open(busy).size("w.bin")).toBe(data.length);
});

test("a gated repository is explained", async () => {
  const { base } = await serve((_, response) => void response.writeHead(403, { "x-error-code": "GatedRepo" }).end());
  expect((await failure(open(base).size("w.bin"))).message).toMatch(/gated.*terms/);
});

test("cancel ends a read at once, and the same files can be read again", async () => {
  let stall = true;
  const { base } = await serve((request, response, count) => {
    if (count === 1 || !stall) return good(request, response, count);
    const { first, last } = rangeOf(request)!;
    response.writeHead(206, { "content-range": `bytes ${first}-${last}/${data.length}` });
    response.write(data.subarray(first, first + 10)); // The rest never comes.
  });
  const files = open(base);
  await files.size("w.bin");
  const abort = new AbortController();
  const started = performance.now();
  setTimeout(() => abort.abort(), 30);
  expect(isError(await failure(files.read("w.bin", 300_000, 100, abort.signal)), "Cancelled")).toBe(true);
  expect(performance.now() - started).toBeLessThan(200);
  stall = false;
  expect(await files.read("w.bin", 300_000, 100)).toEqual(data.slice(300_000, 300_100));
});

test("a cancel while waiting to try again ends the wait", async () => {
  const { base } = await serve((_, response) => void response.writeHead(500).end());
  const abort = new AbortController();
  setTimeout(() => abort.abort(), 30);
  const files = new HttpFileSet(base, { client: { firstDelay: 60_000 } });
  expect(isError(await failure(files.size("w.bin", abort.signal)), "Cancelled")).toBe(true);
});

test("an empty file and a text of several kilobytes", async () => {
  const text = "é漢🙂".repeat(200_000);
  const bytes = new TextEncoder().encode(text);
  const { base } = await serve((request, response) => {
    const range = rangeOf(request);
    if (request.url === "/empty") response.writeHead(416, { "content-range": "bytes */0" }).end();
    else if (range) {
      response.writeHead(206, { "content-range": `bytes ${range.first}-${range.last}/${bytes.length}` });
      response.end(bytes.subarray(range.first, range.last + 1));
    } else response.end(bytes);
  });
  const files = open(base);
  expect(await files.size("empty")).toBe(0);
  expect(await files.text("empty")).toBe("");
  expect(await files.text("t.json")).toBe(text);
});

test("addresses that are none are refused", () => {
  expect(() => new HttpFileSet("not an address")).toThrow(/https:/);
  expect(() => new HttpFileSet("file:///etc/")).toThrow(/https:/);
});

test.each([
  ["Qwen/Qwen3-VL-4B-Instruct", "Qwen/Qwen3-VL-4B-Instruct", undefined],
  [" https://huggingface.co/Qwen/Qwen3-VL-4B-Instruct/ ", "Qwen/Qwen3-VL-4B-Instruct", undefined],
  ["hf.co/a/b/tree/refs%2Fpr%2F1", "a/b", "refs/pr/1"],
  ["https://huggingface.co/a/b/resolve/v1.0/model.safetensors?download=true", "a/b", "v1.0"],
  ["a/b@0123abc", "a/b", "0123abc"],
])("repository %s", (text, repo, revision) => {
  expect(parseHubRepo(text)).toEqual(revision === undefined ? { repo } : { repo, revision });
});

test.each(["", "Qwen", "a/b/c/d", "https://example.org/a/b", "../b", "a/.."])("%s is not a repository", (text) => {
  expect(() => parseHubRepo(text)).toThrow(/Expected a repository/);
});

test("a list of files that goes on at another host is not followed: the token would go with it", async () => {
  const sha = "0123456789abcdef0123456789abcdef01234567";
  const { base } = await serve((request, response) => {
    if (request.url!.includes("/revision/")) return void response.end(JSON.stringify({ sha }));
    response.writeHead(200, { link: '<https://other.example/next>; rel="next"' }).end("[]");
  });
  const error = await failure(openHub("a/b", { endpoint: base, token: "secret", client }));
  expect(error.message).toMatch(/goes on at another host \(other\.example\)/);
});

test.each([
  ["no commit", "{}", /expected the commit of “main”, found undefined/],
  ["no JSON", "<html>", /is not JSON/],
])("an address that answers with %s is not a Hub", async (_, body, message) => {
  const { base } = await serve((_, response) => void response.end(body));
  expect((await failure(openHub("a/b", { endpoint: base, client }))).message).toMatch(message);
});

test("a version that changes between two ranges is noticed by its ETag, also at the same size", async () => {
  const { base } = await serve((request, response, count) => {
    const { first, last } = rangeOf(request)!;
    const headers = { "content-range": `bytes ${first}-${last}/${data.length}`, etag: count < 3 ? '"a"' : '"b"' };
    response.writeHead(206, headers).end(data.subarray(first, last + 1));
  });
  const files = open(base);
  expect(await files.read("w.bin", 300_000, 10)).toEqual(data.slice(300_000, 300_010));
  expect((await failure(files.read("w.bin", 300_000, 10))).message).toMatch(/replaced.*ETag a, now b/);
});

test("a waiting time may be a date; more than five minutes is not waited", async () => {
  waits.length = 0;
  const { base } = await serve((request, response, count) => {
    if (count === 1) response.writeHead(429, { "retry-after": new Date(Date.now() + 60_000).toUTCString() }).end();
    else if (count === 2) response.writeHead(503, { "retry-after": "86400" }).end();
    else good(request, response, count);
  });
  expect(await open(base).size("w.bin")).toBe(data.length);
  expect(waits[0]).toBeGreaterThan(55_000);
  expect(waits[0]).toBeLessThanOrEqual(60_000);
  expect(waits[1]).toBe(300_000);
});

test("an unknown repository or revision is NotFound", async () => {
  const { base } = await serve((_, response) => void response.writeHead(404).end());
  const error = await failure(openHub("a/b", { endpoint: base.slice(0, -1), revision: "nope", client }));
  expect(isError(error, "NotFound")).toBe(true);
  expect(error.message).toMatch(/a\/b.*nope/);
});
