"""Presets over REST: all are listed, and those without data are refused by name until somebody gives some."""

from pathlib import Path
from typing import Any

import pytest
from support.serving import RunningServer

from xoron_core.contract.presets import preset_names


def test_all_presets_are_listed(running_server: RunningServer) -> None:
    items = running_server.api.get("/presets").json()["items"]
    assert [item["name"] for item in items] == preset_names()
    with_data = [item["name"] for item in items if item["config"]["data"]["sources"]]
    assert with_data == ["demo"]
    widths = {item["name"]: item["config"]["model"]["language"]["hidden_size"] for item in items}
    assert widths == {"demo": 128, "small": 384, "base": 1024, "large": 2048}


@pytest.mark.parametrize("name", ["small", "base", "large"])
def test_a_preset_without_data_is_refused_by_name(running_server: RunningServer, name: str) -> None:
    for call in ("/runs", "/validate"):
        response = running_server.api.post(call, json={"preset": name})
        body: dict[str, Any] = response.json()
        [error] = body["errors"]
        assert error["field"] == "data.sources"
        assert "give data.sources a source, as in [{name: mine" in error["message"]
        assert response.status_code == (422 if call == "/runs" else 200)
    assert running_server.api.get("/runs").json()["items"] == []


def test_with_data_it_becomes_a_run(running_server: RunningServer, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"text": "a row"}\n')
    source = {"name": "mine", "category": "document", "path": str(rows), "eval_split": None}
    config = {"data": {"sources": [source]}, "training": {"max_steps": 2}}
    run = running_server.create(config, preset="small")
    running_server.wait_state(run["id"], "completed")
    kept = running_server.api.get(f"/runs/{run['id']}/config").json()
    assert kept["model"]["language"]["hidden_size"] == 384
    assert [each["name"] for each in kept["data"]["sources"]] == ["mine"]
