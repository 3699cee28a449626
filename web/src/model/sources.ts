/** The list of data sets as a person edits it: JSON, a data set a line, what is as by default left out. */

import type { JsonSchema, Tree } from "./form";

/** Text of a configuration's `data.sources`. */
export function sourcesText(root: JsonSchema, sources: unknown): string {
  if (!Array.isArray(sources) || sources.length === 0) return "";
  const options = root.$defs?.SourceConfig?.properties ?? {};
  const lines = sources.map((source) => `  ${lineOf(options, source as Tree)}`);
  return `[\n${lines.join(",\n")}\n]`;
}

function lineOf(options: Record<string, JsonSchema>, source: Tree): string {
  const given = Object.entries(source).filter(
    ([name, value]) =>
      !(name in options) || JSON.stringify(value) !== JSON.stringify(defaultOf(options[name])),
  );
  return `{${given.map(([name, value]) => `${JSON.stringify(name)}: ${JSON.stringify(value)}`).join(", ")}}`;
}

/** An option without a default of its own begins empty. */
function defaultOf(option: JsonSchema | undefined): unknown {
  return option?.default === undefined && option?.type === "object" ? {} : option?.default;
}

/** What a text means; `problem` says what is wrong with it, and its value is the text then. */
export function parseSources(text: string): { value: unknown; problem: string | null } {
  if (text.trim() === "") return { value: [], problem: null };
  try {
    const value: unknown = JSON.parse(text);
    return Array.isArray(value)
      ? { value, problem: null }
      : { value, problem: "is not a list; put [ and ] around" };
  } catch (error) {
    return { value: text, problem: `is not JSON: ${error instanceof Error ? error.message : String(error)}` };
  }
}

/** A list in few words: names where its entries have some. */
export function listText(list: readonly unknown[], emptyWord: string): string {
  const names = list.map((entry) =>
    entry !== null && typeof entry === "object" ? nameOf(entry) : String(entry),
  );
  return names.length === 0 ? emptyWord : names.join(", ");
}

function nameOf(entry: object): string {
  return "name" in entry ? String(entry.name) : "?";
}
