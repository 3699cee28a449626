/** The page that is open; addresses are real ones, so that any page can be opened, reloaded and sent on. */

import { computed, signal } from "@preact/signals";
import { parseRoute } from "../model/routes";

const path = signal(window.location.pathname);

export const route = computed(() => parseRoute(path.value));

export function navigate(to: string, options: { replace?: boolean; keepScroll?: boolean } = {}): void {
  if (options.replace) window.history.replaceState(null, "", to);
  else window.history.pushState(null, "", to);
  path.value = window.location.pathname;
  if (!options.keepScroll) window.scrollTo(0, 0);
}

/** Follows the back and forward buttons. */
export function startRouter(): () => void {
  const follow = () => {
    path.value = window.location.pathname;
  };
  window.addEventListener("popstate", follow);
  return () => window.removeEventListener("popstate", follow);
}
