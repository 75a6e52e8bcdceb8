import { engine } from "../engine_link.ts";
import { importOrigins, newChatSettings, pictureBudget, type Theme, theme } from "../state.ts";

/** A setting of the page; `undefined` when it was never set or cannot be read. */
export async function readSetting<T>(key: string): Promise<T | undefined> {
  try {
    return (await engine().getSetting(key)) as T | undefined;
  } catch {
    return undefined;
  }
}

/** Keeping a setting may fail (storage full or blocked); the page works on without it. */
export async function writeSetting(key: string, value: unknown): Promise<void> {
  try {
    await engine().putSetting(key, value);
  } catch {}
}

/** Settings are read once, at the start. */
export async function loadSettings(): Promise<void> {
  const [chat, budget, origins] = await Promise.all([
    readSetting<typeof newChatSettings.value>("newChat"),
    readSetting<typeof pictureBudget.value>("pictureBudget"),
    readSetting<typeof importOrigins.value>("importOrigins"),
  ]);
  if (chat && typeof chat.system === "string") newChatSettings.value = chat;
  if (budget) pictureBudget.value = budget;
  if (origins) importOrigins.value = origins;
}

const THEME_KEY = "tabtune-theme";

/** The theme lies in localStorage, since it must be known before the first paint. */
export function restoreTheme(): void {
  let kept: string | null = null;
  try {
    kept = localStorage.getItem(THEME_KEY);
  } catch {}
  applyTheme(kept === "light" || kept === "dark" ? kept : "system");
}

export function setTheme(next: Theme): void {
  try {
    localStorage.setItem(THEME_KEY, next);
  } catch {}
  applyTheme(next);
}

function applyTheme(next: Theme): void {
  theme.value = next;
  if (next === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = next;
}
