/** Plain data as YAML, for reading; long enough for a configuration, no more. */

const PLAIN = /^[A-Za-z_][A-Za-z0-9_ ./-]*$/;
const WORDS = new Set(["true", "false", "null", "yes", "no", "on", "off"]);

export function toYaml(value: unknown, indent = ""): string {
  if (Array.isArray(value)) return listYaml(value, indent);
  if (value !== null && typeof value === "object") return mapYaml(value as Record<string, unknown>, indent);
  return scalar(value);
}

function mapYaml(map: Record<string, unknown>, indent: string): string {
  const entries = Object.entries(map);
  if (entries.length === 0) return "{}";
  return entries.map(([key, value]) => `${indent}${key}:${nested(value, `${indent}  `)}`).join("\n");
}

function listYaml(list: unknown[], indent: string): string {
  if (list.length === 0) return "[]";
  return list.map((value) => `${indent}-${itemYaml(value, `${indent}  `)}`).join("\n");
}

function itemYaml(value: unknown, indent: string): string {
  const text = toYaml(value, indent);
  return isNested(value) ? ` ${text.slice(indent.length)}` : ` ${text}`;
}

function nested(value: unknown, indent: string): string {
  return isNested(value) ? `\n${toYaml(value, indent)}` : ` ${toYaml(value, indent)}`;
}

function isNested(value: unknown): boolean {
  return value !== null && typeof value === "object" && Object.keys(value).length > 0;
}

function scalar(value: unknown): string {
  if (typeof value !== "string") return String(value);
  return PLAIN.test(value) && !WORDS.has(value.toLowerCase()) && !value.endsWith(" ")
    ? value
    : JSON.stringify(value);
}
