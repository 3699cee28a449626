import { signal } from "@preact/signals";
import type { FunctionComponent } from "preact";
import { useEffect } from "preact/hooks";
import { messageOf } from "../api/http";
import { Notice } from "./notice";

/** A page whose code is fetched when it is first opened; most visits never need it. */
export function later(load: () => Promise<FunctionComponent>): FunctionComponent {
  const loaded = signal<{ page: FunctionComponent } | null>(null);
  const error = signal<string | null>(null);
  return function Later() {
    useEffect(() => {
      if (loaded.value !== null) return;
      error.value = null;
      load().then(
        (page) => (loaded.value = { page }),
        (reason) => (error.value = messageOf(reason)),
      );
    }, []);
    if (loaded.value !== null) return <loaded.value.page />;
    return (
      <main class="page" id="main">
        {error.value === null ? (
          <p class="muted">Loading …</p>
        ) : (
          <Notice tone="error">This page could not be fetched; reload it. {error.value}</Notice>
        )}
      </main>
    );
  };
}
