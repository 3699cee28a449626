import { describe, expect, it } from "vitest";
import { parseRoute, RUN_TABS, runPath } from "../src/model/routes";

describe("parseRoute", () => {
  it("knows the pages", () => {
    expect(parseRoute("/")).toEqual({ page: "runs" });
    expect(parseRoute("/runs")).toEqual({ page: "runs" });
    expect(parseRoute("/new")).toEqual({ page: "new" });
    expect(parseRoute("/runs/20260131-120000-k3f9")).toEqual({
      page: "run",
      id: "20260131-120000-k3f9",
      tab: "charts",
    });
    expect(parseRoute("/runs/a/log/")).toEqual({ page: "run", id: "a", tab: "log" });
  });

  it.each(["/nowhere", "/runs/a/nothing", "/runs/a/log/more", "/runs/%zz", "/new/x"])(
    "does not know %s",
    (path) => {
      expect(parseRoute(path)).toEqual({ page: "unknown", path });
    },
  );

  it("reads back what runPath wrote", () => {
    for (const tab of RUN_TABS) {
      expect(parseRoute(runPath("a b/c", tab))).toEqual({ page: "run", id: "a b/c", tab });
    }
  });
});
