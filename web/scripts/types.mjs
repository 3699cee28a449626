// Writes src/contract.ts from the contract's JSON Schemas; with --check, says whether it is current.
import { readFile, writeFile } from "node:fs/promises";
import { compile } from "json-schema-to-typescript";

const GOLDEN = new URL("../../tests/contract/golden/", import.meta.url);
const TARGET = new URL("../src/contract.ts", import.meta.url);
const HEAD = `// Generated from tests/contract/golden by \`npm run types\`; do not edit.\n`;

async function golden(name) {
  return JSON.parse(await readFile(new URL(`${name}.json`, GOLDEN), "utf8"));
}

/** Titles name types of their own and fixed fields are always sent: neither is what a reader wants. */
function tidy(schema) {
  if (Array.isArray(schema)) return schema.map(tidy);
  if (schema === null || typeof schema !== "object") return schema;
  const { title: _title, default: _default, $defs: _defs, ...rest } = schema;
  const out = Object.fromEntries(Object.entries(rest).map(([key, value]) => [key, tidyKey(key, value)]));
  if (typeof out.$ref === "string") return { $ref: out.$ref.replace("#/$defs/", "#/definitions/") };
  if (out.properties) {
    const fixed = Object.entries(schema.properties)
      .filter(([, property]) => "const" in property)
      .map(([key]) => key);
    out.required = [...new Set([...(schema.required ?? []), ...fixed])];
  }
  return out;
}

function tidyKey(key, value) {
  if (key !== "properties") return tidy(value);
  return Object.fromEntries(Object.entries(value).map(([name, property]) => [name, tidy(property)]));
}

function collect(definitions, schema, name) {
  for (const [inner, definition] of Object.entries(schema.$defs ?? {}))
    collect(definitions, definition, inner);
  definitions[name] = tidy(schema);
}

async function generate() {
  const definitions = {};
  for (const document of ["api", "events"]) {
    for (const [name, schema] of Object.entries(await golden(document))) collect(definitions, schema, name);
  }
  const root = { title: "Contract", type: "object", definitions, additionalProperties: false };
  const text = await compile(root, "Contract", {
    bannerComment: HEAD,
    additionalProperties: false,
    ignoreMinAndMaxItems: true,
    unreachableDefinitions: true,
    format: true,
    style: { printWidth: 110 },
  });
  return text
    .replace(/ \*\n \* This interface was referenced by [^\n]*\n \* via the [^\n]*\n/g, "")
    .replace("export interface Contract {}\n", "");
}

const text = await generate();
if (process.argv.includes("--check")) {
  const current = await readFile(TARGET, "utf8").catch(() => "");
  if (current !== text) {
    console.error("src/contract.ts does not match tests/contract/golden: run `npm run types` and commit it");
    process.exit(1);
  }
} else {
  await writeFile(TARGET, text);
}
