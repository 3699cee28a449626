/** Light, dark, or as the system has it. */

import { effect, signal } from "@preact/signals";

export type Theme = "system" | "light" | "dark";

const KEY = "xoron.theme";
const systemDark = window.matchMedia("(prefers-color-scheme: dark)");

export const theme = signal<Theme>(stored());
/** What is shown; charts follow it, because a canvas does not know CSS. */
export const shownTheme = signal<"light" | "dark">(shown());

function stored(): Theme {
  const value = localStorage.getItem(KEY);
  return value === "light" || value === "dark" ? value : "system";
}

function shown(): "light" | "dark" {
  if (theme.value !== "system") return theme.value;
  return systemDark.matches ? "dark" : "light";
}

export function toggleTheme(): void {
  const next = shownTheme.value === "dark" ? "light" : "dark";
  theme.value = next === (systemDark.matches ? "dark" : "light") ? "system" : next;
}

export function startTheme(): () => void {
  const follow = () => {
    shownTheme.value = shown();
  };
  systemDark.addEventListener("change", follow);
  const stop = effect(() => {
    if (theme.value === "system") localStorage.removeItem(KEY);
    else localStorage.setItem(KEY, theme.value);
    const next = shown();
    document.documentElement.dataset.theme = next;
    shownTheme.value = next;
  });
  return () => {
    systemDark.removeEventListener("change", follow);
    stop();
  };
}
