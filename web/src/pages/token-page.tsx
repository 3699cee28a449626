import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { openSession } from "../api/calls";
import { ApiError, isAbort, messageOf } from "../api/http";
import { signedIn } from "../state/session";
import { Button } from "../ui/button";
import { Notice } from "../ui/notice";

/** Asks for the token that the server wants. */
export function TokenPage() {
  const token = useSignal("");
  const error = useSignal<string | null>(null);
  const busy = useSignal(false);
  const request = useRef(new AbortController());
  useEffect(() => {
    document.title = "Sign in · Xoron";
    return () => request.current.abort();
  }, []);

  const submit = async (event: Event) => {
    event.preventDefault();
    busy.value = true;
    error.value = null;
    try {
      await openSession(token.value.trim(), request.current.signal);
      signedIn();
    } catch (reason) {
      if (isAbort(reason)) return;
      const refused = reason instanceof ApiError && reason.status === 401;
      error.value = refused ? "This is not the server's token." : messageOf(reason);
    } finally {
      busy.value = false;
    }
  };

  return (
    <main class="page narrow" id="main">
      <form class="card token-card" onSubmit={submit}>
        <h1>This server asks for a token</h1>
        <p class="muted">
          It is the value of <code>XORON_TOKEN</code> where the server was started.
        </p>
        <label class="field">
          <span class="field-label">Token</span>
          <input
            class="input"
            type="password"
            autocomplete="current-password"
            autofocus
            required
            value={token.value}
            onInput={(event) => (token.value = event.currentTarget.value)}
          />
        </label>
        {error.value !== null && <Notice tone="error">{error.value}</Notice>}
        <Button kind="primary" type="submit" busy={busy.value} disabled={token.value.trim() === ""}>
          Sign in
        </Button>
      </form>
    </main>
  );
}
