import { defineConfig } from "vitest/config";

// The server to develop against: `XORON_SERVER=http://127.0.0.1:8001 npm run dev`.
declare const process: { env: Record<string, string | undefined> };
const server = process.env.XORON_SERVER ?? "http://127.0.0.1:8000";

export default defineConfig({
  build: {
    outDir: "../server/static",
    emptyOutDir: true,
    assetsInlineLimit: 0, // the content security policy allows no data: addresses
    modulePreload: { polyfill: false },
    target: "es2022",
    license: { fileName: "assets/licenses.md" },
  },
  server: {
    proxy: { "/api": { target: server, ws: true } },
  },
  test: {
    include: ["tests/**/*.test.ts"],
  },
});
