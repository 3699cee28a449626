import { useEffect } from "preact/hooks";
import { RunPage } from "./pages/run/run-page";
import { RunsPage } from "./pages/runs/runs-page";
import { TokenPage } from "./pages/token-page";
import { startClock } from "./state/clock";
import { route, startRouter } from "./state/router";
import { startRuns } from "./state/runs";
import { startSchema } from "./state/schema";
import { signIns, startSession, tokenNeeded } from "./state/session";
import { shownTheme, startTheme, toggleTheme } from "./state/theme";
import { Button } from "./ui/button";
import { Connection } from "./ui/connection";
import { later } from "./ui/later";
import { Link } from "./ui/link";
import { Empty } from "./ui/notice";
import { SystemStrip } from "./ui/system-strip";
import { Toasts } from "./ui/toasts";

const NewRunPage = later(async () => (await import("./pages/new-run/new-run-page")).NewRunPage);

/** The frame around every page. */
export function App() {
  useEffect(() => {
    const stops = [startTheme(), startRouter(), startClock(), startSession()];
    return () => {
      for (const stop of stops) stop();
    };
  }, []);
  return (
    <>
      <a class="skip" href="#main">
        To the content
      </a>
      <TopBar />
      {tokenNeeded.value ? <TokenPage /> : <Inside key={signIns.value} />}
      <Toasts />
    </>
  );
}

function Inside() {
  useEffect(() => {
    const stops = [startRuns(), startSchema()];
    return () => {
      for (const stop of stops) stop();
    };
  }, []);
  return (
    <>
      <Page />
      <SystemStrip />
    </>
  );
}

function Page() {
  const at = route.value;
  switch (at.page) {
    case "runs":
      return <RunsPage />;
    case "new":
      return <NewRunPage />;
    case "run":
      return <RunPage key={at.id} id={at.id} tab={at.tab} />;
    case "unknown":
      return (
        <main class="page" id="main">
          <Empty title="There is no such page">
            <p>
              <code>{at.path}</code> leads nowhere.
            </p>
            <Link to="/" class="button primary">
              All runs
            </Link>
          </Empty>
        </main>
      );
  }
}

function TopBar() {
  const dark = shownTheme.value === "dark";
  return (
    <div class="topbar">
      <Link to="/" class="brand">
        <Logo />
        Xoron
      </Link>
      <div class="topbar-end">
        {!tokenNeeded.value && <Connection />}
        <Button
          kind="quiet"
          icon={dark ? "sun" : "moon"}
          label={dark ? "Light theme" : "Dark theme"}
          onClick={toggleTheme}
        />
      </div>
    </div>
  );
}

function Logo() {
  return (
    <svg class="logo" viewBox="0 0 32 32" aria-hidden="true" focusable="false">
      <rect class="logo-ground" width="32" height="32" rx="8" />
      <path class="logo-curve" d="M6 8c5 0 5 13 11 14.5c3 .8 5.5 1 9 1" />
      <circle class="logo-dot" cx="25" cy="9" r="3" />
    </svg>
  );
}
