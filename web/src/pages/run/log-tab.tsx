import { useSignal } from "@preact/signals";
import { useEffect, useLayoutEffect, useRef } from "preact/hooks";
import { getLogs } from "../../api/calls";
import { isAbort, messageOf } from "../../api/http";
import type { Run } from "../../contract";
import { isLive } from "../../model/states";
import { Empty, Notice } from "../../ui/notice";

const TAIL_LINES = 1000;
const KEPT_CHARS = 400_000;
const EVERY_MS = 1500;

/** The end of what the trainer printed, followed while it is at the end. */
export function LogTab({ run }: { run: Run }) {
  const follow = useSignal(true);
  const box = useRef<HTMLPreElement>(null);
  const { text, error } = useLog(run.id, isLive(run.state));

  useLayoutEffect(() => {
    const element = box.current;
    if (element !== null && follow.value) element.scrollTop = element.scrollHeight;
  }, [text.value, follow.value, follow]);

  const onScroll = () => {
    const element = box.current;
    if (element !== null) follow.value = element.scrollHeight - element.scrollTop - element.clientHeight < 24;
  };

  return (
    <section aria-label="Log">
      {error.value !== null && <Notice tone="error">{error.value}</Notice>}
      {text.value === "" && error.value === null && (
        <Empty title="The log is empty">
          <p>What the trainer prints appears here.</p>
        </Empty>
      )}
      {text.value !== "" && (
        <div class="log-box">
          {/* biome-ignore lint/a11y/noNoninteractiveTabindex: a region that scrolls is reached by keyboard */}
          <pre class="card log" ref={box} onScroll={onScroll} tabIndex={0}>
            {text.value}
          </pre>
          {!follow.value && (
            <button type="button" class="button plain to-end" onClick={() => (follow.value = true)}>
              To the newest line
            </button>
          )}
        </div>
      )}
    </section>
  );
}

function useLog(id: string, live: boolean) {
  const text = useSignal("");
  const error = useSignal<string | null>(null);
  const end = useRef<number | undefined>(undefined);
  useEffect(() => {
    const controller = new AbortController();
    let timer = 0;
    let isFetched = false;
    const load = async () => {
      try {
        if (!document.hidden || !isFetched) {
          const query = end.current === undefined ? { tail: TAIL_LINES } : { after: end.current };
          const page = await getLogs(id, query, controller.signal);
          end.current = page.end;
          if (page.text !== "") text.value = (text.value + page.text).slice(-KEPT_CHARS);
          isFetched = true;
          error.value = null;
        }
      } catch (reason) {
        if (isAbort(reason)) return;
        error.value = messageOf(reason);
      }
      if (live || error.value !== null) timer = window.setTimeout(load, EVERY_MS);
    };
    void load();
    return () => {
      controller.abort();
      window.clearTimeout(timer);
    };
  }, [id, live]);
  return { text, error };
}
