"""Stop, pause, resume, cancel, checkpoint, sample; the queue."""

from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest
from support.clerk import PaperGpus
from support.postgresql import ON_BOTH
from support.runs import wait_for
from support.scripted_run import ScriptedRun
from support.serving import RunningServer, StartServer, scripted_launch

from xoron_core.contract.events import StateEvent
from xoron_core.contract.states import RunState

ENDLESS = {"training": {"max_steps": None, "save_steps": 5}}


def post(server: RunningServer, run_id: str, verb: str, **body: object) -> tuple[int, dict[str, object]]:
    response = server.api.post(f"/runs/{run_id}/{verb}", json=body)
    return response.status_code, response.json()


def num_commands(server: RunningServer, run_id: str) -> int:
    return len(list(server.home.run(run_id).commands.after(0)))


@ON_BOTH
def test_stop_checkpoints_and_resume_goes_on_from_there(running_server: RunningServer) -> None:
    run_id = running_server.create(ENDLESS)["id"]
    wait_for(lambda: running_server.show(run_id)["step"] >= 7)
    status, row = post(running_server, run_id, "stop")
    assert (status, row["state"]) == (202, "stopping")
    stopped = running_server.wait_state(run_id, "stopped")
    assert stopped["reason"]
    checkpoints = running_server.api.get(f"/runs/{run_id}/checkpoints").json()["items"]
    assert [one["step"] for one in checkpoints][-1] == stopped["step"]
    assert checkpoints[-1]["bytes"] > 1000
    status, row = post(running_server, run_id, "resume")
    assert (status, row["state"], row["attempt"]) == (202, "queued", 2)
    resumed = wait_for(
        lambda: (now := running_server.show(run_id))["state"] == "running" and now["step"] > stopped["step"] and now
    )
    assert resumed["attempt"] == 2
    attempt = running_server.home.run(run_id).attempt(2)
    assert attempt.checkpoint == checkpoints[-1]["path"]
    series = running_server.api.get(f"/runs/{run_id}/series", params={"keys": "text/loss"}).json()
    steps = series["series"]["text/loss"]["x"]
    assert steps == list(range(1, int(steps[-1]) + 1))


def test_stopping_twice_is_fine(running_server: RunningServer) -> None:
    run_id = running_server.create(ENDLESS)["id"]
    running_server.wait_state(run_id, "running")
    assert post(running_server, run_id, "stop")[0] == 202
    assert post(running_server, run_id, "stop")[0] == 202
    running_server.wait_state(run_id, "stopped")
    assert post(running_server, run_id, "stop")[0] == 202
    assert num_commands(running_server, run_id) == 1


def test_stop_without_saving_leaves_no_checkpoint(running_server: RunningServer) -> None:
    run_id = running_server.create({"training": {"max_steps": None, "save_steps": None}})["id"]
    running_server.wait_state(run_id, "running")
    post(running_server, run_id, "stop", save=False)
    running_server.wait_state(run_id, "stopped")
    assert running_server.api.get(f"/runs/{run_id}/checkpoints").json()["items"] == []
    assert post(running_server, run_id, "resume")[0] == 202
    running_server.wait_state(run_id, "running")
    assert running_server.home.run(run_id).attempt(2).checkpoint is None


@ON_BOTH
def test_pause_gives_the_place_free_and_resume_takes_it_again(running_server: RunningServer) -> None:
    run_id = running_server.create(ENDLESS)["id"]
    running_server.wait_state(run_id, "running")
    status, row = post(running_server, run_id, "pause")
    assert (status, row["state"]) == (202, "pausing")
    paused = running_server.wait_state(run_id, "paused")
    assert paused["actions"] == ["resume", "stop", "cancel"]
    assert post(running_server, run_id, "resume")[0] == 202
    assert post(running_server, run_id, "resume")[0] == 202
    assert running_server.wait_state(run_id, "running")["attempt"] == 2


def test_a_paused_run_is_stopped_without_a_process(running_server: RunningServer) -> None:
    with ScriptedRun(running_server.home) as run:
        run.end(RunState.PAUSED)
        running_server.wait_state(run.id, "paused")
        status, row = post(running_server, run.id, "stop")
        assert (status, row["state"]) == (202, "stopped")
        assert num_commands(running_server, run.id) == 0


def test_cancel_of_a_waiting_run_never_starts_it(running_server: RunningServer) -> None:
    first = running_server.create(ENDLESS)["id"]
    running_server.wait_state(first, "running")
    second = running_server.create(ENDLESS)["id"]
    status, row = post(running_server, second, "cancel")
    assert (status, row["state"]) == (202, "cancelled")
    status, row = post(running_server, first, "cancel")
    assert (status, row["state"]) == (202, "stopping")
    running_server.wait_state(first, "cancelled")
    assert not running_server.home.run(second).attempt_file(1).exists()
    status, problem = post(running_server, first, "resume")
    assert status == 409
    assert "cancelled" in str(problem["detail"])
    assert "queued" in str(problem["detail"])


@pytest.mark.parametrize(
    ("state", "verb"),
    [
        ("completed", "stop"),
        ("completed", "pause"),
        ("failed", "cancel"),
        ("stopped", "checkpoint"),
        ("failed", "sample"),
    ],
)
def test_illegal_transitions_name_both_states(running_server: RunningServer, state: str, verb: str) -> None:
    with ScriptedRun(running_server.home) as run:
        run.end(RunState(state))
        running_server.wait_state(run.id, state)
        status, problem = post(running_server, run.id, verb)
        assert status == 409
        wanted = {"stop": "stopping", "pause": "pausing", "cancel": "stopping"}.get(verb, "running")
        assert state in str(problem["detail"])
        assert wanted in str(problem["detail"])
        assert num_commands(running_server, run.id) == 0


def test_a_running_run_cannot_be_resumed(running_server: RunningServer) -> None:
    with ScriptedRun(running_server.home) as run:
        running_server.wait_state(run.id, "running")
        assert post(running_server, run.id, "resume")[0] == 409


def test_another_attempt_than_expected_is_left_alone(running_server: RunningServer) -> None:
    with ScriptedRun(running_server.home) as run:
        running_server.wait_state(run.id, "running")
        status, problem = post(running_server, run.id, "stop", expected_attempt=2)
        assert status == 409
        assert "attempt 1" in str(problem["detail"])
        assert num_commands(running_server, run.id) == 0
        assert post(running_server, run.id, "stop", expected_attempt=1)[0] == 202


def test_checkpoints_and_samples_are_made_when_asked(running_server: RunningServer) -> None:
    run_id = running_server.create({"training": {"max_steps": None, "save_steps": None}})["id"]
    running_server.wait_state(run_id, "running")
    assert post(running_server, run_id, "checkpoint")[0] == 202
    wait_for(lambda: running_server.api.get(f"/runs/{run_id}/checkpoints").json()["items"])
    assert post(running_server, run_id, "sample")[0] == 202
    sample = wait_for(lambda: running_server.api.get(f"/runs/{run_id}/samples").json()["items"])[0]
    assert sample["modality"] == "text"
    file = running_server.api.get(f"/runs/{run_id}/{sample['path']}")
    assert file.text == f"what the model says at step {sample['step']}"
    assert file.headers["content-type"] == "text/plain; charset=utf-8"
    part = running_server.api.get(f"/runs/{run_id}/{sample['path']}", headers={"Range": "bytes=0-3"})
    assert (part.status_code, part.text) == (206, "what")


def test_resume_from_a_checkpoint_that_is_not_there_is_refused(running_server: RunningServer) -> None:
    with ScriptedRun(running_server.home) as run:
        run.directory.checkpoint_dir(7).mkdir()
        (run.directory.checkpoint_dir(7) / "manifest.json").write_text("{}")
        run.directory.checkpoint_dir(9).mkdir()
        run.end(RunState.STOPPED)
        running_server.wait_state(run.id, "stopped")
        status, problem = post(running_server, run.id, "resume", checkpoint="checkpoints/step-00000009")
        assert status == 422
        assert "checkpoints/step-00000007" in str(problem["detail"])
        assert post(running_server, run.id, "resume", checkpoint="../../etc")[0] == 422
        assert post(running_server, run.id, "resume", checkpoint="checkpoints/step-00000007")[0] == 202
        wait_for(lambda: run.directory.attempt_file(2).exists())
        assert run.directory.attempt(2).checkpoint == "checkpoints/step-00000007"


@ON_BOTH
def test_the_queue_goes_by_priority_then_age(start_server: StartServer) -> None:
    server = start_server(max_runs=1, launch=scripted_launch(0.01))
    first = server.create(ENDLESS)["id"]
    server.wait_state(first, "running")
    runs = [server.create({"training": {"max_steps": 3}})["id"] for _ in range(3)]
    server.api.patch(f"/runs/{runs[2]}", json={"priority": 5})
    assert server.api.get("/system").json()["live_runs"] == 1
    post(server, first, "stop")
    for run_id in runs:
        server.wait_state(run_id, "completed")
    began = [server.home.run(run_id).attempt(1).created_at for run_id in runs]
    assert began[2] < began[0] < began[1]


def test_a_launch_that_fails_is_tried_again_and_told(start_server: StartServer) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("no more processes")

    server = start_server(launch=fail)
    run_id = server.create({"trouble": {"restart_delay_s": 0.0, "max_interruptions": 1}})["id"]
    row = wait_for(lambda: "tried 1 times already" in str((now := server.show(run_id))["reason"]) and now)
    assert (row["state"], row["attempt"]) == ("interrupted", 2)
    assert "no more processes" in row["reason"]
    assert "resume" in row["actions"]


@pytest.mark.parametrize(("verb", "state"), [("stop", "stopped"), ("pause", "paused"), ("cancel", "cancelled")])
def test_a_waiting_run_is_taken_out_at_once_however_often_it_is_asked(
    running_server: RunningServer, verb: str, state: str
) -> None:
    first = running_server.create(ENDLESS)["id"]
    running_server.wait_state(first, "running")
    second = running_server.create(ENDLESS)["id"]
    assert {"stop", "pause", "cancel"} == set(running_server.show(second)["actions"])
    for _ in range(10):
        status, row = post(running_server, second, verb)
        assert (status, row["state"]) == (202, state)
    assert num_commands(running_server, second) == 0
    assert running_server.api.get("/queue").json()["items"] == []
    if state != "cancelled":
        assert post(running_server, second, "resume")[1]["state"] == "queued"
        assert post(running_server, second, "resume")[1]["attempt"] == 1
        post(running_server, first, "stop")
        running_server.wait_state(second, "running")
        assert running_server.home.run(second).attempt(1).cause == "started"


def test_stop_pressed_ten_times_is_one_stop(running_server: RunningServer) -> None:
    run_id = running_server.create(ENDLESS)["id"]
    running_server.wait_state(run_id, "running")
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda _: post(running_server, run_id, "stop"), range(10)))
    assert {status for status, _ in answers} == {202}
    assert {str(row["state"]) for _, row in answers} <= {"stopping", "stopped"}
    running_server.wait_state(run_id, "stopped")
    assert num_commands(running_server, run_id) == 1


def test_a_run_that_is_starting_can_be_paused(start_server: StartServer) -> None:
    server = start_server()
    run_id = server.create(ENDLESS)["id"]
    server.wait_state(run_id, "starting", "running")
    assert post(server, run_id, "pause")[0] == 202
    assert server.wait_state(run_id, "paused")["actions"] == ["resume", "stop", "cancel"]


@pytest.mark.parametrize(("verb", "state"), [("stop", "stopped"), ("cancel", "cancelled")])
def test_a_run_that_is_pausing_can_be_ended(running_server: RunningServer, verb: str, state: str) -> None:
    with ScriptedRun(running_server.home) as run:
        running_server.wait_state(run.id, "running")
        post(running_server, run.id, "pause")
        run.say(StateEvent(state=RunState.PAUSING))
        assert running_server.wait_state(run.id, "pausing")["actions"] == ["stop", "cancel"]
        for _ in range(3):
            answer, row = post(running_server, run.id, verb)
            assert (answer, row["state"]) == (202, "stopping")
        assert num_commands(running_server, run.id) == 2
        run.say(StateEvent(state=RunState.STOPPING))
        run.end(RunState(state))
        assert running_server.wait_state(run.id, state)["attempt"] == 1


def test_the_queue_is_shown_and_reordered(running_server: RunningServer) -> None:
    api = running_server.api
    first = running_server.create(ENDLESS, name="first")["id"]
    running_server.wait_state(first, "running")
    a, b, c = (running_server.create(ENDLESS, name=name)["id"] for name in "abc")
    urgent = running_server.create(ENDLESS, priority=1)["id"]
    queue = running_server.queue()
    assert [run["id"] for run in queue["items"]] == [urgent, a, b, c]
    assert [run["waiting"]["position"] for run in queue["items"]] == [1, 2, 3, 4]
    taken = f"1 of 1 slot is taken by {first} (first)"
    wait_for(lambda: running_server.queue()["items"][0]["waiting"]["reason"] == taken)
    assert (queue["live"], queue["max_runs"], queue["gpus"]) == ([first], 1, [])
    assert [run["id"] for run in api.put("/queue", json={"runs": [c, a]}).json()["items"]] == [urgent, c, b, a]
    for runs, status in (([a, a], 422), ([a, "nope"], 422), ([a, first], 409), ([], 422)):
        refusal = api.put("/queue", json={"runs": runs})
        assert refusal.status_code == status
        assert refusal.headers["content-type"] == "application/problem+json"
    assert [run["id"] for run in api.get("/queue").json()["items"]] == [urgent, c, b, a]
    wait_for(lambda: running_server.show(c)["waiting"]["position"] == 2)


def test_the_server_shows_its_gpus_and_refuses_what_it_lacks(start_server: StartServer) -> None:
    uuid = f"GPU-{uuid4()}"
    server = start_server(inventory=PaperGpus(uuid), max_runs=2)
    run_id = server.create({**ENDLESS, "resources": {"device": "cuda"}})["id"]
    server.wait_state(run_id, "running")
    waits = server.create({**ENDLESS, "resources": {"device": "cuda"}})["id"]
    row = wait_for(lambda: (now := server.show(waits))["waiting"] and now)
    assert row["waiting"] == {"position": 1, "reason": f"waits for 1 GPU; 0 of 1 are free (others: {run_id})"}
    for path in ("/system", "/queue"):
        (gpu,) = server.api.get(path).json()["gpus"]
        assert (gpu["uuid"], gpu["run"], gpu["is_leased"]) == (uuid, run_id, True)
    refusal = server.api.post("/runs", json={"preset": "demo", "config": {"resources": {"gpus": 2}}})
    assert refusal.status_code == 422
    assert refusal.json()["errors"][0]["field"] == "resources.gpus"
    post(server, run_id, "stop")
    server.wait_state(run_id, "stopped")
    server.wait_state(waits, "running")
    (gpu,) = server.api.get("/system").json()["gpus"]
    assert gpu["run"] == waits


def test_resume_may_change_the_configuration(running_server: RunningServer) -> None:
    run_id = running_server.create({"training": {"max_steps": 3}})["id"]
    running_server.wait_state(run_id, "completed")
    refused = running_server.api.post(f"/runs/{run_id}/resume", json={"config": {"training": {"max_stepz": 6}}})
    assert refused.status_code == 422
    assert "max_steps" in refused.json()["errors"][0]["message"]
    accepted = running_server.api.post(f"/runs/{run_id}/resume", json={"config": {"training": {"max_steps": 6}}})
    assert accepted.status_code == 202
    row = running_server.wait_state(run_id, "completed")
    assert (row["attempt"], row["max_steps"], row["step"]) == (2, 6, 6)
