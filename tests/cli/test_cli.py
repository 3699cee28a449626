"""`xoron` as a user types it, in a process of its own."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.runs import states, wait_for
from support.serving import RunningServer, end_keepers, server_process

from xoron_core.contract.home import Home
from xoron_core.contract.process import ProcessIdentity

XORON = [sys.executable, "-m", "xoron_core.cli"]
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("XORON_")} | {"COLUMNS": "200"}
SUPPORT = Path(__file__).parents[1] / "support"
SCRIPTED = SUPPORT / "scripted_trainer.py"
SMALL = SUPPORT / "small_trainer.py"


def xoron(*words: str, status: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
    told = subprocess.run(
        [*XORON, *words], capture_output=True, text=True, env=ENVIRONMENT | environment, timeout=60, check=False
    )
    assert told.returncode == status, f"{told.returncode}: {told.stdout}\n{told.stderr}"
    return told


def train_words(home: Path, *words: str, pause_s: float = 0.01) -> list[str]:
    trainer = json.dumps([sys.executable, str(SCRIPTED), str(pause_s)])
    return ["train", "--home", str(home), "--trainer-command", trainer, *words]


class TestStart:
    def test_help_is_quick_and_light(self) -> None:
        code = (
            "import sys\ntry:\n    from xoron_core.cli import main; sys.argv = ['xoron', '--help']; main()\n"
            "except SystemExit:\n    print(sorted({'torch', 'httpx', 'fastapi', 'pydantic'} & set(sys.modules)))"
        )
        seconds = []
        for _ in range(3):
            before = os.times()
            told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
            after = os.times()
            spent = after.children_user + after.children_system - before.children_user - before.children_system
            seconds.append(spent)
        assert told.stdout.splitlines()[-1] == "[]"
        assert min(seconds) < 0.5  # of CPU time: the clock would measure the machine's other work, too
        for command in ("serve", "train", "runs", "doctor"):
            assert command in told.stdout

    def test_an_unknown_command_is_a_usage_error(self) -> None:
        assert "No such command" in xoron("dance", status=2).stderr


class TestDoctor:
    def test_it_tells_what_is_there(self, tmp_path: Path) -> None:
        told = json.loads(xoron("doctor", "--json", "--home", str(tmp_path / "home")).stdout)
        checks = {check["name"]: check for check in told["checks"]}
        assert told["ok"] is True
        assert checks["python"]["value"] == sys.version.split()[0]
        assert checks["torch"]["ok"] is True
        assert "GiB free" in checks["disk"]["value"]
        assert set(checks) >= {"home", "server", "port", "machine", "gpu"}
        assert "torch" in xoron("doctor", "--home", str(tmp_path / "home")).stdout

    def test_a_home_that_cannot_be_written_is_status_1(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        told = json.loads(xoron("doctor", "--json", "--home", str(tmp_path / "file" / "x"), status=1).stdout)
        assert [check["name"] for check in told["checks"] if check["ok"] is False] == ["home"]

    def test_a_served_home_is_named(self, running_server: RunningServer) -> None:
        told = xoron("doctor", "--home", str(running_server.home.path), "--port", str(running_server.port)).stdout
        assert f"served already, by process {os.getpid()}" in told
        assert f":{running_server.port}: Address already in use" in told


class TestTrain:
    def test_a_run_to_its_end_as_events(self, tmp_path: Path) -> None:
        config = tmp_path / "config.yaml"
        config.write_text("training:\n  max_steps: 400\n  learning_rate: 1e-3\n")
        words = train_words(tmp_path / "home", str(config), "training.max_steps=6", "--preset", "demo", "--json")
        lines = [json.loads(line) for line in xoron(*words).stdout.splitlines()]
        *records, last = lines
        assert [record["seq"] for record in records] == list(range(1, len(records) + 1))
        assert max(record["step"] for record in records if record["kind"] == "metrics") == 6
        assert last["exit"]["state"] == "completed"
        run = Home(tmp_path / "home").run(last["run"])
        assert str(run.path) == last["path"]
        assert run.config().training.learning_rate == 1e-3
        assert run.record().preset == "demo"
        assert run.attempt(1).reason == "started"
        assert not (tmp_path / "home" / "creating").exists()

    def test_a_run_to_its_end_for_people(self, tmp_path: Path) -> None:
        told = xoron(*train_words(tmp_path, "--preset", "demo", "training.max_steps=3")).stdout
        assert "running" in told
        assert "completed" in told
        assert re.search(r"step \d: .*text/loss", told)
        assert str(tmp_path) in told

    def test_ctrl_c_stops_with_a_checkpoint(self, tmp_path: Path) -> None:
        words = [*XORON, *train_words(tmp_path, "--preset", "demo", "--json")]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if json.loads(line)["kind"] == "metrics":
                    break
            process.send_signal(signal.SIGINT)
            last = json.loads(process.stdout.readlines()[-1])
            assert process.wait() == 0
        assert last["exit"]["state"] == "stopped"
        assert list((Path(last["path"]) / "checkpoints").iterdir())
        assert list((Path(last["path"]) / "commands").iterdir())

    def test_ctrl_c_while_the_keeper_is_being_started_stops_the_run(self, tmp_path: Path) -> None:
        code = (
            "import os, signal\nfrom server.runs.launchers import local\nfrom xoron_core.cli import main\n"
            "launch = local.launch\n"
            "def interrupted(*words, **named):\n"
            "    keeper = launch(*words, **named); os.kill(os.getpid(), signal.SIGINT); return keeper\n"
            "local.launch = interrupted\nmain()\n"
        )
        words = [sys.executable, "-c", code, *train_words(tmp_path, "--preset", "demo", "--json")]
        told = subprocess.run(words, capture_output=True, text=True, env=ENVIRONMENT, timeout=60, check=False)
        assert told.returncode == 0, told.stderr
        assert json.loads(told.stdout.splitlines()[-1])["exit"]["state"] == "stopped"

    def test_a_second_ctrl_c_is_sigterm(self, tmp_path: Path) -> None:
        trainer = json.dumps([sys.executable, str(SMALL), "deaf_to_commands"])
        words = [*XORON, "train", "--preset", "demo", "--home", str(tmp_path), "--trainer-command", trainer, "--json"]
        with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT) as one:
            assert one.stdout is not None
            assert one.stderr is not None
            assert json.loads(one.stdout.readline())["state"] == "starting"
            [run] = Home(tmp_path).run_directories()
            wait_for(lambda: (record := run.keeper()) and record.trainer)
            one.send_signal(signal.SIGINT)
            assert "Ctrl-C again" in one.stderr.readline()
            one.send_signal(signal.SIGINT)
            last = json.loads(one.stdout.readlines()[-1])
            assert one.wait() == 0
        assert (last["exit"]["state"], last["exit"]["signal"]) == ("stopped", signal.SIGTERM)

    def test_a_run_that_crashes_goes_on_and_says_so(self, tmp_path: Path) -> None:
        trainer = json.dumps([sys.executable, str(SMALL), "crash_twice"])
        words = ["--home", str(tmp_path), "--trainer-command", trainer, "trouble.restart_delay_s=0"]
        told = xoron("train", "--preset", "demo", *words).stdout
        assert "trouble: RuntimeError: the loss went to the moon at step 5; restart 1 of 3" in told
        assert told.count("the loss went to the moon at step 5") == 1
        assert "attempt 3: completed" in told

    def test_ctrl_c_ends_a_later_attempt(self, tmp_path: Path) -> None:
        trainer = json.dumps([sys.executable, str(SMALL), "crash_once"])
        words = ["--home", str(tmp_path), "--trainer-command", trainer, "trouble.restart_delay_s=0", "--json"]
        command = [*XORON, "train", "--preset", "demo", *words]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT) as process:
            assert process.stdout is not None
            for line in process.stdout:
                record = json.loads(line)
                if (record["attempt"], record.get("state")) == (2, "running"):
                    break
            process.send_signal(signal.SIGINT)
            last = json.loads(process.stdout.readlines()[-1])
            assert process.wait() == 0
        assert (last["exit"]["attempt"], last["exit"]["state"]) == (2, "stopped")

    def test_a_run_outlives_a_killed_command(self, tmp_path: Path) -> None:
        words = [*XORON, *train_words(tmp_path, "--preset", "demo", "--json")]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT) as process:
            assert process.stdout is not None
            while json.loads(process.stdout.readline())["kind"] != "metrics":
                pass
            process.kill()
        [run] = Home(tmp_path).run_directories()
        keeper = run.keeper()
        assert keeper is not None
        assert keeper.keeper.is_alive()
        os.kill(keeper.keeper.pid, signal.SIGTERM)
        wait_for(lambda: run.exits().attempts)
        assert states(run)[-1] == "stopped"

    def test_when_nobody_reads_the_run_ends(self, tmp_path: Path) -> None:
        words = [*XORON, *train_words(tmp_path, "--preset", "demo", "--json")]
        with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=ENVIRONMENT) as process:
            assert process.stdout is not None
            process.stdout.readline()
            process.stdout.close()
            assert process.wait(timeout=30) != 0
        [run] = Home(tmp_path).run_directories()
        wait_for(lambda: run.exits().attempts)
        assert states(run)[-1] == "stopped"

    def test_a_failure_is_status_1_with_its_reason(self, tmp_path: Path) -> None:
        trainer = json.dumps([sys.executable, "-c", "raise SystemExit('no luck today')"])
        words = ["train", "--preset", "demo", "--home", str(tmp_path), "--trainer-command", trainer]
        told = xoron(*words, status=1).stdout
        assert "failed: no luck today" in told
        assert "train.log" in told

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (["--preset", "dmo"], "did you mean 'demo'"),
            (["--preset", "demo", "trainig.max_steps=3"], "did you mean 'training'"),
            (["--preset", "demo", "training.max_steps=-3"], "training.max_steps"),
            (["--preset", "demo", "training.max_steps=[1"], "training.max_steps: is not a YAML value"),
            (["--preset", "demo", "nothing.yaml"], "nothing.yaml cannot be read"),
            (["a.yaml", "b.yaml"], "neither key=value nor"),
            (
                [
                    "--preset",
                    "demo",
                    "modalities.image_generation.weight=0",
                    "data.sources=[{name: a, category: code, path: /none}]",
                ],
                "has no file /none/train.jsonl",
            ),
            (["--preset", "demo", "trouble.min_free_disk_gib=1e9"], "free some space"),
        ],
    )
    def test_bad_input_is_one_line_and_leaves_nothing(self, tmp_path: Path, words: list[str], message: str) -> None:
        told = xoron("train", "--home", str(tmp_path / "home"), *words, status=1)
        assert message in told.stderr
        assert told.stderr.startswith("xoron: ")
        assert "Traceback" not in told.stderr
        assert Home(tmp_path / "home").run_directories() == []

    def test_a_server_on_the_same_home_shows_it(self, running_server: RunningServer) -> None:
        words = train_words(running_server.home.path, "--preset", "demo", "training.max_steps=5", "--json")
        last = json.loads(xoron(*words).stdout.splitlines()[-1])
        row = wait_for(lambda: _completed(running_server, last["run"]))
        assert (row["step"], row["attempt"]) == (5, 1)


def _completed(server: RunningServer, run_id: str) -> dict[str, Any]:
    response = server.api.get(f"/runs/{run_id}")
    row: dict[str, Any] = response.json() if response.status_code == 200 else {}
    return row if row.get("state") == "completed" else {}


class TestRuns:
    @pytest.fixture
    def url(self, running_server: RunningServer) -> list[str]:
        return ["--url", f"http://127.0.0.1:{running_server.port}"]

    def test_the_life_of_a_run(self, url: list[str], running_server: RunningServer) -> None:
        run_id = xoron(
            "runs", "start", "--preset", "demo", "--name", "from the shell", "--tag", "t", *url
        ).stdout.strip()
        xoron("runs", "wait", run_id, "--until", "step:3", "--timeout", "30", *url)
        assert json.loads(xoron("runs", "pause", run_id, *url, "--json").stdout)["state"] in {"pausing", "paused"}
        assert "not ended after 0.1 s" in xoron("runs", "wait", run_id, "--timeout", "0.1", *url, status=3).stderr
        assert "from the shell" in xoron("runs", "list", *url).stdout
        running_server.wait_state(run_id, "paused")
        assert "paused" in xoron("runs", "show", run_id, *url).stdout
        assert json.loads(xoron("runs", "resume", run_id, *url, "--json").stdout)["attempt"] == 2
        xoron("runs", "wait", run_id, "--until", "running", "--timeout", "30", *url)
        xoron("runs", "stop", run_id, *url)
        assert "stopped" in xoron("runs", "wait", run_id, "--timeout", "30", *url).stdout
        page = json.loads(xoron("runs", "list", "--state", "stopped", "--tag", "t", "--json", *url).stdout)
        assert [row["id"] for row in page["items"]] == [run_id]
        assert json.loads(xoron("runs", "logs", run_id, "--json", *url).stdout)["offset"] == 0
        xoron("runs", "logs", run_id, "--follow", *url)

    def test_the_queue_is_shown_and_reordered(self, url: list[str], running_server: RunningServer) -> None:
        start = ["runs", "start", "training.max_steps=null", "--preset", "demo", *url]
        live, a, b, c = (xoron(*start, "--name", name).stdout.strip() for name in ("live", "a", "b", "c"))
        running_server.wait_state(live, "running")
        told = wait_for(lambda: "next after" in (now := xoron("runs", "queue", *url).stdout) and now)
        assert "1 of 1 slots are taken, 3 runs wait" in told
        assert f"1 of 1 slot is taken by {live} (live)" in told
        assert "queued (1.)" in xoron("runs", "list", *url).stdout

        def move(*words: str) -> list[str]:
            queue = json.loads(xoron("runs", "move", *words, "--json", *url).stdout)
            return [run["id"] for run in queue["items"]]

        assert move(c, "--first") == [c, a, b]
        assert move(c, "--before", b) == [a, c, b]
        assert move(a, "--last") == [c, b, a]
        assert [run["id"] for run in json.loads(xoron("runs", "queue", "--json", *url).stdout)["items"]] == [c, b, a]
        assert "does not wait" in xoron("runs", "move", live, "--first", *url, status=1).stderr
        assert "give one of" in xoron("runs", "move", a, "--first", "--last", *url, status=2).stderr

    def test_a_run_that_ends_too_early_is_status_1(self, url: list[str]) -> None:
        run_id = xoron("runs", "start", "training.max_steps=2", "--preset", "demo", *url).stdout.strip()
        told = xoron("runs", "wait", run_id, "--until", "step:50", "--timeout", "30", *url, status=1)
        assert "before step:50" in told.stderr

    def test_refusals_are_one_line(self, url: list[str]) -> None:
        assert "there is no run" in xoron("runs", "show", "nothing", *url, status=1).stderr
        told = xoron("runs", "start", "--preset", "demo", "training.seed=-1", *url, status=1).stderr
        assert told.startswith("xoron: training.seed: ")
        assert "is no state" in xoron("runs", "list", "--state", "sleeping", *url, status=2).stderr
        assert "xoron serve" in xoron("runs", "list", "--url", "http://127.0.0.1:9", status=1).stderr


class TestServe:
    def test_it_serves_with_a_demo_run(self, tmp_path: Path) -> None:
        home = tmp_path / "home"
        out = tmp_path / "out.txt"
        with out.open("w") as sink:
            command = [*XORON, "serve", "--home", str(home), "--demo"]
            process = subprocess.Popen(
                command, stdout=sink, stderr=subprocess.DEVNULL, env=ENVIRONMENT | {"XORON_PORT": "0"}
            )
        try:
            text = wait_for(lambda: out.read_text().strip())
            match = re.fullmatch(
                r"The dashboard is at (http://127\.0\.0\.1:\d+) and the demo run at \1/runs/(\S+)", text
            )
            assert match is not None, text
            run = json.loads(xoron("runs", "show", match[2], "--url", match[1], "--json").stdout)
            assert (run["preset"], run["name"]) == ("demo", "demo")
            assert "served already" in xoron("serve", "--home", str(home), "--port", "0", status=1).stderr
            taken = match[1].rpartition(":")[2]
            told = xoron("serve", "--home", str(tmp_path / "other"), "--port", taken, status=1).stderr
            assert f"port {taken} is taken" in told
        finally:
            process.terminate()
            assert process.wait(timeout=30) in {0, -signal.SIGTERM}  # uvicorn ends tidily, then by the signal
            end_keepers(Home(home))

    def test_options_are_laid_over_the_environment(self, tmp_path: Path) -> None:
        command = [*XORON, "serve", "--host", "127.0.0.1"]
        with server_process(tmp_path / "home", command, XORON_HOST="0.0.0.0") as served:
            assert served.server.root.get("/healthz").status_code == 200
            assert ProcessIdentity.of(served.process.pid) is not None

    def test_an_open_door_is_refused(self, tmp_path: Path) -> None:
        told = xoron("serve", "--home", str(tmp_path), "--host", "0.0.0.0", status=1).stderr
        assert "set XORON_TOKEN" in told
