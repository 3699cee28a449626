import { describe, expect, it } from "vitest";
import { EMPTY, ordered, put, remove, replaceAll } from "../src/model/run-list";
import { run } from "./a-run";

describe("the list of runs", () => {
  it("shows the newest first", () => {
    const list = put(put(EMPTY, run("a")), run("bb"));
    expect(ordered(list).map((item) => item.id)).toEqual(["bb", "a"]);
  });

  it("replaces a run and leaves the old list alone", () => {
    const before = put(EMPTY, run("a"));
    const after = put(before, run("a", { step: 5 }));
    expect(before.get("a")?.step).toBe(0);
    expect(after.get("a")?.step).toBe(5);
  });

  it("drops what the server no longer has", () => {
    expect(ordered(replaceAll(put(EMPTY, run("a")), [run("bb")], new Set())).map((r) => r.id)).toEqual([
      "bb",
    ]);
  });

  it("keeps what came over the stream while the list was on its way", () => {
    let list = put(EMPTY, run("a", { step: 9 }));
    list = put(list, run("ccc"));
    list = remove(list, "bb");
    const fetched = [run("a", { step: 1 }), run("bb")];
    const next = replaceAll(list, fetched, new Set(["a", "bb", "ccc"]));
    expect(next.get("a")?.step).toBe(9);
    expect(next.has("bb")).toBe(false);
    expect(next.has("ccc")).toBe(true);
  });

  it("is the same list when nothing was removed", () => {
    expect(remove(EMPTY, "a")).toBe(EMPTY);
  });
});
