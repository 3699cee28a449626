"""The table of runs, in a browser."""

import pytest
from playwright.sync_api import expect
from support.browser import Visit
from support.runs import wait_for
from support.scripted_run import ScriptedRun
from support.serving import RunningServer, StartServer

from xoron_core.contract.states import RunState

pytestmark = pytest.mark.browser

ENDLESS = {"training": {"max_steps": None, "save_steps": 5}}


def test_a_first_visit_is_told_what_to_do(running_server: RunningServer, visit: Visit) -> None:
    page = visit(running_server)
    expect(page.get_by_text("No runs yet")).to_be_visible()
    page.get_by_role("button", name="Start the first run").click()
    expect(page.get_by_role("heading", name="New run")).to_be_visible()
    assert page.url.endswith("/new")


def test_rows_follow_their_runs(running_server: RunningServer, visit: Visit) -> None:
    page = visit(running_server)
    expect(page.get_by_text("No runs yet")).to_be_visible()
    with ScriptedRun(running_server.home, {"training": {"max_steps": 50}}, name="followed") as run:
        run.steps(range(1, 11))
        line = page.locator(f'tr[data-run="{run.id}"]')
        expect(line.locator(".badge")).to_have_text("running")
        expect(line.get_by_text("10 / 50")).to_be_visible()
        run.steps(range(11, 26))
        expect(line.get_by_text("25 / 50")).to_be_visible()
        run.end(RunState.FAILED, "the disk is full")
        expect(line.locator(".badge")).to_have_text("failed")
        expect(line.get_by_text("the disk is full")).to_be_visible()


def test_a_run_is_renamed_in_place(running_server: RunningServer, visit: Visit) -> None:
    with ScriptedRun(running_server.home, name="before") as run:
        page = visit(running_server)
        page.get_by_role("button", name="Rename before").click()
        name = page.get_by_label("Name of the run")
        name.fill("not kept")
        name.press("Escape")
        expect(page.get_by_role("link", name="before")).to_be_visible()
        expect(page.get_by_role("button", name="Rename before")).to_be_focused()
        page.get_by_role("button", name="Rename before").click()
        name.fill("after")
        name.press("Enter")
        expect(page.get_by_role("link", name="after")).to_be_visible()
        expect(page.get_by_role("button", name="Rename after")).to_be_focused()
        assert running_server.show(run.id)["name"] == "after"


def test_deleting_asks_first_and_works_by_keyboard(running_server: RunningServer, visit: Visit) -> None:
    run = ScriptedRun(running_server.home, name="unwanted")
    run.end(RunState.STOPPED)
    page = visit(running_server)
    page.get_by_role("button", name="More for unwanted").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("menuitem", name="Delete")).to_be_focused()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_text("Delete “unwanted”?")).to_be_visible()
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    assert running_server.show(run.id)["state"] == "stopped"
    page.get_by_role("button", name="More for unwanted").click()
    page.get_by_role("menuitem", name="Delete").click()
    dialog.get_by_role("button", name="Delete").click()
    expect(page.get_by_text("No runs yet")).to_be_visible()
    assert running_server.api.get(f"/runs/{run.id}").status_code == 404
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_role("link", name="unwanted")).to_be_visible()
    expect(page.locator(f'tr[data-run="{run.id}"] .badge')).to_have_text("stopped")


def test_a_server_with_a_token_asks_for_it(start_server: StartServer, visit: Visit) -> None:
    server = start_server(token="open sesame")
    page = visit(server, tolerated="401|WebSocket connection")
    page.get_by_label("Token").fill("wrong")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_text("This is not the server's token.")).to_be_visible()
    page.get_by_label("Token").fill("open sesame")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_text("No runs yet")).to_be_visible()
    expect(page.locator(".connection")).to_have_text("live")
    page.reload()
    expect(page.get_by_text("No runs yet")).to_be_visible()


def test_stopping_from_the_table(running_server: RunningServer, visit: Visit) -> None:
    run_id = running_server.create(ENDLESS, name="endless")["id"]
    page = visit(running_server)
    line = page.locator(f'tr[data-run="{run_id}"]')
    expect(line.locator(".badge")).to_have_text("running")
    page.get_by_role("button", name="Stop endless").click()
    expect(line.locator(".badge")).to_have_text("stopped")
    wait_for(lambda: running_server.show(run_id)["state"] == "stopped")
