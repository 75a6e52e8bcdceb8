// A server that behaves like the Hugging Face Hub: an API with commits, and weights behind redirects to another host.
import { createHash } from "node:crypto";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

export type HubFiles = Record<string, Uint8Array>;

export interface HubRequest {
  host: "hub" | "cdn";
  method: string;
  /** Path and query. */
  path: string;
  range: string | undefined;
  authorization: string | undefined;
}

/** What goes wrong with one request: a status with headers, a connection that is cut after some bytes, bytes that are changed, or a
 * long wait. */
export interface HubFault {
  status?: number;
  headers?: Record<string, string>;
  cutAfter?: number;
  change?: (bytes: Uint8Array) => Uint8Array;
  /** The answer waits for this. */
  hold?: Promise<void>;
}

/** Numbers from 0 to 1 that are the same every time. */
export function seeded(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

const hash = (algorithm: string, ...parts: (string | Uint8Array)[]) =>
  parts.reduce((h, part) => h.update(part), createHash(algorithm)).digest("hex");

/** Files of this size and more are kept as large ones: with a SHA-256, on the other host. */
const LARGE = 2000;
const EXPOSED =
  "X-Repo-Commit, X-Error-Code, X-Error-Message, ETag, Link, Accept-Ranges, Content-Range, X-Linked-Size, X-Linked-ETag";

export class HubServer {
  readonly repo = "some/model";
  readonly requests: HubRequest[] = [];
  /** Branches by name; moving one changes no commit. */
  readonly branches: Record<string, string> = {};
  /** Without it, whoever asks is refused; `gated` says why. */
  token: string | undefined;
  gated = false;
  /** Entries of one page of the list. */
  pageSize = 3;
  /** Decides what goes wrong with a request. */
  fault: (request: HubRequest) => HubFault | undefined = () => undefined;
  licence = "apache-2.0";
  readonly commits = new Map<string, HubFiles>();
  #hub!: Server;
  #cdn!: Server;
  #signatures = 0;

  static async open(files: HubFiles): Promise<HubServer> {
    const server = new HubServer();
    server.commit("main", files);
    const listen = async (host: HubRequest["host"]) => {
      const created = createServer((request, response) => server.#answer(host, request, response));
      await new Promise<void>((resolve) => created.listen(0, "127.0.0.1", resolve));
      return created;
    };
    server.#hub = await listen("hub");
    server.#cdn = await listen("cdn");
    return server;
  }

  /** Puts a new commit at the end of a branch and returns its name. */
  commit(branch: string, files: HubFiles): string {
    const sha = hash("sha1", branch, String(this.commits.size), ...Object.values(files));
    this.commits.set(sha, files);
    this.branches[branch] = sha;
    return sha;
  }

  get endpoint(): string {
    return `http://127.0.0.1:${(this.#hub.address() as AddressInfo).port}`;
  }

  /** Another host by name, as a browser sees it. */
  get #cdnOrigin(): string {
    return `http://localhost:${(this.#cdn.address() as AddressInfo).port}`;
  }

  async close(): Promise<void> {
    for (const server of [this.#hub, this.#cdn]) {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    }
  }

  #answer(host: HubRequest["host"], incoming: IncomingMessage, response: ServerResponse): void {
    const { range, authorization, origin } = incoming.headers;
    const request: HubRequest = {
      ...{ host, method: incoming.method ?? "", path: incoming.url ?? "", range, authorization },
    };
    response.setHeader("Access-Control-Allow-Origin", host === "cdn" ? "*" : (origin ?? "*"));
    response.setHeader("Access-Control-Expose-Headers", host === "cdn" ? "*" : EXPOSED);
    if (request.method === "OPTIONS") {
      response.writeHead(204, { "Access-Control-Allow-Headers": "authorization, range" }).end();
      return;
    }
    this.requests.push(request);
    const fault = this.fault(request);
    if (fault?.hold) void fault.hold.then(() => this.#respond(request, response, fault));
    else this.#respond(request, response, fault);
  }

  #respond(request: HubRequest, response: ServerResponse, fault: HubFault | undefined): void {
    const { host, authorization } = request;
    const mayRead = host === "cdn" || this.token === undefined || authorization === `Bearer ${this.token}`;
    if (fault?.status) response.writeHead(fault.status, fault.headers).end();
    else if (!mayRead) {
      const code = this.gated && authorization === undefined ? "GatedRepo" : "RepoNotFound";
      response.writeHead(401, { "X-Error-Code": code }).end();
    } else if (host === "cdn") this.#sendLarge(request, response, fault);
    else this.#answerHub(request, response, fault);
  }

  #answerHub(request: HubRequest, response: ServerResponse, fault: HubFault | undefined): void {
    const url = new URL(request.path, this.endpoint);
    const refuse = (code: string) => response.writeHead(404, { "X-Error-Code": code }).end();
    const api = /^\/api\/models\/([^/]+\/[^/]+)\/(revision|tree|resolve-cache)\/([^/]+)(?:\/(.*))?$/.exec(url.pathname);
    const resolve = /^\/([^/]+\/[^/]+)\/resolve\/([^/]+)\/(.+)$/.exec(url.pathname);
    const [repo, revision] = api ? [api[1], api[3]] : resolve ? [resolve[1], resolve[2]] : [];
    const name = decodeURIComponent(revision ?? "");
    const sha = this.branches[name] ?? name;
    const files = this.commits.get(sha);
    if (repo !== this.repo) refuse("RepoNotFound");
    else if (!files) refuse("RevisionNotFound");
    else if (api?.[2] === "revision") {
      response.end(JSON.stringify({ id: repo, sha, gated: this.gated, cardData: { license: this.licence } }));
    } else if (api?.[2] === "tree") this.#list(files, url, response);
    else {
      const path = decodeURIComponent(api?.[4] ?? resolve![3]!);
      const bytes = files[path];
      if (!bytes) refuse("EntryNotFound");
      else if (api) this.#send(request, response, bytes, hash("sha1", `blob ${bytes.length}\0`, bytes), fault);
      else this.#redirect(sha, path, bytes, response);
    }
  }

  #redirect(sha: string, path: string, bytes: Uint8Array, response: ServerResponse): void {
    response.setHeader("X-Repo-Commit", sha);
    if (bytes.length < LARGE) {
      response.writeHead(307, { Location: `/api/models/${this.repo}/resolve-cache/${sha}/${path}` }).end();
      return;
    }
    const sha256 = hash("sha256", bytes);
    response.writeHead(302, {
      "X-Linked-ETag": `"${sha256}"`,
      "X-Linked-Size": bytes.length,
      Location: `${this.#cdnOrigin}/xet/${sha}/${path}?signature=${++this.#signatures}`,
    });
    response.end();
  }

  #list(files: HubFiles, url: URL, response: ServerResponse): void {
    const entries = Object.entries(files).map(([path, bytes]) => {
      const large = bytes.length >= LARGE;
      const oid = hash("sha1", `blob ${bytes.length}\0`, bytes);
      const lfs = { oid: hash("sha256", bytes), size: bytes.length, pointerSize: 134 };
      return { type: "file", path, oid, size: bytes.length, ...(large ? { lfs, xetHash: hash("md5", bytes) } : {}) };
    });
    const from = Number(url.searchParams.get("cursor") ?? 0);
    if (from + this.pageSize < entries.length) {
      url.searchParams.set("cursor", String(from + this.pageSize));
      response.setHeader("Link", `<${url.href}>; rel="next"`);
    }
    response.end(JSON.stringify([{ type: "directory", path: "x" }, ...entries.slice(from, from + this.pageSize)]));
  }

  #sendLarge(request: HubRequest, response: ServerResponse, fault: HubFault | undefined): void {
    const [, , sha, ...path] = new URL(request.path, this.#cdnOrigin).pathname.split("/");
    const bytes = this.commits.get(sha!)?.[path.join("/")];
    if (!bytes) return void response.writeHead(404).end();
    this.#send(request, response, bytes, hash("md5", bytes), fault);
  }

  #send(
    request: HubRequest,
    response: ServerResponse,
    whole: Uint8Array,
    tag: string,
    fault: HubFault | undefined,
  ): void {
    const bytes = fault?.change?.(whole) ?? whole;
    const range = /^bytes=(\d+)-(\d+)$/.exec(request.range ?? "");
    const [first, last] = range
      ? [Number(range[1]), Math.min(Number(range[2]), bytes.length - 1)]
      : [0, bytes.length - 1];
    if (first >= bytes.length && range) {
      return void response.writeHead(416, { "Content-Range": `bytes */${bytes.length}` }).end();
    }
    const body = bytes.subarray(first, last + 1);
    response.writeHead(range ? 206 : 200, {
      ETag: `"${tag}"`,
      "Content-Length": body.length,
      ...(range ? { "Content-Range": `bytes ${first}-${last}/${bytes.length}` } : {}),
    });
    if (fault?.cutAfter === undefined) return void response.end(body);
    response.write(body.subarray(0, fault.cutAfter), () => setTimeout(() => response.destroy(), 5));
  }
}
