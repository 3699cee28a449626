/** The time, once a second while somebody looks. */

import { signal } from "@preact/signals";

export const now = signal(Date.now());

export function startClock(): () => void {
  const tick = () => {
    if (!document.hidden) now.value = Date.now();
  };
  const timer = window.setInterval(tick, 1000);
  document.addEventListener("visibilitychange", tick);
  return () => {
    window.clearInterval(timer);
    document.removeEventListener("visibilitychange", tick);
  };
}
