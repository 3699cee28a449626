import type { ComponentChildren } from "preact";
import { navigate } from "../state/router";

interface LinkProps {
  to: string;
  class?: string;
  keepScroll?: boolean;
  current?: boolean;
  children: ComponentChildren;
}

/** A real link that changes the page without loading it anew. */
export function Link({ to, keepScroll = false, current = false, children, ...rest }: LinkProps) {
  const follow = (event: MouseEvent) => {
    if (event.defaultPrevented || event.button !== 0) return;
    if (event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    navigate(to, { keepScroll });
  };
  return (
    <a href={to} onClick={follow} aria-current={current ? "page" : undefined} class={rest.class}>
      {children}
    </a>
  );
}
