"""How a run ends, fails and recovers, in a browser."""

import functools
import re
from datetime import UTC, datetime, timedelta

import pytest
from playwright.sync_api import Locator, Page, expect
from support.browser import Visit
from support.runs import small_trainer, wait_for
from support.scripted_run import ScriptedRun
from support.serving import RunningServer, StartServer

from server.runs.launchers.local import launch
from xoron_core.contract import clock
from xoron_core.contract.events import PhaseEvent, StateEvent
from xoron_core.contract.exit_codes import Failure
from xoron_core.contract.run_directory import RunDirectory
from xoron_core.contract.states import RunState

pytestmark = pytest.mark.browser

ENDLESS = {"training": {"max_steps": None, "save_steps": 5}}
PHASES = ["requested", "draining", "saving", "verified", "exited", "memory_free"]
IN_TIME_MS = 3000
"""In which the browser must have a failure's reason."""
START_MS = 20_000
"""In which a keeper and a trainer have started, on a machine that is busy."""


def step(page: Page, phase: str) -> Locator:
    """One step of the end."""
    return page.locator(f'.end-step[data-phase="{phase}"]')


def is_status(page: Page, **statuses: str) -> None:
    for phase, status in statuses.items():
        expect(step(page, phase)).to_have_class(re.compile(rf"\b{status}\b"))


def in_seconds(seconds: float) -> str:
    return clock.format_time(datetime.now(UTC) + timedelta(seconds=seconds))


def test_an_end_is_followed_phase_by_phase(running_server: RunningServer, visit: Visit) -> None:
    with ScriptedRun(running_server.home, {"trouble": {"term_grace_s": 7}}) as run:
        page = visit(running_server, f"/runs/{run.id}")
        badge = page.locator(".run-title .badge")
        expect(badge).to_have_text("running")
        expect(page.locator(".end-step")).to_have_count(0)
        requested = PhaseEvent(phase="requested", detail="stop requested", deadline=in_seconds(40))
        run.say(StateEvent(state=RunState.STOPPING, reason="stop requested"), requested)
        expect(badge).to_have_text("stopping")
        is_status(page, requested="current", draining="ahead")
        expect(page.get_by_text(re.compile(r"SIGTERM in [34]\d s .*, SIGKILL 7 s later"))).to_be_visible()
        run.say(PhaseEvent(phase="draining"), PhaseEvent(phase="saving"))
        is_status(page, requested="done", draining="done", saving="current", verified="ahead")
        expect(step(page, "saving")).to_have_attribute("aria-current", "step")
        run.say(PhaseEvent(phase="verified"), PhaseEvent(phase="closing"))
        is_status(page, verified="done", exited="current")
        expect(page.get_by_text(re.compile("SIGTERM in"))).to_be_visible()
        run.say(PhaseEvent(phase="exited"))
        is_status(page, exited="done", memory_free="current")
        expect(page.get_by_text(re.compile("SIGTERM in"))).to_have_count(0)
        run.say(PhaseEvent(phase="memory_free"))
        run.end(RunState.STOPPED, "stop requested")
        expect(badge).to_have_text("stopped")
        is_status(page, **dict.fromkeys(PHASES, "done"))


def test_a_stop_by_button_shows_all_of_it(running_server: RunningServer, visit: Visit) -> None:
    run_id = running_server.create(ENDLESS)["id"]
    page = visit(running_server, f"/runs/{run_id}")
    expect(page.locator(".run-title .badge")).to_have_text("running", timeout=START_MS)
    page.get_by_role("button", name="Stop", exact=True).dblclick()
    expect(page.locator(".run-title .badge")).to_have_text("stopped")
    is_status(page, **dict.fromkeys(PHASES, "done"))
    page.get_by_role("button", name="Resume", exact=True).click()
    expect(page.locator(".run-title .badge")).to_have_text("running", timeout=START_MS)
    expect(page.locator(".end-step")).to_have_count(0)


def test_a_stop_that_cannot_save_is_given_up(running_server: RunningServer, visit: Visit) -> None:
    with ScriptedRun(running_server.home, name="stuck") as run:
        page = visit(running_server, f"/runs/{run.id}")
        badge = page.locator(".run-title .badge")
        expect(badge).to_have_text("running")
        page.get_by_role("button", name="Stop", exact=True).click()
        expect(badge).to_have_text("stopping")
        expect(page.get_by_role("button", name="Stop", exact=True)).to_have_count(0)
        page.get_by_role("button", name="More for stuck").click()
        page.get_by_role("menuitem", name="Stop without saving").click()
        page.get_by_role("dialog").get_by_role("button", name="Stop without saving").click()
        expect(page.get_by_text("stuck: Stopping without a checkpoint")).to_be_visible()
        assert [command.save for command in run.directory.commands.after(0)] == [True, False]
        run.end(RunState.STOPPED)


def test_a_cancelled_run_needs_no_checkpoint(running_server: RunningServer, visit: Visit) -> None:
    run_id = running_server.create(ENDLESS, name="unwanted")["id"]
    page = visit(running_server, f"/runs/{run_id}")
    expect(page.locator(".run-title .badge")).to_have_text("running", timeout=START_MS)
    page.get_by_role("button", name="More for unwanted").click()
    page.get_by_role("menuitem", name="Cancel").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    expect(page.locator(".run-title .badge")).to_have_text("cancelled")
    is_status(page, draining="done", saving="skipped", verified="skipped", memory_free="done")


def test_a_trainer_that_does_not_answer_is_shown_with_its_deadline(start_server: StartServer, visit: Visit) -> None:
    server = start_server(launch=functools.partial(launch, trainer=small_trainer("deaf")))
    run_id = server.create({"trouble": {"stop_grace_s": 50, "term_grace_s": 9}})["id"]
    page = visit(server, f"/runs/{run_id}")
    expect(page.locator(".run-title .badge")).to_have_text("running", timeout=START_MS)
    page.get_by_role("button", name="Stop", exact=True).click()
    is_status(page, requested="current", exited="ahead")
    expect(page.get_by_text(re.compile(r"SIGTERM in [345]\d s .*, SIGKILL 9 s later"))).to_be_visible()
    expect(page.get_by_text("stop was asked")).to_be_visible()


def test_a_failure_reaches_the_browser_with_its_last_line(start_server: StartServer, visit: Visit) -> None:
    server = start_server(launch=functools.partial(launch, trainer=small_trainer("crash_early")))
    page = visit(server)
    expect(page.get_by_text("No runs yet")).to_be_visible()
    run_id = server.create()["id"]
    page.get_by_role("link", name=re.compile("^demo-")).first.click()
    log = RunDirectory(server.home.runs / run_id).log_file
    wait_for(lambda: log.exists() and "no module named torch" in log.read_text())
    reason = page.locator(".broken-error")
    expect(reason).to_have_text("no module named torch; install xoron[train]", timeout=IN_TIME_MS)
    expect(page.locator(".run-title .badge")).to_have_text("failed")
    expect(page.get_by_text("Not tried again: it failed before its first step was done")).to_be_visible()
    page.get_by_role("link", name="Read the log").click()
    expect(page.locator(".log")).to_contain_text("no module named torch")


def test_a_run_that_recovers_says_why_and_counts_down(start_server: StartServer, visit: Visit) -> None:
    server = start_server(launch=functools.partial(launch, trainer=small_trainer("crash_again")))
    run_id = server.create({"trouble": {"restart_delay_s": 40}})["id"]
    page = visit(server, f"/runs/{run_id}")
    badge = page.locator(".run-title .badge")
    expect(badge).to_have_text("recovering", timeout=START_MS)
    banner = page.locator(".notice.warning")
    expect(banner).to_contain_text("the loss went to the moon")
    expect(banner).to_contain_text(re.compile(r"Next attempt in [34]\d s"))
    page.get_by_role("button", name="Stop", exact=True).click()
    expect(badge).to_have_text("stopped")
    expect(page.get_by_text("Trouble: crash, started again")).to_be_visible()


def test_trouble_stays_told_while_the_run_goes_on(running_server: RunningServer, visit: Visit) -> None:
    with ScriptedRun(running_server.home) as run:
        page = visit(running_server, f"/runs/{run.id}")
        run.fail_and_follow(Failure.CRASH, "RuntimeError: to the moon")
        expect(page.locator(".run-title .badge")).to_have_text("running", timeout=START_MS)
        banner = page.locator("[data-trouble]")
        expect(banner).to_contain_text("Trouble: crash, started again RuntimeError: to the moon")
        banner.get_by_role("link", name="What happened").click()
        page.get_by_role("button", name="What happened").click()
        story = page.locator(".events")
        expect(story.locator(".event-attempt")).to_have_text(["Attempt 2", "Attempt 1"])
        expect(story.locator(".event b").first).to_have_text("State: running")
        expect(story.get_by_text("Trouble: crash, started again")).to_be_visible()
        expect(story.get_by_text("Phase: ")).to_have_count(0)


def test_a_wait_for_the_disk_is_told(running_server: RunningServer, visit: Visit) -> None:
    with ScriptedRun(running_server.home) as run:
        page = visit(running_server, f"/runs/{run.id}")
        run.say(PhaseEvent(phase="waiting", detail="0.21 GiB are free at /data"))
        banner = page.locator(".notice.warning")
        expect(banner).to_contain_text("Waiting for room on the disk 0.21 GiB are free at /data")
        run.say(PhaseEvent(phase="training"))
        expect(banner).to_have_count(0)


def test_an_interrupted_run_says_who_is_to_resume_it(running_server: RunningServer, visit: Visit) -> None:
    run = ScriptedRun(running_server.home)
    page = visit(running_server, f"/runs/{run.id}")
    expect(page.locator(".run-title .badge")).to_have_text("running", timeout=START_MS)
    run.release()
    expect(page.locator(".run-title .badge")).to_have_text("interrupted")
    expect(page.get_by_text("waits for a person")).to_be_visible()
    expect(page.get_by_text("resume goes on from the newest checkpoint")).to_be_visible()
    expect(page.get_by_role("button", name="Resume", exact=True)).to_be_visible()
