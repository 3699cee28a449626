/** Rules that keep the page's parts apart, told from the sources. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";

const src = fileURLToPath(new URL("../src/", import.meta.url));
const sources = readdirSync(src, { recursive: true, encoding: "utf8" })
  .filter((name) => /\.tsx?$/.test(name))
  .map((name) => ({ name, text: readFileSync(join(src, name), "utf8") }));

function filesWith(pattern: RegExp): string[] {
  return sources.filter(({ text }) => pattern.test(text)).map(({ name }) => name);
}

it("has one file that knows uPlot, one that opens a WebSocket, one that calls fetch", () => {
  expect(filesWith(/from "uplot"/)).toEqual(["charts/chart.ts"]);
  expect(filesWith(/new WebSocket\(/)).toEqual(["api/socket.ts"]);
  expect(filesWith(/\bfetch\(/)).toEqual(["api/http.ts"]);
});

it("asks nobody outside", () => {
  const elsewhere = filesWith(/https?:\/\/(?!www\.w3\.org)/);
  expect(elsewhere).toEqual([]);
});

it("keeps the logic that is tested here free of the page", () => {
  const impure = sources.filter(
    ({ name, text }) => name.startsWith("model/") && /\b(document|window)\.|preact/.test(text),
  );
  expect(impure.map(({ name }) => name)).toEqual([]);
});
