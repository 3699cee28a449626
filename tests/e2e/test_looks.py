"""What holds for every page: themes, narrow screens, keyboard."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect
from support.browser import Visit
from support.scripted_run import ScriptedRun
from support.serving import RunningServer

from xoron_core.contract.events import BadSampleEvent, CheckpointEvent

pytestmark = pytest.mark.browser

PAGES = ["/", "/new", "/runs/{}", "/runs/{}/samples", "/runs/{}/checkpoints", "/runs/{}/log", "/runs/{}/events"]

FOCUSED = "[document.activeElement.innerText, getComputedStyle(document.activeElement).outlineStyle]"


@pytest.fixture
def run(running_server: RunningServer) -> Iterator[ScriptedRun]:
    """A run with something on every page, much of it long."""
    with ScriptedRun(running_server.home, name="A_name_that_is_long_and_has_no_place_to_break_" * 2) as run:
        run.directory.log_file.write_text("a long line " * 50)
        checkpoint = run.directory.checkpoint_dir(5)
        checkpoint.mkdir()
        (checkpoint / "manifest.json").write_text("{}")
        run.say(CheckpointEvent(step=5, path="checkpoints/step-00000005", reason="periodic", bytes=2, seconds=1))
        run.say(BadSampleEvent(source="pictures", index=7, reason="broken_" * 40, count=1))
        run.steps(range(1, 31))
        running_server.wait_seq(run.id, run.samples(30))
        yield run


def brightness(page: Page) -> int:
    color = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    return sum(int(part) for part in color.removeprefix("rgb(").rstrip(")").split(","))


def test_the_theme_follows_the_system_until_it_is_chosen(running_server: RunningServer, visit: Visit) -> None:
    light, dark = visit(running_server, theme="light"), visit(running_server, theme="dark")
    for page in (light, dark):
        expect(page.get_by_text("No runs yet")).to_be_visible()
    assert brightness(light) > 600 > 200 > brightness(dark)
    light.get_by_role("button", name="Dark theme").click()
    assert brightness(light) == brightness(dark)
    light.reload()
    expect(light.get_by_role("button", name="Light theme")).to_be_visible()
    assert brightness(light) == brightness(dark)


@pytest.mark.parametrize("path", PAGES)
def test_nothing_is_wider_than_a_phone(
    running_server: RunningServer, visit: Visit, run: ScriptedRun, path: str
) -> None:
    page = visit(running_server, path.format(run.id), width=390)
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    expect(page.locator(".connection")).to_have_text("live")
    page.wait_for_load_state("networkidle")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_every_control_shows_that_it_has_the_focus(
    running_server: RunningServer, visit: Visit, run: ScriptedRun
) -> None:
    page = visit(running_server, f"/runs/{run.id}")
    expect(page.get_by_role("button", name="Stop", exact=True)).to_be_visible()
    seen = []
    for _ in range(14):
        page.keyboard.press("Tab")
        seen.append(page.evaluate(FOCUSED))
    assert {outline for _, outline in seen} == {"solid"}
    assert "Stop" in [text for text, _ in seen]
