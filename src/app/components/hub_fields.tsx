import { signal } from "@preact/signals";
import type { ModelSource } from "../../api/index.ts";
import { parseHubName } from "../actions/folder.ts";
import { readSetting, writeSetting } from "../actions/settings.ts";
import { planned } from "./import_state.ts";

/** The fields of a repository, of its mirror and of the token. */
export const repo = signal("Qwen/Qwen3-VL-4B-Instruct");
export const mirror = signal("");
const token = signal("");
const keepToken = signal(false);

/** Each host has a token of its own, so that none is sent to another. */
const tokenKey = () => (mirror.peek().trim() ? `hubToken:${mirror.peek().trim()}` : "hubToken");

export async function restoreToken(): Promise<void> {
  const kept = await readSetting<string>(tokenKey());
  if (kept && !token.value) {
    token.value = kept;
    keepToken.value = true;
  }
}

/** The source that the fields describe, or what is wrong with them. */
export function hubSource(): ModelSource | string {
  const hub = parseHubName(repo.value);
  if (!hub) return `“${repo.value}” is neither owner/name nor a link to a model on huggingface.co.`;
  const endpoint = mirror.value.trim();
  if (endpoint && !URL.canParse(endpoint)) return `“${endpoint}” is no address such as https://hub.example.org.`;
  void writeSetting(tokenKey(), keepToken.value ? token.value.trim() : "");
  return withToken({ kind: "hub", ...hub, ...(endpoint ? { endpoint } : {}) });
}

/** The same with the token that is in the form. */
export function withToken(source: Extract<ModelSource, { kind: "hub" }>): ModelSource {
  const text = token.value.trim();
  return text ? { ...source, token: text } : source;
}

export function HubFields() {
  const host = URL.canParse(mirror.value.trim()) ? new URL(mirror.value.trim()).host : "huggingface.co";
  return (
    <>
      <label class="field">
        Model
        <input
          type="text"
          spellcheck={false}
          autocapitalize="off"
          value={repo.value}
          onInput={(e) => {
            repo.value = e.currentTarget.value;
            planned.value = undefined;
          }}
        />
        <span class="hint">
          owner/name, or a link to its page or to one of its GGUF or ONNX files. Reading it contacts {host}.
        </span>
      </label>
      <details class="more">
        <summary>Access token, for gated models</summary>
        <label class="field">
          Token
          <input
            type="password"
            autocomplete="off"
            value={token.value}
            onInput={(e) => {
              token.value = e.currentTarget.value;
            }}
          />
        </label>
        <label class="check">
          <input
            type="checkbox"
            checked={keepToken.value}
            onChange={(e) => {
              keepToken.value = e.currentTarget.checked;
            }}
          />
          Keep it in this browser
        </label>
        <p class="hint">It is sent to {host} only. Unless you keep it, it is forgotten when this tab closes.</p>
      </details>
      <details class="more">
        <summary>Another address of the Hub (mirror)</summary>
        <label class="field">
          Mirror
          <input
            type="text"
            inputMode="url"
            spellcheck={false}
            placeholder="https://hub.example.org"
            value={mirror.value}
            onChange={(e) => {
              mirror.value = e.currentTarget.value;
              planned.value = undefined;
              // The token was meant for the other host.
              token.value = "";
              keepToken.value = false;
              void restoreToken();
            }}
          />
          <span class="hint">
            A server that answers like huggingface.co; empty for that itself. What it sends is compared with the hashes
            that it lists.
          </span>
        </label>
      </details>
    </>
  );
}
