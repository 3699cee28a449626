"""The queue on the page of runs, in a browser."""

from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect
from support.browser import Visit
from support.runs import wait_for
from support.serving import RunningServer

pytestmark = pytest.mark.browser

ENDLESS = {"training": {"max_steps": None, "save_steps": None}, "resources": {"device": "cpu"}}
NAMES = ["first", "second", "third"]


@pytest.fixture
def waiting(running_server: RunningServer) -> dict[str, str]:
    """The ids of three runs that wait, by name, behind one that takes the only slot."""
    busy = running_server.create(ENDLESS, name="busy")["id"]
    running_server.wait_state(busy, "running")
    ids = {name: running_server.create(ENDLESS, name=name)["id"] for name in NAMES}
    wait_for(lambda: queued(running_server) == NAMES and all(row["waiting"] for row in queue(running_server)["items"]))
    return {"busy": busy, **ids}


def queue(server: RunningServer) -> dict[str, Any]:
    return dict(server.api.get("/queue").json())


def queued(server: RunningServer) -> list[str]:
    return [row["name"] for row in queue(server)["items"]]


def lines(page: Page) -> Locator:
    return page.locator(".queue-line .run-link")


def test_what_waits_is_shown_in_its_order_with_its_reason(
    running_server: RunningServer, visit: Visit, waiting: dict[str, str]
) -> None:
    page = visit(running_server)
    expect(lines(page)).to_have_text(NAMES)
    section = page.get_by_role("region", name="Queue")
    expect(section.get_by_text("1 of 1 slot taken", exact=True)).to_be_visible()
    expect(page.locator(".queue-line").nth(0)).to_contain_text("taken by")
    table = page.locator(f'tr[data-run="{waiting["second"]}"]')
    expect(table.get_by_text("2nd in the queue")).to_be_visible()
    assert running_server.api.post(f"/runs/{waiting['first']}/cancel", json={}).status_code == 202
    expect(lines(page)).to_have_text(["second", "third"])
    expect(table.get_by_text("1st in the queue")).to_be_visible()


def test_the_page_of_a_waiting_run_says_where_it_stands(
    running_server: RunningServer, visit: Visit, waiting: dict[str, str]
) -> None:
    page = visit(running_server, f"/runs/{waiting['third']}")
    expect(page.get_by_text("3rd in the queue")).to_be_visible()
    page.get_by_role("link", name="The whole queue").click()
    expect(lines(page)).to_have_text(NAMES)


def test_runs_are_moved_by_button(running_server: RunningServer, visit: Visit, waiting: dict[str, str]) -> None:
    page = visit(running_server)
    page.get_by_role("button", name="Move third up").click()
    expect(lines(page)).to_have_text(["first", "third", "second"])
    assert queued(running_server) == ["first", "third", "second"]
    page.get_by_role("button", name="Move second to the front").click()
    expect(lines(page)).to_have_text(["second", "first", "third"])
    assert queued(running_server) == ["second", "first", "third"]
    expect(page.get_by_role("button", name="Move second up")).to_be_disabled()
    expect(page.get_by_role("button", name="Move third down")).to_be_disabled()


def test_runs_are_moved_by_keyboard_which_does_not_lose_its_place(
    running_server: RunningServer, visit: Visit, waiting: dict[str, str]
) -> None:
    page = visit(running_server)
    page.get_by_role("button", name="Move third up").focus()
    page.keyboard.press("Enter")
    expect(lines(page)).to_have_text(["first", "third", "second"])
    expect(page.get_by_role("button", name="Move third up")).to_be_focused()
    page.keyboard.press("Enter")
    expect(lines(page)).to_have_text(["third", "first", "second"])
    expect(page.get_by_role("button", name="Move third down")).to_be_focused()
    expect(page.get_by_role("region", name="Queue").get_by_role("status")).to_have_text("third is now 1 of 3")
    page.keyboard.press("Alt+ArrowDown")
    expect(lines(page)).to_have_text(["first", "third", "second"])
    assert queued(running_server) == ["first", "third", "second"]


def test_a_run_is_held_and_comes_back_to_its_place(
    running_server: RunningServer, visit: Visit, waiting: dict[str, str]
) -> None:
    page = visit(running_server)
    page.get_by_role("button", name="Hold second").click()
    expect(lines(page)).to_have_text(["first", "third"])
    expect(page.get_by_text("second: Held: it keeps its place until it is resumed")).to_be_visible()
    expect(page.get_by_role("region", name="Queue").get_by_role("status")).to_have_text("second is held")
    expect(lines(page).nth(1)).to_be_focused()
    line = page.locator(f'tr[data-run="{waiting["second"]}"]')
    expect(line.locator(".badge")).to_have_text("paused")
    line.get_by_role("button", name="Resume second").click()
    expect(lines(page)).to_have_text(NAMES)


def test_a_run_is_taken_out(running_server: RunningServer, visit: Visit, waiting: dict[str, str]) -> None:
    page = visit(running_server)
    page.get_by_role("button", name="Take first out of the queue").click()
    expect(lines(page)).to_have_text(["second", "third"])
    expect(page.locator(f'tr[data-run="{waiting["first"]}"] .badge')).to_have_text("stopped")
    assert running_server.show(waiting["first"])["started_at"] is None


def test_the_next_one_leaves_the_queue_when_the_slot_is_free(
    running_server: RunningServer, visit: Visit, waiting: dict[str, str]
) -> None:
    page = visit(running_server)
    page.get_by_role("button", name="Stop busy").click()
    expect(lines(page)).to_have_text(["second", "third"])
    expect(page.locator(f'tr[data-run="{waiting["first"]}"] .badge')).to_have_text("running")
    for name in ("third", "second"):
        page.get_by_role("button", name=f"Take {name} out of the queue").click()
        expect(page.get_by_role("link", name=name)).to_have_count(1)
    expect(page.get_by_role("heading", name="Queue")).to_have_count(0)


def test_the_form_gives_a_run_its_priority(
    running_server: RunningServer, visit: Visit, waiting: dict[str, str]
) -> None:
    page = visit(running_server, "/new", tolerated="422")
    page.get_by_label("Name", exact=True).fill("urgent")
    priority = page.get_by_label("Priority")
    priority.fill("soon")
    expect(page.locator('[data-field="priority"] .field-error')).to_be_visible()
    priority.fill("3")
    expect(page.get_by_text("Ready to start")).to_be_visible()
    page.get_by_role("button", name="Start run").click()
    expect(page.get_by_text("1st in the queue")).to_be_visible()
    assert queued(running_server) == ["urgent", *NAMES]
    page.get_by_role("link", name="The whole queue").click()
    expect(page.locator(".queue-line").nth(0)).to_contain_text("priority 3")
