"""Creating, listing, changing, removing runs; what is refused, and how."""

import concurrent.futures
import json
from typing import Any

import pytest
from support.postgresql import ON_BOTH
from support.runs import make_run, wait_for
from support.scripted_run import ScriptedRun
from support.serving import RunningServer, StartServer

from xoron_core.contract.events import PhaseEvent
from xoron_core.contract.states import RunState


def refused(server: RunningServer, body: dict[str, Any]) -> dict[str, Any]:
    """The problem with which a request to create a run is turned away; nothing may be left of it."""
    response = server.api.post("/runs", json=body)
    assert response.headers["content-type"] == "application/problem+json"
    assert list(server.home.runs.iterdir()) == []
    problem: dict[str, Any] = response.json()
    assert problem["status"] == response.status_code
    return problem


@ON_BOTH
def test_a_created_run_trains_and_completes(running_server: RunningServer) -> None:
    run = running_server.create({"training": {"max_steps": 5}}, name="first", tags=["a", "b"])
    assert run["state"] in {"queued", "starting"}
    assert (run["name"], run["tags"], run["preset"], run["max_steps"]) == ("first", ["a", "b"], "demo", 5)
    done = running_server.wait_state(run["id"], "completed")
    assert done["step"] == 5
    assert done["tokens"] == 5 * 512
    assert done["actions"] == ["resume", "delete"]
    assert done["ended_at"] is not None
    assert done["started_at"] is not None


def test_unknown_preset_names_the_nearest(running_server: RunningServer) -> None:
    problem = refused(running_server, {"preset": "demmo"})
    assert problem["status"] == 422
    assert problem["errors"][0]["field"] == "preset"
    assert "'demo'" in problem["detail"]


def test_misspelt_field_names_the_nearest(running_server: RunningServer) -> None:
    problem = refused(running_server, {"preset": "demo", "config": {"training": {"learning_rat": 1.0}}})
    assert problem["status"] == 422
    assert problem["errors"][0]["field"] == "training.learning_rat"
    assert "learning_rate" in problem["errors"][0]["message"]


def test_misspelt_key_of_the_body_names_the_nearest(running_server: RunningServer) -> None:
    problem = refused(running_server, {"presett": "demo"})
    assert problem["status"] == 422
    assert problem["errors"][0]["field"] == "presett"
    assert "'preset'" in problem["errors"][0]["message"]


def test_wrong_type_is_refused(running_server: RunningServer) -> None:
    problem = refused(running_server, {"preset": "demo", "config": {"training": {"max_steps": "many"}}})
    assert problem["status"] == 422
    assert problem["errors"][0]["field"] == "training.max_steps"
    assert problem["errors"][0]["value"] == "many"


def test_negative_step_is_refused(running_server: RunningServer) -> None:
    problem = refused(running_server, {"preset": "demo", "config": {"training": {"max_steps": -1}}})
    assert problem["status"] == 422
    assert problem["errors"] == [
        {"field": "training.max_steps", "message": "input should be greater than or equal to 1", "value": -1}
    ]


def test_bad_combination_is_refused(running_server: RunningServer) -> None:
    problem = refused(running_server, {"preset": "demo", "config": {"training": {"bf16": True, "fp16": True}}})
    assert problem["status"] == 422
    assert "bf16 and fp16" in problem["detail"]


def test_every_fault_is_named_at_once(running_server: RunningServer) -> None:
    config = {"training": {"max_steps": 0, "batch_size": "x"}, "checkpoint": {"keep_last": 1}}
    problem = refused(running_server, {"preset": "demo", "config": config})
    fields = {error["field"] for error in problem["errors"]}
    assert fields == {"training.max_steps", "training.batch_size", "checkpoint.keep_last"}


def test_a_number_that_is_not_finite_is_refused(running_server: RunningServer) -> None:
    body = b'{"preset": "demo", "config": {"training": {"learning_rate": Infinity}}}'
    response = running_server.api.post("/runs", content=body, headers={"content-type": "application/json"})
    assert response.status_code == 422
    assert response.json()["errors"][0]["field"] == "training.learning_rate"


@pytest.mark.parametrize("name", ["  ", "two\nlines", "\0", "\ud800"])
def test_a_name_that_cannot_be_shown_is_refused(running_server: RunningServer, name: str) -> None:
    content = json.dumps({"preset": "demo", "name": name})
    response = running_server.api.post("/runs", content=content, headers={"Content-Type": "application/json"})
    assert response.status_code == 422
    assert [one["field"] for one in response.json()["errors"]] == ["name"]
    assert list(running_server.home.runs.iterdir()) == []


@ON_BOTH
def test_what_no_file_or_database_holds_is_refused(running_server: RunningServer) -> None:
    huge = 10**30
    for config, field in (({"training": {"max_steps": huge}}, "training.max_steps"), ({"x": "\ud800"}, "x")):
        content = json.dumps({"preset": "demo", "config": config})
        response = running_server.api.post("/runs", content=content, headers={"Content-Type": "application/json"})
        assert response.status_code == 422
        assert [one["field"] for one in response.json()["errors"]] == [field]
    with ScriptedRun(running_server.home) as run:
        running_server.wait_state(run.id, "running")
        assert running_server.api.patch(f"/runs/{run.id}", json={"priority": huge}).status_code == 422
        assert running_server.api.get(f"/runs/{run.id}/events", params={"after": huge}).status_code == 422
        assert running_server.show(run.id)["priority"] == 0


def test_the_phase_of_an_earlier_attempt_is_not_shown(running_server: RunningServer) -> None:
    with ScriptedRun(running_server.home) as run:
        running_server.wait_seq(run.id, run.say(PhaseEvent(phase="training")))
        assert running_server.show(run.id)["phase"]["phase"] == "training"
        run.say(PhaseEvent(phase="exited"))
        running_server.wait_seq(run.id, run.end(RunState.STOPPED))
        run.begin()
        assert running_server.wait_state(run.id, "running")["phase"] is None


def test_a_run_that_cannot_be_read_does_not_stop_the_others(start_server: StartServer) -> None:
    server = start_server(max_runs=2)
    with ScriptedRun(server.home) as known:
        server.wait_state(known.id, "running")
        strange = make_run(server.home.runs)
        for run in (known.directory, strange):
            run.write_record(run.record().model_copy(update={"priority": 10**30}))
        run_id = server.create({"training": {"max_steps": 2}})["id"]
        server.wait_state(run_id, "completed")
        assert server.root.get("/readyz").status_code == 200


def test_a_missing_corpus_is_refused_before_the_start(running_server: RunningServer) -> None:
    source = {"name": "mine", "category": "conversation", "path": "/nowhere/at/all"}
    pictures = {"name": "pictures", "category": "image_generation", "path": "demo:pictures"}
    problem = refused(running_server, {"preset": "demo", "config": {"data": {"sources": [source, pictures]}}})
    assert problem["status"] == 422
    assert problem["errors"][0]["field"].startswith("data.sources.0")
    assert "/nowhere/at/all" in problem["detail"]


def test_a_nearly_full_disk_is_refused(running_server: RunningServer) -> None:
    problem = refused(running_server, {"preset": "demo", "config": {"trouble": {"min_free_disk_gib": 1e9}}})
    assert problem["status"] == 507
    assert "GiB are free" in problem["detail"]
    assert "1e+09 GiB are required" in problem["detail"]


def test_a_body_that_is_not_json_is_refused(running_server: RunningServer) -> None:
    response = running_server.api.post("/runs", content=b"{", headers={"content-type": "application/json"})
    assert response.status_code == 422
    assert "not JSON" in response.json()["detail"]


def test_a_huge_body_is_refused(running_server: RunningServer) -> None:
    response = running_server.api.post("/runs", json={"name": "x" * 1_100_000})
    assert response.status_code == 413
    assert response.headers["content-type"] == "application/problem+json"


@ON_BOTH
def test_unknown_run_unknown_address_and_wrong_method_are_problems(running_server: RunningServer) -> None:
    api = running_server.api
    for response, status in ((api.get("/runs/nope"), 404), (api.get("/nope"), 404), (api.put("/runs"), 405)):
        assert response.status_code == status
        assert response.headers["content-type"] == "application/problem+json"
        assert response.json()["status"] == status
    assert "'nope'" in api.get("/runs/nope").json()["detail"]
    assert api.post("/runs/nope/stop").status_code == 404


@ON_BOTH
def test_the_same_key_gives_the_same_run(running_server: RunningServer) -> None:
    body = {"preset": "demo", "name": "once", "config": {"training": {"max_steps": 2}}}
    headers = {"Idempotency-Key": "k 1"}

    def post(_: int) -> Any:
        return running_server.api.post("/runs", json=body, headers=headers)

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        responses = list(pool.map(post, range(4)))
    assert sorted(response.status_code for response in responses) == [200, 200, 200, 201]
    assert len({response.json()["id"] for response in responses}) == 1
    assert len(list(running_server.home.runs.iterdir())) == 1
    other = running_server.api.post("/runs", json={**body, "name": "twice"}, headers=headers)
    assert other.status_code == 409
    assert responses[0].json()["id"] in other.json()["detail"]


@ON_BOTH
def test_a_key_is_not_taken_for_the_beginning_of_another(running_server: RunningServer) -> None:
    for name, key in (("first", "k#1"), ("second", "k")):
        response = running_server.api.post(
            "/runs", json={"preset": "demo", "name": name}, headers={"Idempotency-Key": key}
        )
        assert response.status_code == 201


@ON_BOTH
def test_lists_are_paged_and_filtered(start_server: StartServer) -> None:
    server = start_server(max_runs=1)
    runs = [server.create({"training": {"max_steps": None}}, tags=[f"t{i % 2}"])["id"] for i in range(5)]
    server.wait_state(runs[0], "running")
    seen: list[str] = []
    cursor = None
    while True:
        page = server.api.get("/runs", params={"limit": 2, **({"cursor": cursor} if cursor else {})}).json()
        assert len(page["items"]) <= 2
        seen += [item["id"] for item in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    created = {run["id"]: run["created_at"] for run in server.api.get("/runs").json()["items"]}
    assert seen == sorted(runs, key=lambda run: (created[run], run), reverse=True)
    queued = server.api.get("/runs", params={"state": "queued"}).json()["items"]
    assert {run["id"] for run in queued} == set(runs[1:])
    tagged = server.api.get("/runs", params={"tag": "t1"}).json()["items"]
    assert {run["id"] for run in tagged} == {runs[1], runs[3]}
    assert server.api.get("/runs", params={"cursor": "what"}).status_code == 422


@ON_BOTH
def test_a_run_is_renamed_and_tagged(running_server: RunningServer) -> None:
    with ScriptedRun(running_server.home) as run:
        wait_for(lambda: running_server.api.get(f"/runs/{run.id}").status_code == 200)
        changed = running_server.api.patch(f"/runs/{run.id}", json={"name": "better", "tags": ["x"]})
        assert changed.status_code == 200
        assert (changed.json()["name"], changed.json()["tags"]) == ("better", ["x"])
        assert run.directory.record().name == "better"
        again = running_server.api.patch(f"/runs/{run.id}", json={"priority": 3}).json()
        assert (again["name"], again["priority"]) == ("better", 3)
        assert running_server.api.patch(f"/runs/{run.id}", json={"name": ""}).status_code == 422


@ON_BOTH
def test_a_deleted_run_comes_back_whole(running_server: RunningServer) -> None:
    with ScriptedRun(running_server.home) as run:
        run.steps(range(1, 6))
        running_server.wait_seq(run.id, 6)
        refusal = running_server.api.delete(f"/runs/{run.id}")
        assert refusal.status_code == 409
        assert "running" in refusal.json()["detail"]
        run.end()
    before = running_server.wait_state(run.id, "completed")
    assert running_server.api.delete(f"/runs/{run.id}").status_code == 204
    assert running_server.api.get(f"/runs/{run.id}").status_code == 404
    assert running_server.api.get("/runs").json()["items"] == []
    assert (running_server.home.trash / run.id / "config.yaml").exists()
    restored = running_server.api.post(f"/runs/{run.id}/restore")
    assert restored.status_code == 200
    assert restored.json() == before
    series = running_server.api.get(f"/runs/{run.id}/series", params={"keys": "text/loss"}).json()
    assert series["series"]["text/loss"]["x"] == [1, 2, 3, 4, 5]
    assert running_server.api.post(f"/runs/{run.id}/restore").status_code == 409
    assert running_server.api.post("/runs/nope/restore").status_code == 404


@ON_BOTH
def test_a_run_made_by_somebody_else_appears_and_its_directory_decides(running_server: RunningServer) -> None:
    with ScriptedRun(running_server.home) as run:
        assert running_server.wait_seq(run.id, 1)["state"] == "running"
        run.release()
        row = running_server.wait_state(run.id, "interrupted", timeout_s=2)
        assert "resume" in row["actions"]
    (running_server.home.runs / "broken").mkdir()
    (running_server.home.runs / "broken" / "run.json").write_text("{")
    with ScriptedRun(running_server.home) as second:
        second.end(RunState.FAILED, "it broke")
        assert running_server.wait_seq(second.id, 2)["reason"] == "it broke"


@pytest.mark.parametrize("name", ["demo", None])
def test_validate_tells_without_creating(running_server: RunningServer, name: str | None) -> None:
    good = running_server.api.post("/validate", json={"preset": "demo", "name": name}).json()
    assert good["valid"]
    assert good["config"]["training"]["max_steps"] == 1500
    bad = running_server.api.post("/validate", json={"preset": "demo", "config": {"training": {"seed": -1}}}).json()
    assert not bad["valid"]
    assert bad["errors"][0]["field"] == "training.seed"
    assert list(running_server.home.runs.iterdir()) == []


def test_a_run_that_appears_on_disk_is_shown_at_once(running_server: RunningServer) -> None:
    run = make_run(running_server.home.runs)
    assert running_server.show(run.id)["name"] == "a test"
