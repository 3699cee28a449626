"""A newcomer's first hour in two minutes: the real trainer, started, watched, stopped and resumed from the page.

The pictures that it takes on the way are the ones in the documentation.
"""

import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from support.browser import Visit, listen_to, look_at
from support.serving import RunningServer, StartServer

from server.runs.launchers.local import launch

pytestmark = [pytest.mark.browser, pytest.mark.alone, pytest.mark.timeout(600)]

IMAGES = Path(__file__).parents[2] / "docs" / "images"
EVERY = 25
STOP_AT = 75
HELD_OUT = 8
"""Rows of each source: a stop may break an evaluation off, which the resumed run makes up for before its next step."""
FIRST_STEP_S = 60
STEPS_S = 420
STOP_S = 10


def fill(page: Page, path: str, value: int) -> None:
    page.locator(f'[data-field="{path}"]').get_by_role("textbox").fill(str(value))


def picture(page: Page, name: str, *, whole: bool = False) -> None:
    """Write a picture of the page as it is, once nothing on it is being fetched."""
    page.wait_for_load_state("networkidle")
    page.mouse.move(0, 0)
    IMAGES.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=IMAGES / f"{name}.png", full_page=whole, animations="disabled")


def wait_step(page: Page, step: int, timeout_s: float) -> None:
    """Wait until the page shows that step or a later one."""
    page.wait_for_function(
        "step => Number(document.querySelector('.figure dd').innerText.split('/')[0].replace(/\\D/g, '')) >= step",
        arg=step,
        timeout=timeout_s * 1000,
    )


@pytest.mark.slow
def test_a_demo_run_from_the_form_to_its_second_attempt(start_server: StartServer, visit: Visit) -> None:
    server = start_server(launch=launch)
    page = visit(server, "/new")
    page.get_by_label("Name", exact=True).fill("First light")
    for interval in ("eval_steps", "sample_steps", "save_steps"):
        fill(page, f"training.{interval}", EVERY)
    expect(page.get_by_text("Ready to start")).to_be_visible()
    picture(page, "new-run")
    page.get_by_text("All other options").click()
    fill(page, "evaluation.max_per_dataset_eval", HELD_OUT)
    expect(page.get_by_text("Ready to start")).to_be_visible()
    page.get_by_role("button", name="Start run").click()
    badge = page.locator(".run-title .badge")
    expect(badge).to_have_text("running", timeout=FIRST_STEP_S * 1000)
    wait_step(page, 1, FIRST_STEP_S)
    wait_step(page, STOP_AT, STEPS_S)
    run_id = page.url.rsplit("/", 1)[1]
    see_every_modality(server, page, run_id)
    take_pictures(server, visit, page, run_id)

    page.get_by_role("button", name="Stop", exact=True).click()
    expect(badge).to_have_text("stopped", timeout=STOP_S * 1000)
    stopped = server.show(run_id)
    page.get_by_role("button", name="Resume", exact=True).click()
    wait_step(page, stopped["step"] + 2, FIRST_STEP_S)
    resumed = server.show(run_id)
    assert (resumed["attempt"], resumed["state"]) == (2, "running")
    series = server.api.get(f"/runs/{run_id}/series", params={"keys": "train/loss", "points": 10_000}).json()
    steps = series["series"]["train/loss"]["x"]
    assert steps == list(range(1, int(steps[-1]) + 1))


def see_every_modality(server: RunningServer, page: Page, run_id: str) -> None:
    """Each that is trained has curves and samples; pictures show, sounds play."""
    figures = server.api.get(f"/runs/{run_id}/metrics").json()["modalities"]
    for modality in (name for name, one in figures.items() if one["enabled"]):
        chart = page.locator(f'[data-modality="{modality}"] .plot')
        expect(chart).to_have_attribute("aria-label", re.compile(r"latest \d.*held-out \d"))
        expect(page.locator(f'[data-samples="{modality}"] figure').first).to_be_visible()
    look_at(page.locator(".artifact img"))
    for sound in page.locator(".artifact audio").all():
        assert listen_to(sound) > 0
    page.evaluate("scrollTo(0, 0)")


def take_pictures(server: RunningServer, visit: Visit, page: Page, run_id: str) -> None:
    """The run in both themes and on a phone, and the table it is in."""
    picture(page, "run-light")
    dark = visit(server, f"/runs/{run_id}", theme="dark")
    expect(dark.locator(".artifact img").first).to_be_visible()
    picture(dark, "run-dark")
    phone = visit(server, f"/runs/{run_id}", width=390)
    expect(phone.locator(".artifact").first).to_be_visible()
    assert phone.evaluate("document.documentElement.scrollWidth") <= 390
    picture(phone, "phone")
    table = visit(server, "/")
    expect(table.get_by_role("link", name="First light")).to_be_visible()
    picture(table, "runs")
