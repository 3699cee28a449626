// Prints what a first visit loads, gzipped, and fails over the budget.
import { readFile } from "node:fs/promises";
import { gzipSync } from "node:zlib";

const OUT = new URL("../../server/static/", import.meta.url);
const BUDGET_KB = 150;

const html = await readFile(new URL("index.html", OUT), "utf8");
const names = [...html.matchAll(/(?:src|href)="\/([^"]+)"/g)].map((match) => match[1]);
let total = gzipSync(html).length;
for (const name of names) {
  const size = gzipSync(await readFile(new URL(name, OUT)), { level: 9 }).length;
  total += size;
  console.log(`${name}  ${(size / 1000).toFixed(1)} kB gzipped`);
}
console.log(`first load  ${(total / 1000).toFixed(1)} kB gzipped of ${BUDGET_KB}`);
if (total > BUDGET_KB * 1000) {
  console.error("over the budget: load what the first page does not need later");
  process.exit(1);
}
