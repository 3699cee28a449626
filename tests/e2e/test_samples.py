"""What a run made, seen and heard in a browser."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Locator, Page, expect
from support.browser import Visit, listen_to, look_at
from support.scripted_run import ScriptedRun
from support.serving import RunningServer

pytestmark = pytest.mark.browser

NUM_FIGURES = {
    "text": 2,
    "image_understanding": 3,
    "image_generation": 4,
    "video_understanding": 2,
    "video_generation": 4,
    "asr": 2,
    "tts": 3,
}
NUM_CLIPS = 6


@pytest.fixture
def run(running_server: RunningServer) -> Iterator[ScriptedRun]:
    """A run with samples of all seven modalities."""
    with ScriptedRun(running_server.home) as run:
        running_server.wait_seq(run.id, run.samples(250))
        yield run


def wall(page: Page, modality: str) -> Locator:
    return page.locator(f'[data-samples="{modality}"]')


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("tab", ["", "/samples"])
def test_every_modality_is_seen(
    running_server: RunningServer, visit: Visit, run: ScriptedRun, tab: str, theme: str
) -> None:
    page = visit(running_server, f"/runs/{run.id}{tab}", theme=theme)
    for modality, number in NUM_FIGURES.items():
        expect(wall(page, modality).locator("figure")).to_have_count(number)
    look_at(page.locator(".artifact img"))


def test_an_answer_stands_beside_the_truth(running_server: RunningServer, visit: Visit, run: ScriptedRun) -> None:
    page = visit(running_server, f"/runs/{run.id}/samples")
    figures = wall(page, "asr").locator("figure")
    heard = figures.filter(has_text="canoe")
    lines = heard.locator(".compared > div")
    expect(lines).to_have_text(
        ["Modelthe birch canoe slid on smooth blanks", "Expectedthe birch canoe slid on smooth planks"]
    )
    assert heard.locator(".differs").all_inner_texts() == ["blanks", "planks"]
    expect(heard.get_by_text("What is said?")).to_be_visible()
    said, true = (line.locator("dd").bounding_box() for line in lines.all())
    assert said is not None
    assert true is not None
    assert said["x"] == true["x"], "word above word"
    assert 0 < true["y"] - said["y"] < 60
    seen = wall(page, "image_understanding").locator("figure").first
    expect(seen.locator(".compared")).to_contain_text("as expected")
    endless = wall(page, "image_understanding").locator("figure").last
    expect(endless.locator("dd").first).to_contain_text("current current")
    box = endless.bounding_box()
    assert box is not None
    assert box["height"] < 250, "the truth is not pushed out of sight"


def test_sounds_play_by_keyboard(running_server: RunningServer, visit: Visit, run: ScriptedRun) -> None:
    page = visit(running_server, f"/runs/{run.id}/samples")
    for modality, duration_s in (("asr", 2.0), ("tts", 1.5)):
        sound = wall(page, modality).locator("audio").first
        assert listen_to(sound) == pytest.approx(duration_s)
        sound.evaluate("sound => { sound.currentTime = 1.25; }")
        page.wait_for_function("sound => !sound.seeking", arg=sound.element_handle())
        assert sound.evaluate("sound => sound.currentTime") == pytest.approx(1.25)


def test_small_pictures_are_enlarged_with_sharp_edges(
    running_server: RunningServer, visit: Visit, run: ScriptedRun
) -> None:
    page = visit(running_server, f"/runs/{run.id}/samples")
    picture = wall(page, "image_generation").locator("img").first
    look_at(picture)
    assert picture.evaluate("image => [image.naturalWidth, image.clientWidth, image.clientHeight]") == [64, 192, 192]
    expect(picture).to_have_css("image-rendering", "pixelated")


def test_clips_move_until_they_are_told_to_stand_still(
    running_server: RunningServer, visit: Visit, run: ScriptedRun
) -> None:
    page = visit(running_server, f"/runs/{run.id}/samples")
    look_at(page.locator(".artifact img"))
    pause = page.get_by_role("button", name="Pause clips")
    expect(pause).to_have_count(NUM_CLIPS)
    shown = wall(page, "video_generation").locator(".seen").first
    shown.scroll_into_view_if_needed()
    shots = {shown.screenshot(mask=[shown.get_by_role("button")]) for _ in range(12)}
    assert len(shots) > 2
    pause.first.click()
    expect(page.get_by_role("button", name="Play clips")).to_have_count(NUM_CLIPS)
    expect(shown.locator("canvas")).to_be_visible()
    page.mouse.move(0, 0)
    shots = {shown.screenshot(mask=[shown.get_by_role("button")]) for _ in range(12)}
    assert len(shots) == 1


def test_clips_stand_still_at_first_where_motion_is_unwelcome(
    running_server: RunningServer, visit: Visit, run: ScriptedRun
) -> None:
    page = visit(running_server, f"/runs/{run.id}/samples", motion="reduce")
    look_at(page.locator(".artifact img"))
    expect(page.locator(".seen canvas")).to_have_count(NUM_CLIPS)
    page.get_by_role("button", name="Play clips").first.click()
    expect(page.locator(".seen canvas")).to_have_count(0)
    expect(wall(page, "video_generation").locator("img").first).to_be_visible()


@pytest.mark.parametrize("width", [1280, 390])
def test_a_first_frame_stands_beside_its_clip(
    running_server: RunningServer, visit: Visit, run: ScriptedRun, width: int
) -> None:
    page = visit(running_server, f"/runs/{run.id}/samples", width=width)
    figure = wall(page, "video_generation").locator("figure").last
    look_at(figure.locator("img"))
    frame, clip = (one.bounding_box() for one in figure.locator(".seen").all())
    assert frame is not None
    assert clip is not None
    assert frame["y"] == clip["y"]
    assert frame["x"] + frame["width"] <= clip["x"]
    assert frame["width"] == frame["height"] == clip["width"] == clip["height"]


def test_on_a_phone_a_picture_stands_beside_its_answer(
    running_server: RunningServer, visit: Visit, run: ScriptedRun
) -> None:
    page = visit(running_server, f"/runs/{run.id}/samples", width=390)
    figure = wall(page, "video_understanding").locator("figure").first
    look_at(page.locator(".artifact img"))
    seen, words = (figure.locator(part).bounding_box() for part in (".seen", ".compared"))
    assert seen is not None
    assert words is not None
    assert seen["x"] + seen["width"] <= words["x"]
    assert words["x"] + words["width"] <= 390
    assert words["width"] > 150
