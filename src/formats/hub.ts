import { TabTuneError } from "../errors.ts";
import { HttpFileSet } from "./http_files.ts";
import { DEFAULT_CLIENT, fetchWhole, type HttpClient } from "./http_range.ts";

const HUB = "https://huggingface.co";

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

/**
 * A Hugging Face repository, pinned to the commit that its branch has now, so that no file changes during an import.
 * The token, if any, goes to the Hub's own host only and is kept nowhere else.
 */
export async function openHub(
  repo: string,
  options: {
    revision?: string;
    token?: string;
    endpoint?: string;
    client?: Partial<HttpClient>;
    signal?: AbortSignal;
  } = {},
): Promise<HttpFileSet> {
  const parsed = parseHubRepo(repo);
  const revision = options.revision ?? parsed.revision ?? "main";
  const endpoint = options.endpoint ?? HUB;
  const client: HttpClient = { ...DEFAULT_CLIENT, ...options.client };
  if (options.token) client.token = options.token;
  const url = `${endpoint}/api/models/${parsed.repo}/revision/${encodeURIComponent(revision)}?blobs=true`;
  const bytes = await fetchWhole(client, url, 32 << 20, options.signal);
  if (!bytes) {
    throw new TabTuneError(
      "NotFound",
      `The Hub has no repository ${parsed.repo} with a revision “${revision}”. Check the name.`,
    );
  }
  const info = parseInfo(parsed.repo, bytes);
  return new HttpFileSet(`${endpoint}/${parsed.repo}/resolve/${encodeURIComponent(info.sha ?? revision)}/`, {
    name: parsed.repo.split("/")[1]!,
    identity: `hub:${parsed.repo}@${revision}`,
    description: `${parsed.repo} at ${info.sha?.slice(0, 12) ?? revision}`,
    listing: info.files,
    ...(info.licence === undefined ? {} : { licence: info.licence }),
    client,
  });
}

interface RepoInfo {
  sha: string | undefined;
  files: { path: string; size: number }[];
  licence: string | undefined;
}

function parseInfo(repo: string, bytes: Uint8Array): RepoInfo {
  try {
    const info = JSON.parse(new TextDecoder().decode(bytes)) as Record<string, unknown>;
    const siblings = Array.isArray(info.siblings) ? (info.siblings as Record<string, unknown>[]) : [];
    const files = siblings
      .filter((file) => typeof file.rfilename === "string")
      .map((file) => ({ path: file.rfilename as string, size: Number(file.size ?? 0) }));
    const card = info.cardData as { license?: unknown } | null | undefined;
    return {
      sha: typeof info.sha === "string" && /^[0-9a-f]{40}$/.test(info.sha) ? info.sha : undefined,
      files,
      licence: typeof card?.license === "string" ? card.license : undefined,
    };
  } catch (cause) {
    throw new TabTuneError("Network", `The Hub's answer about ${repo} cannot be read. Try again later.`, { cause });
  }
}
