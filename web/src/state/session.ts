/** Whether the server asks for a token. */

import { signal } from "@preact/signals";
import { whenUnauthorized } from "../api/http";

export const tokenNeeded = signal(false);
/** Grows with every sign-in; whoever fetched in vain before fetches again. */
export const signIns = signal(0);

export function startSession(): () => void {
  return whenUnauthorized(() => {
    tokenNeeded.value = true;
  });
}

export function signedIn(): void {
  signIns.value += 1;
  tokenNeeded.value = false;
}
