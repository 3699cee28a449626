/** Addresses of the pages. */

export const RUN_TABS = ["charts", "samples", "checkpoints", "log", "events", "config"] as const;
export type RunTab = (typeof RUN_TABS)[number];

export type Route =
  | { page: "runs" }
  | { page: "new" }
  | { page: "run"; id: string; tab: RunTab }
  | { page: "unknown"; path: string };

/** The page of an address; charts are what a run shows first. */
export function parseRoute(path: string): Route {
  const parts = path.split("/").filter((part) => part !== "");
  if (parts.length === 0) return { page: "runs" };
  if (parts.length === 1 && parts[0] === "runs") return { page: "runs" };
  if (parts.length === 1 && parts[0] === "new") return { page: "new" };
  const [head, id, tab = "charts"] = parts;
  if (head === "runs" && id !== undefined && parts.length <= 3 && isTab(tab)) {
    const decoded = decode(id);
    if (decoded !== null) return { page: "run", id: decoded, tab };
  }
  return { page: "unknown", path };
}

function isTab(name: string): name is RunTab {
  return (RUN_TABS as readonly string[]).includes(name);
}

function decode(part: string): string | null {
  try {
    return decodeURIComponent(part);
  } catch {
    return null; // a stray percent sign is no address of ours
  }
}

export function runPath(id: string, tab: RunTab = "charts"): string {
  const base = `/runs/${encodeURIComponent(id)}`;
  return tab === "charts" ? base : `${base}/${tab}`;
}
