"""The form of a new run, in a browser."""

import json
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect
from support.browser import Visit
from support.serving import RunningServer

pytestmark = pytest.mark.browser


def field(page: Page, path: str) -> Locator:
    return page.locator(f'[data-field="{path}"]')


def modality(page: Page, label: str) -> Locator:
    """A row of the mix."""
    return page.get_by_role("group", name=label, exact=True)


def trained(server: RunningServer) -> list[str]:
    """The modalities that the `demo` preset's sources feed."""
    (demo,) = (preset for preset in server.api.get("/presets").json()["items"] if preset["name"] == "demo")
    categories = {source["category"] for source in demo["config"]["data"]["sources"]}
    infos = server.api.get("/schema").json()["modalities"]
    return [info["name"] for info in infos if categories & set(info["categories"])]


def test_a_wrong_value_is_told_at_its_field(running_server: RunningServer, visit: Visit) -> None:
    page = visit(running_server, "/new", tolerated="422")
    steps = field(page, "training.max_steps")
    steps.get_by_role("textbox").fill("-5")
    expect(steps.locator(".field-error")).to_contain_text("greater than or equal to 1")
    expect(page.get_by_text("1 problem to solve")).to_be_visible()
    page.get_by_role("button", name="Start run").click()
    expect(steps.get_by_role("textbox")).to_be_focused()
    assert page.url.endswith("/new")
    assert running_server.api.get("/runs").json()["items"] == []
    steps.get_by_role("textbox").fill("12")
    expect(steps.locator(".field-error")).to_have_count(0)
    expect(page.get_by_text("Ready to start")).to_be_visible()


def test_words_where_a_number_belongs_and_combinations(running_server: RunningServer, visit: Visit) -> None:
    page = visit(running_server, "/new")
    rate = field(page, "training.learning_rate")
    rate.get_by_role("textbox").fill("fast")
    expect(rate.locator(".field-error")).to_contain_text("number")
    rate.get_by_role("textbox").fill("3e-4")
    expect(rate.locator(".field-error")).to_have_count(0)
    for modality in trained(running_server):
        field(page, f"modalities.{modality}.weight").get_by_role("textbox").fill("0")
    expect(page.get_by_label("Summary").get_by_text("nothing is trained")).to_be_visible()


def test_a_good_form_makes_a_run_and_leads_to_it(running_server: RunningServer, visit: Visit) -> None:
    page = visit(running_server, "/new")
    page.get_by_label("Name", exact=True).fill("from the form")
    field(page, "training.max_steps").get_by_role("textbox").fill("12")
    field(page, "training.seed").get_by_role("textbox").fill("7")
    field(page, "modalities.text.weight").get_by_role("textbox").fill("3")
    num_others = len(trained(running_server)) - 1
    expect(modality(page, "Text")).to_contain_text(f"{round(100 * 3 / (3 + num_others))}\u202f%")
    expect(page.get_by_text("with 3 changes:")).to_be_visible()
    page.get_by_role("button", name="Start run").click()
    expect(page.get_by_role("heading", name="from the form")).to_be_visible()
    expect(page.locator(".run-title .badge")).to_have_text("completed", timeout=20_000)
    runs = running_server.api.get("/runs").json()["items"]
    assert [run["name"] for run in runs] == ["from the form"]
    assert page.url.endswith(f"/runs/{runs[0]['id']}")
    config = running_server.api.get(f"/runs/{runs[0]['id']}/config").json()
    assert config["training"]["max_steps"] == 12
    assert config["training"]["seed"] == 7
    assert config["modalities"]["text"]["weight"] == 3
    assert config["training"]["learning_rate"] == 2e-3


def test_a_weight_left_to_itself_follows_the_data(running_server: RunningServer, visit: Visit) -> None:
    page = visit(running_server, "/new")
    weight = field(page, "modalities.text.weight")
    box = weight.get_by_role("textbox")
    expect(box).to_have_value("")
    expect(box).to_have_attribute("placeholder", "auto")
    num_trained = len(trained(running_server))
    expect(modality(page, "Text")).to_contain_text(f"{round(100 / num_trained)}\u202f%")
    box.fill("0")
    expect(modality(page, "Text")).to_contain_text("off")
    expect(page.get_by_label("Summary").get_by_text("auto → 0")).to_be_visible()
    weight.get_by_role("button", name="preset: auto").click()
    expect(page.get_by_text("as it is.")).to_be_visible()
    expect(page.locator(".mix-part")).to_have_count(num_trained)


def test_an_option_goes_back_to_the_preset(running_server: RunningServer, visit: Visit) -> None:
    page = visit(running_server, "/new")
    steps = field(page, "training.max_steps")
    steps.get_by_role("textbox").fill("12")
    steps.get_by_role("button", name="preset: 1500").click()
    expect(steps.get_by_role("textbox")).to_have_value("1500")
    expect(page.get_by_text("as it is.")).to_be_visible()


def test_every_option_can_be_reached(running_server: RunningServer, visit: Visit) -> None:
    page = visit(running_server, "/new")
    page.get_by_text("All other options").click()
    experts = field(page, "model.language.moe.top_k")
    experts.get_by_role("textbox").fill("99")
    expect(page.get_by_text("problem to solve")).to_be_visible()


def test_a_preset_without_data_asks_for_some(running_server: RunningServer, visit: Visit, tmp_path: Path) -> None:
    page = visit(running_server, "/new", tolerated="422")
    page.get_by_label("Preset", exact=True).select_option("small")
    sources = field(page, "data.sources")
    expect(sources.locator(".field-error")).to_contain_text("give data.sources a source")
    expect(page.get_by_text("1 problem to solve")).to_be_visible()
    page.get_by_role("button", name="Start run").click()
    expect(sources.get_by_role("textbox")).to_be_focused()
    sources.get_by_role("textbox").fill('[{"name": "mine",')
    expect(sources.locator(".field-error")).to_contain_text("is not JSON")
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"text": "a row"}\n')
    source = {"name": "mine", "category": "document", "path": str(rows), "eval_split": None}
    sources.get_by_role("textbox").fill(json.dumps([source]))
    expect(sources.locator(".field-error")).to_have_count(0)
    expect(page.get_by_text("Ready to start")).to_be_visible()
    expect(page.get_by_label("Summary").get_by_text("none → mine")).to_be_visible()
    expect(modality(page, "Text")).to_contain_text("100")
    field(page, "training.max_steps").get_by_role("textbox").fill("3")
    page.get_by_role("button", name="Start run").click()
    expect(page.locator(".run-title .badge")).to_have_text("completed", timeout=20_000)
    [run] = running_server.api.get("/runs").json()["items"]
    assert (run["preset"], run["max_steps"]) == ("small", 3)


def test_sources_of_the_demo_are_there_to_be_changed(running_server: RunningServer, visit: Visit) -> None:
    page = visit(running_server, "/new")
    sources = field(page, "data.sources")
    box = sources.get_by_role("textbox")
    listed = json.loads(box.input_value())
    assert {source["name"] for source in listed} >= {"conversation", "pictures", "spoken"}
    box.fill(json.dumps([source for source in listed if source["category"] == "voice_asr"]))
    expect(modality(page, "Speech recognition")).to_contain_text("100")
    expect(modality(page, "Text")).to_contain_text("off: no data")
    sources.get_by_role("button", name="preset").click()
    expect(page.get_by_text("as it is.")).to_be_visible()
    assert json.loads(box.input_value()) == listed
