"""Stop, pause, resume, cancel, checkpoint, sample; the queue."""

import pytest
from support.runs import wait_for
from support.scripted_run import ScriptedRun
from support.serving import RunningServer, StartServer, scripted_launch

from xoron_core.contract.states import RunState

ENDLESS = {"training": {"max_steps": None, "save_steps": 5}}


def post(server: RunningServer, run_id: str, verb: str, **body: object) -> tuple[int, dict[str, object]]:
    response = server.api.post(f"/runs/{run_id}/{verb}", json=body)
    return response.status_code, response.json()


def num_commands(server: RunningServer, run_id: str) -> int:
    return len(list(server.home.run(run_id).commands.after(0)))


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


def test_a_launch_that_fails_is_told(start_server: StartServer) -> None:
    def fail(*_: object) -> None:
        raise OSError("no more processes")

    server = start_server(launch=fail)
    run_id = server.create()["id"]
    row = server.wait_state(run_id, "interrupted")
    assert "resume" in row["actions"]


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
