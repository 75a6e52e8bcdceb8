import { TabTuneError } from "../errors.ts";
import type { FileEntry } from "./file_set.ts";
import { HttpFileSet } from "./http_files.ts";
import { DEFAULT_CLIENT, fetchWhole, type HttpClient } from "./http_range.ts";

const HUB = "https://huggingface.co";
/** Bytes of one answer of the Hub's API, and pages of a list of files (a page has up to 1,000). */
const MAX_ANSWER = 32 << 20;
const MAX_PAGES = 50;

/** `owner/name` and an optional revision from what a person types or pastes. Throws `BadInput`. @internal */
export function parseHubRepo(text: string): { repo: string; revision?: string } {
  const trimmed = text.trim().replace(/^(https?:\/\/)?(www\.)?(huggingface\.co|hf\.co)\//, "");
  const match = /^([\w.-]+)\/([\w.-]+?)(?:\/(?:tree|resolve|blob)\/([^/?#\s]+).*|@([\w./-]+)|\/)?(?:[?#].*)?$/.exec(
    trimmed,
  );
  if (!match || match[1] === ".." || match[2] === "..") {
    throw new TabTuneError(
      "BadInput",
      `Expected a repository such as Qwen/Qwen3-VL-4B-Instruct, found “${text.slice(0, 100)}”.`,
    );
  }
  const revision = match[3] !== undefined ? decodeURIComponent(match[3]) : match[4];
  const repo = `${match[1]}/${match[2]}`;
  return revision === undefined ? { repo } : { repo, revision };
}

export interface HubOptions {
  /** A branch, tag or commit; "main" when absent. */
  revision?: string;
  token?: string;
  /** Base address of the Hub or of a mirror of it. */
  endpoint?: string;
  client?: Partial<HttpClient>;
  signal?: AbortSignal;
}

/**
 * A Hugging Face repository, pinned to the commit that its branch has now: every later request names that commit, so no file
 * changes during an import. Sizes and SHA-256 come from the Hub's list of files. The token, if any, is sent with requests to the
 * endpoint alone (browsers drop it when a download is redirected to another host) and is kept nowhere.
 * Throws `BadInput`, `NotFound`, `Network`, `Cancelled`.
 */
export async function openHub(repo: string, options: HubOptions = {}): Promise<HttpFileSet> {
  const parsed = parseHubRepo(repo);
  const revision = options.revision ?? parsed.revision ?? "main";
  const endpoint = checkedEndpoint(options.endpoint ?? HUB);
  const client: HttpClient = { ...DEFAULT_CLIENT, ...options.client };
  if (options.token) client.token = options.token;
  const ask = async (url: string) => await askApi(client, url, parsed.repo, revision, options.signal);
  const api = `${endpoint}/api/models/${parsed.repo}`;

  const { value: info } = await ask(`${api}/revision/${encodeURIComponent(revision)}`);
  const { sha, cardData } = (info ?? {}) as { sha?: unknown; cardData?: { license?: unknown; license_name?: unknown } };
  if (typeof sha !== "string" || !/^[0-9a-f]{40}$/.test(sha)) {
    throw new TabTuneError(
      "Network",
      `${api}: expected the commit of “${revision}”, found ${JSON.stringify(sha)}. Is this address a Hugging Face Hub or a mirror of it?`,
    );
  }
  const listing: FileEntry[] = [];
  let next: string | undefined = `${api}/tree/${sha}?recursive=true`;
  for (let page = 0; next !== undefined && page < MAX_PAGES; page++) {
    const { value, headers } = await ask(next);
    listing.push(...parseTree(api, value));
    next = nextPage(next, headers);
  }
  const { license, license_name: named } = cardData ?? {};
  const licence = license === "other" && typeof named === "string" ? named : license;
  return new HttpFileSet(`${endpoint}/${parsed.repo}/resolve/${sha}/`, {
    name: parsed.repo.split("/")[1]!,
    identity: `hub:${parsed.repo}@${revision}`,
    description: `${parsed.repo} at ${sha.slice(0, 12)}${endpoint === HUB ? "" : ` (${new URL(endpoint).host})`}`,
    listing,
    ...(typeof licence === "string" ? { licence } : {}),
    client,
  });
}

/** Without its trailing slash. A token must not travel unencrypted, except to this computer. */
function checkedEndpoint(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  const local = url !== undefined && ["localhost", "127.0.0.1", "[::1]"].includes(url.hostname);
  if (!url || (url.protocol !== "https:" && !(local && url.protocol === "http:")) || url.search || url.hash) {
    throw new TabTuneError(
      "BadInput",
      `Expected the address of a mirror such as https://hub.example.org, found “${text.slice(0, 100)}”.`,
    );
  }
  return url.href.replace(/\/+$/, "");
}

/** One answer of the API as JSON. */
async function askApi(
  client: HttpClient,
  url: string,
  repo: string,
  revision: string,
  signal: AbortSignal | undefined,
): Promise<{ value: unknown; headers: Headers }> {
  const { bytes, headers } = await fetchWhole(client, url, MAX_ANSWER, signal);
  const { host } = new URL(url);
  if (!bytes) {
    const isRevision = headers.get("x-error-code") === "RevisionNotFound";
    throw new TabTuneError(
      "NotFound",
      isRevision
        ? `${repo} at ${host} has no revision “${revision}”. Name a branch, a tag or a commit that it has.`
        : `${host} has no repository ${repo} with a revision “${revision}”, or it is private. Check the name; a private one needs an access token.`,
    );
  }
  try {
    return { value: JSON.parse(new TextDecoder().decode(bytes)) as unknown, headers };
  } catch (cause) {
    throw new TabTuneError("Network", `The answer of ${host} about ${repo} is not JSON. Try again later.`, { cause });
  }
}

/** Files of one page of a tree, with the SHA-256 of large files and git's own hash of small ones. */
function parseTree(api: string, value: unknown): FileEntry[] {
  if (!Array.isArray(value)) {
    throw new TabTuneError("Network", `${api}: expected a list of files, found ${typeof value}. Try again later.`);
  }
  return value.flatMap((entry: Record<string, unknown> | null) => {
    if (entry?.type !== "file" || typeof entry.path !== "string" || typeof entry.size !== "number") return [];
    const large = entry.lfs as { oid?: unknown; size?: unknown } | null | undefined;
    const sha256 = hex(large?.oid, 64);
    const gitSha1 = large ? undefined : hex(entry.oid, 40);
    return {
      path: entry.path,
      size: typeof large?.size === "number" ? large.size : entry.size,
      ...(sha256 ? { sha256 } : {}),
      ...(gitSha1 ? { gitSha1 } : {}),
    };
  });
}

function hex(value: unknown, digits: number): string | undefined {
  return typeof value === "string" && value.length === digits && /^[0-9a-f]+$/.test(value) ? value : undefined;
}

/** The address of a list's next page. Only at the same host: the token goes with it. */
function nextPage(url: string, headers: Headers): string | undefined {
  const link = /<([^>]+)>\s*;\s*rel="?next"?/.exec(headers.get("link") ?? "")?.[1];
  if (link === undefined || !URL.canParse(link, url)) return undefined;
  const next = new URL(link, url);
  if (next.origin === new URL(url).origin) return next.href;
  throw new TabTuneError(
    "Network",
    `${url}: the list of files goes on at another host (${next.host}). That is not followed.`,
  );
}
