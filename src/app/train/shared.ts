import { signal } from "@preact/signals";
import type { AdapterRecord } from "../../api/index.ts";

/** What the rest of the page knows of training: little, so that the Train screen can be loaded when it is asked for. */

/** The run that is under way in this tab. */
export const training = signal<{ name: string; done: number; total: number } | undefined>(undefined);

/** Stored adapters, newest first. */
export const adapters = signal<AdapterRecord[]>([]);
