/** Whether clips move: not at first where the system asks for less motion; one button stops or starts them all. */

import { signal } from "@preact/signals";

export const isStill = signal(window.matchMedia("(prefers-reduced-motion: reduce)").matches);

export function toggleMotion(): void {
  isStill.value = !isStill.value;
}
