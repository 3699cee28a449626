/** A run's configuration as a form: fields out of the JSON Schema, values by dotted path. */

export interface JsonSchema {
  $ref?: string;
  $defs?: Record<string, JsonSchema>;
  type?: string;
  enum?: unknown[];
  anyOf?: JsonSchema[];
  properties?: Record<string, JsonSchema>;
  description?: string;
  default?: unknown;
  minimum?: number;
  exclusiveMinimum?: number;
  maximum?: number;
  exclusiveMaximum?: number;
  multipleOf?: number;
}

export type Tree = Record<string, unknown>;

export interface FieldSpec {
  path: string;
  kind: "integer" | "number" | "boolean" | "choice" | "text";
  nullable: boolean;
  choices: string[];
  help: string;
  /** In words, e.g. `≥ 1`; empty where anything goes. */
  limits: string;
}

/** The field at a dotted path; null where the schema has none or it is not a single value. */
export function fieldAt(root: JsonSchema, path: string): FieldSpec | null {
  let schema: JsonSchema = root;
  for (const part of path.split(".")) {
    const next = resolve(root, schema).properties?.[part];
    if (next === undefined) return null;
    schema = next;
  }
  return toField(root, schema, path);
}

/** All single-valued fields below a section, in the schema's order. */
export function fieldsBelow(root: JsonSchema, path: string): FieldSpec[] {
  let schema: JsonSchema = resolve(root, root);
  for (const part of path === "" ? [] : path.split(".")) {
    schema = resolve(root, schema.properties?.[part] ?? {});
  }
  return Object.entries(schema.properties ?? {}).flatMap(([name, property]) => {
    const inner = path === "" ? name : `${path}.${name}`;
    if (resolve(root, property).properties !== undefined) return fieldsBelow(root, inner);
    const field = toField(root, property, inner);
    return field === null ? [] : [field];
  });
}

function resolve(root: JsonSchema, schema: JsonSchema): JsonSchema {
  if (schema.$ref === undefined) return schema;
  const name = schema.$ref.split("/").pop() ?? "";
  return { ...root.$defs?.[name], description: schema.description ?? root.$defs?.[name]?.description ?? "" };
}

function toField(root: JsonSchema, schema: JsonSchema, path: string): FieldSpec | null {
  const whole = resolve(root, schema);
  const options = whole.anyOf ?? [whole];
  const nullable = options.some((option) => option.type === "null");
  const value = options.find((option) => option.type !== "null");
  const kind = value === undefined ? null : kindOf(value);
  if (value === undefined || kind === null) return null;
  return {
    path,
    kind,
    nullable,
    choices: (value.enum ?? []).map(String),
    help: (schema.description ?? whole.description ?? "").replace(/\bnull\b/g, "empty"),
    limits: limitsOf(value),
  };
}

function kindOf(schema: JsonSchema): FieldSpec["kind"] | null {
  if (schema.enum !== undefined) return "choice";
  if (schema.type === "integer" || schema.type === "number" || schema.type === "boolean") return schema.type;
  return schema.type === "string" ? "text" : null;
}

function limitsOf(schema: JsonSchema): string {
  const parts: string[] = [];
  if (schema.minimum !== undefined) parts.push(`≥ ${schema.minimum}`);
  if (schema.exclusiveMinimum !== undefined) parts.push(`> ${schema.exclusiveMinimum}`);
  if (schema.maximum !== undefined) parts.push(`≤ ${schema.maximum}`);
  if (schema.exclusiveMaximum !== undefined) parts.push(`< ${schema.exclusiveMaximum}`);
  if (schema.multipleOf !== undefined) parts.push(`a multiple of ${schema.multipleOf}`);
  return parts.join(", ");
}

/** The value at a dotted path. */
export function valueAt(tree: unknown, path: string): unknown {
  let value: unknown = tree;
  for (const part of path.split(".")) {
    if (value === null || typeof value !== "object") return undefined;
    value = (value as Tree)[part];
  }
  return value;
}

/** A copy with the value at a dotted path set. */
export function withValue(tree: Tree, path: string, value: unknown): Tree {
  const [head = "", ...rest] = path.split(".");
  if (rest.length === 0) return { ...tree, [head]: value };
  const inner = tree[head];
  const below = inner !== null && typeof inner === "object" && !Array.isArray(inner) ? (inner as Tree) : {};
  return { ...tree, [head]: withValue(below, rest.join("."), value) };
}

/** What a person typed as the value to send. What is no number goes as it is: the server says what is wrong with it. */
export function parseInput(field: FieldSpec, text: string): unknown {
  const trimmed = text.trim();
  if (trimmed === "") return field.nullable ? null : "";
  if (field.kind !== "integer" && field.kind !== "number") return text;
  const value = Number(trimmed);
  return Number.isFinite(value) ? value : trimmed;
}

/** A value as a person would type it. */
export function inputText(value: unknown): string {
  if (value === null || value === undefined) return "";
  return String(value);
}

export interface Change {
  path: string;
  from: unknown;
  to: unknown;
}

/** Overrides as the API takes them: only what differs from the preset. */
export function overrides(
  preset: Tree,
  edits: ReadonlyMap<string, unknown>,
): { config: Tree; changes: Change[] } {
  let config: Tree = {};
  const changes: Change[] = [];
  for (const [path, to] of edits) {
    const from = valueAt(preset, path);
    if (Object.is(from, to)) continue;
    config = withValue(config, path, to);
    changes.push({ path, from, to });
  }
  return { config, changes };
}

/** Messages by field; `config.` in front is the body's own wrapping. */
export function errorsByField(errors: { field: string; message: string }[]): Map<string, string[]> {
  const found = new Map<string, string[]>();
  for (const { field, message } of errors) {
    const path = field.replace(/^(body\.)?(config\.)?/, "");
    found.set(path, [...(found.get(path) ?? []), message]);
  }
  return found;
}
