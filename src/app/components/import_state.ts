import { signal } from "@preact/signals";
import type { Planned } from "./plan_view.tsx";

/** The import that is offered: what it takes has been found out, and nothing has been stored. */
export const planned = signal<Planned | undefined>(undefined);
