import type { IconName } from "./components/icons.tsx";

/**
 * The screens, in the order of the navigation. A screen's name is the first part of its address (`#/models`); a new one is a
 * line here and its component in `app.tsx`.
 */
export const SCREENS = {
  chat: { label: "Chat", icon: "chat" },
  models: { label: "Models", icon: "cube" },
  train: { label: "Train", icon: "tune" },
  selftest: { label: "Self-test", icon: "gauge" },
  about: { label: "About", icon: "info" },
} as const satisfies Record<string, { label: string; icon: IconName }>;

export type Screen = keyof typeof SCREENS;

export const isScreen = (name: string): name is Screen => Object.hasOwn(SCREENS, name);
