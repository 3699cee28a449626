"""The page of one run, in a browser."""

import re
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Locator, Page, expect
from support.browser import Visit
from support.scripted_run import ScriptedRun
from support.serving import RunningServer, server_process

from xoron_core.contract.events import BadSampleEvent, EvalEvent, Event, NonFiniteEvent, PhaseEvent, SampleEvent
from xoron_core.contract.states import RunState

pytestmark = pytest.mark.browser

LONGEST_PAUSE_S = 10
"""Between two attempts of the page to reach a server that is away."""
ENDLESS = {"training": {"max_steps": None, "save_steps": 5}}


class AuroraEvent(Event):
    """A kind that no version knows."""

    kind: Literal["aurora"] = "aurora"
    colour: str = "green"


def chart(page: Page, modality: str) -> Locator:
    return page.locator(f'[data-modality="{modality}"] .plot')


def pixels(place: Locator) -> str:
    return str(place.locator("canvas").evaluate("canvas => canvas.toDataURL()"))


def test_charts_begin_with_history_and_follow_live(running_server: RunningServer, visit: Visit) -> None:
    with ScriptedRun(running_server.home) as run:
        seq = run.steps(range(1, 101))
        running_server.wait_seq(run.id, seq)
        page = visit(running_server, f"/runs/{run.id}")
        text = chart(page, "text")
        expect(text).to_have_attribute("aria-label", re.compile(r"latest 1\.368, lowest 1\.368 at step 100"))
        before = pixels(text)
        run.steps(range(101, 201))
        expect(text).to_have_attribute("aria-label", re.compile(r"latest 1\.135, lowest 1\.135 at step 200"))
        assert pixels(text) != before
        run.say(EvalEvent(step=200, tokens=1, samples=1, seconds=1, values={"eval/text/loss": 1.25}))
        expect(text).to_have_attribute("aria-label", re.compile(r"held-out 1\.250"))


def test_a_metric_of_held_out_data_alone_has_a_chart(running_server: RunningServer, visit: Visit) -> None:
    with ScriptedRun(running_server.home) as run:
        run.steps(range(1, 21))
        for step, value in ((10, 1.5), (20, 0.75)):
            values: dict[str, float | None] = {"eval/text/loss": 1.0, "eval/text/tool_loss": value}
            seq = run.say(EvalEvent(step=step, tokens=1, samples=1, seconds=1, values=values))
        running_server.wait_seq(run.id, seq)
        page = visit(running_server, f"/runs/{run.id}")
        card = page.locator('[data-modality="text"]')
        expect(card.get_by_text("Mean of 100")).to_be_visible()
        card.get_by_role("button", name="Tools").click()
        expect(chart(page, "text")).to_have_attribute("aria-label", re.compile(r"^Tools .* steps, held-out 0\.7500"))
        assert card.locator("dt").all_inner_texts() == ["Held-out", "Best held-out"]
        assert card.locator("dd").all_inner_texts() == ["0.7500", "0.7500 at 20"]
        expect(card.locator(".legend")).not_to_contain_text("training")
        first = pixels(chart(page, "text"))
        run.say(EvalEvent(step=21, tokens=1, samples=1, seconds=1, values={"eval/text/tool_loss": 2.0}))
        expect(card.locator("dd").first).to_have_text("2.000")
        assert pixels(chart(page, "text")) != first


def test_what_was_not_finite_is_marked(running_server: RunningServer, visit: Visit) -> None:
    with ScriptedRun(running_server.home) as run:
        run.steps(range(1, 30))
        run.steps([30], {"text/loss": None})
        run.say(NonFiniteEvent(step=30, name="text/loss", value="nan", modality="text"))
        running_server.wait_seq(run.id, run.steps(range(31, 40)))
        page = visit(running_server, f"/runs/{run.id}")
        expect(page.get_by_text("1 not finite, last at step 30")).to_be_visible()
        expect(page.get_by_text("text/loss was nan at step 30")).to_be_visible()


def test_a_resumed_attempt_replaces_what_it_does_again(running_server: RunningServer, visit: Visit) -> None:
    run = ScriptedRun(running_server.home)
    run.steps(range(1, 51))
    run.end(RunState.STOPPED)
    page = visit(running_server, f"/runs/{run.id}")
    expect(chart(page, "text")).to_have_attribute("aria-label", re.compile("lowest .* at step 50"))
    run.begin()
    with run:
        run.steps(range(41, 46))
        expect(chart(page, "text")).to_have_attribute("aria-label", re.compile("lowest .* at step 45"))


def test_stop_and_resume_by_button(running_server: RunningServer, visit: Visit) -> None:
    run_id = running_server.create(ENDLESS, name="endless")["id"]
    page = visit(running_server, f"/runs/{run_id}")
    badge = page.locator(".run-title .badge")
    expect(badge).to_have_text("running")
    page.get_by_role("button", name="Stop", exact=True).click()
    expect(badge).to_have_text("stopped")
    stopped = running_server.wait_state(run_id, "stopped")
    page.get_by_role("link", name="Checkpoints").click()
    expect(page.get_by_role("row").nth(1)).to_contain_text(f"step-{stopped['step']:08d}")
    page.get_by_role("button", name="Resume", exact=True).click()
    expect(badge).to_have_text("running")
    assert running_server.show(run_id)["attempt"] == 2
    page.get_by_role("link", name="Events").click()
    expect(page.get_by_text(f"Resumed from step {stopped['step']}")).to_be_visible()


def test_checkpoint_and_sample_now(running_server: RunningServer, visit: Visit) -> None:
    run_id = running_server.create(ENDLESS)["id"]
    page = visit(running_server, f"/runs/{run_id}/samples")
    expect(page.get_by_text("No samples yet")).to_be_visible()
    page.get_by_role("button", name="Sample now").click()
    expect(page.get_by_text(re.compile("what the model says at step"))).to_be_visible()
    page.get_by_role("button", name="Checkpoint now").click()
    page.get_by_role("link", name="Events").click()
    expect(page.get_by_text(re.compile("requested, "))).to_be_visible()


def test_a_deadline_counts_down(running_server: RunningServer, visit: Visit) -> None:
    with ScriptedRun(running_server.home) as run:
        deadline = "2199-01-01T00:00:00.000Z"
        seq = run.say(PhaseEvent(phase="draining", detail="writing a checkpoint", deadline=deadline))
        running_server.wait_seq(run.id, seq)
        page = visit(running_server, f"/runs/{run.id}")
        expect(page.get_by_text("draining: writing a checkpoint")).to_be_visible()
        expect(page.get_by_text(re.compile(r"at most \d+ d \d+ h more"))).to_be_visible()


def test_events_log_and_configuration(running_server: RunningServer, visit: Visit) -> None:
    with ScriptedRun(running_server.home) as run:
        run.directory.log_file.write_text("first line\nlast line\n")
        running_server.wait_seq(run.id, 1)
        page = visit(running_server, f"/runs/{run.id}/events")
        expect(page.get_by_text("State: running")).to_be_visible()
        run.say(BadSampleEvent(source="pictures", index=7, reason="broken PNG", count=1), AuroraEvent())
        expect(page.get_by_text("Bad sample pictures[7]")).to_be_visible()
        expect(page.get_by_text("Unknown event: aurora")).to_be_visible()
        expect(page.get_by_role("link", name="1", exact=True)).to_be_visible()
        page.get_by_role("button", name="Warnings and errors only").click()
        expect(page.get_by_text("State: running")).to_have_count(0)
        page.get_by_role("link", name="Log").click()
        expect(page.get_by_text("last line")).to_be_visible()
        with run.directory.log_file.open("a") as log:
            log.write("one more line\n")
        expect(page.get_by_text("one more line")).to_be_visible()
        page.get_by_role("link", name="Configuration").click()
        expect(page.get_by_text("learning_rate: 0.002")).to_be_visible()


def test_samples_are_grouped_by_step_newest_first(running_server: RunningServer, visit: Visit) -> None:
    with ScriptedRun(running_server.home) as run:
        for step in (100, 250):
            folder = run.directory.sample_dir(step)
            folder.mkdir()
            (folder / "text-0.txt").write_text(f"said at {step} <|eos|>")
            path = f"samples/{folder.name}/text-0.txt"
            seq = run.say(SampleEvent(step=step, modality="text", path=path, mime="text/plain", caption="Say it"))
        running_server.wait_seq(run.id, seq)
        page = visit(running_server, f"/runs/{run.id}/samples")
        expect(page.get_by_text("said at 100")).to_be_visible()
        assert page.get_by_role("heading", level=2).all_inner_texts() == ["Step 250", "Step 100"]


def test_a_run_that_does_not_exist(running_server: RunningServer, visit: Visit) -> None:
    page = visit(running_server, "/runs/20200101-000000-none", tolerated="404")
    expect(page.get_by_text("There is no such run")).to_be_visible()
    page.get_by_role("link", name="All runs").click()
    expect(page.get_by_role("heading", name="Runs", exact=True)).to_be_visible()


def test_the_page_catches_up_after_the_server_came_back(tmp_path: Path, visit: Visit) -> None:
    home = tmp_path / "home"
    with server_process(home) as first:
        run = ScriptedRun(first.server.home)
        first.server.wait_seq(run.id, run.steps(range(1, 11)))
        page = visit(first.server, f"/runs/{run.id}", tolerated="WebSocket connection|net::ERR_")
        text = chart(page, "text")
        expect(text).to_have_attribute("aria-label", re.compile("at step 10"))
        run.steps([11])  # figures are asked for a moment after
        expect(text).to_have_attribute("aria-label", re.compile("at step 11"))
        first.kill()
        expect(page.locator(".connection")).to_contain_text("reconnecting")
        unanswered = page.get_by_text("The server does not answer")
        expect(unanswered).to_be_visible()
        page.get_by_role("link", name="Samples", exact=True).click()
        expect(unanswered).to_have_count(2)
        run.steps(range(12, 21))
        with run, server_process(home, XORON_PORT=str(first.server.port)):
            expect(page.locator(".connection")).to_have_text("live", timeout=LONGEST_PAUSE_S * 2000)
            expect(unanswered).to_have_count(0)
            expect(page.get_by_text("No samples yet")).to_be_visible()
            page.get_by_role("link", name="Charts", exact=True).click()
            expect(text).to_have_attribute("aria-label", re.compile("at step 20"))
            run.steps([21])
            expect(text).to_have_attribute("aria-label", re.compile("at step 21"))
