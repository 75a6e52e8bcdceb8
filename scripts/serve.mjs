// A small static file server: what `npm start` and the browser tests use. Ranges, cross-origin isolation, sub-paths.
import { createReadStream, existsSync, readFileSync, statSync } from "node:fs";
import { createServer } from "node:http";
import { extname, join, normalize, sep } from "node:path";

const TYPES = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript",
  ".mjs": "text/javascript",
  ".wasm": "application/wasm",
  ".css": "text/css",
  ".json": "application/json",
  ".webmanifest": "application/manifest+json",
  ".svg": "image/svg+xml",
  ".png": "image/png",
  ".jpg": "image/jpeg",
  ".ico": "image/x-icon",
  ".txt": "text/plain; charset=utf-8",
};

/**
 * Headers of every response. The policy of index.html's meta element is sent as a header too: the worker is not held by the
 * meta element alone (DECISIONS.md, 2026-11-24).
 * @param {string} folder a built app
 * @returns {Record<string, string>}
 */
export function siteHeaders(folder) {
  const page = join(folder, "index.html");
  const html = existsSync(page) ? readFileSync(page, "utf8") : "";
  const meta = html.match(/http-equiv="Content-Security-Policy"\s+content="([^"]+)"/i);
  return {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "X-Content-Type-Options": "nosniff",
    ...(meta?.[1] ? { "Content-Security-Policy": meta[1].replace(/\s+/g, " ").trim() } : {}),
  };
}

/** The one script that may reach hosts which the page's policy does not name, where a visitor has typed their address (DECISIONS.md, 2026-11-25). */
const REACHES = /\/worker\/worker_reach-[\w-]+\.js$/;

/**
 * The policy for one file.
 * @param {string} path
 * @param {Record<string, string>} headers
 */
function headersOf(path, headers) {
  const policy = headers["Content-Security-Policy"];
  if (!policy || !REACHES.test(path)) return headers;
  return { ...headers, "Content-Security-Policy": policy.replace("connect-src ", "connect-src https: ") };
}

/**
 * The byte range that a request asks for, or undefined for the whole file, or null when it cannot be satisfied.
 * @param {string | undefined} header
 * @param {number} size
 */
function parseRange(header, size) {
  const match = header?.match(/^bytes=(\d*)-(\d*)$/);
  if (!match || (match[1] === "" && match[2] === "")) return undefined;
  const start = match[1] === "" ? Math.max(0, size - Number(match[2])) : Number(match[1]);
  const end = match[1] === "" || match[2] === "" ? size - 1 : Math.min(Number(match[2]), size - 1);
  return start <= end && start < size ? { start, end } : null;
}

/**
 * Serves folders on localhost. `folders` maps URL prefixes ("/" or "/app/") to folders; the longest prefix wins.
 * @param {Record<string, string>} folders
 * @param {{ port?: number, attempts?: number, onRequest?: (path: string) => void }} [options] port 0 takes any free one; with
 *   `attempts` the next ports are tried when one is taken
 * @returns {Promise<{ port: number, url: string, close: () => Promise<void> }>}
 */
export async function serve(folders, { port = 0, attempts = 1, onRequest } = {}) {
  const prefixes = Object.keys(folders).sort((a, b) => b.length - a.length);
  const headers = Object.fromEntries(prefixes.map((prefix) => [prefix, siteHeaders(folders[prefix])]));
  const site = headers[prefixes.find((prefix) => headers[prefix]["Content-Security-Policy"]) ?? prefixes[0]];

  const server = createServer((request, response) => {
    /** @param {number} status @param {string} text */
    const refuse = (status, text) => response.writeHead(status, { "Content-Type": "text/plain", ...site }).end(text);
    let path;
    try {
      path = decodeURIComponent(new URL(request.url ?? "/", "http://localhost").pathname);
    } catch {
      return refuse(400, "bad address");
    }
    onRequest?.(path);
    if (request.method !== "GET" && request.method !== "HEAD") return refuse(405, "only GET and HEAD");
    const prefix = prefixes.find((p) => path.startsWith(p));
    if (prefix === undefined) return refuse(404, "not found");
    const inside = normalize(path.slice(prefix.length) || "index.html");
    if (inside.split(sep).includes("..") || inside.includes("\0")) return refuse(404, "not found");
    let file = join(folders[prefix], inside);
    if (existsSync(file) && statSync(file).isDirectory()) file = join(file, "index.html");
    if (!existsSync(file)) return refuse(404, "not found");

    const { size, mtimeMs } = statSync(file);
    const range = parseRange(request.headers.range, size);
    const etag = `"${size.toString(16)}-${Math.floor(mtimeMs).toString(16)}"`;
    const common = {
      ...headersOf(path, site),
      "Content-Type": TYPES[/** @type {keyof typeof TYPES} */ (extname(file))] ?? "application/octet-stream",
      "Cache-Control": "no-cache",
      "Accept-Ranges": "bytes",
      ETag: etag,
    };
    if (!request.headers.range && request.headers["if-none-match"] === etag)
      return response.writeHead(304, common).end();
    if (range === null) return response.writeHead(416, { ...common, "Content-Range": `bytes */${size}` }).end();
    const { start, end } = range ?? { start: 0, end: size - 1 };
    response.writeHead(range ? 206 : 200, {
      ...common,
      "Content-Length": end - start + 1,
      ...(range ? { "Content-Range": `bytes ${start}-${end}/${size}` } : {}),
    });
    if (request.method === "HEAD" || size === 0) return response.end();
    const stream = createReadStream(file, { start, end, highWaterMark: 1 << 20 });
    stream.on("error", () => response.destroy());
    response.on("close", () => stream.destroy());
    stream.pipe(response);
  });

  for (let i = 0; ; i++) {
    const wanted = port === 0 ? 0 : port + i;
    const failed = await new Promise((resolve) => {
      server.once("error", resolve);
      server.listen(wanted, "127.0.0.1", () => {
        server.off("error", resolve);
        resolve(undefined);
      });
    });
    if (!failed) break;
    if (failed.code !== "EADDRINUSE" || i + 1 >= attempts) throw failed;
  }
  const address = /** @type {import("node:net").AddressInfo} */ (server.address());
  return {
    port: address.port,
    url: `http://localhost:${address.port}`,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}
