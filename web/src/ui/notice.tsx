import type { ComponentChildren } from "preact";
import { Icon, type IconName } from "./icons";

type Tone = "info" | "warning" | "error";

const ICONS: Record<Tone, IconName> = { info: "info", warning: "warning", error: "cross" };

/** A sentence that a person should not miss. */
export function Notice({ tone, children }: { tone: Tone; children: ComponentChildren }) {
  return (
    <div class={`notice ${tone}`} role={tone === "error" ? "alert" : "status"}>
      <Icon name={ICONS[tone]} />
      <div>{children}</div>
    </div>
  );
}

/** What stands where there is nothing yet. */
export function Empty({ title, children }: { title: string; children?: ComponentChildren }) {
  return (
    <div class="empty">
      <p class="empty-title">{title}</p>
      {children}
    </div>
  );
}
