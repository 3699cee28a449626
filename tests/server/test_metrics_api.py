"""Series, summaries, events, logs."""

import csv
import math

import pytest
from support.postgresql import ON_BOTH
from support.runs import wait_for
from support.scripted_run import ScriptedRun, curves
from support.serving import RunningServer

from server.metrics import thinning
from xoron_core.contract.events import EvalEvent, MetricsEvent, ReceiptEvent
from xoron_core.contract.states import RunState


def series(server: RunningServer, run_id: str, **params: object) -> dict[str, dict[str, list[float | None]]]:
    response = server.api.get(f"/runs/{run_id}/series", params={"keys": "text/loss", **params})  # type: ignore[dict-item]
    assert response.status_code == 200, response.text
    return response.json()["series"]  # type: ignore[no-any-return]


@ON_BOTH
def test_series_hold_every_point_as_it_was_written(running_server: RunningServer) -> None:
    with ScriptedRun(running_server.home) as run:
        seq = run.steps(range(1, 401))
        running_server.wait_seq(run.id, seq)
        curve = series(running_server, run.id)["text/loss"]
        assert curve["x"] == list(range(1, 401))
        assert curve["y"] == [curves(step)["text/loss"] for step in range(1, 401)]
        tokens = series(running_server, run.id, x="tokens")["text/loss"]
        assert tokens["x"] == [512 * step for step in range(1, 401)]
        part = series(running_server, run.id, **{"from": 10, "to": 12})["text/loss"]
        assert part["x"] == [10, 11, 12]
        answer = running_server.api.get(f"/runs/{run.id}/series", params={"keys": "no/such"}).json()
        assert answer["series"]["no/such"] == {"x": [], "y": [], "num_points": 0}
        assert answer["keys"] == ["image_generation/loss", "text/loss"]
        assert answer["last_seq"] == seq


def test_thinning_keeps_extremes_ends_and_marks(running_server: RunningServer) -> None:
    with ScriptedRun(running_server.home) as run:
        run.steps(range(1, 1001), {"text/loss": 1.0})
        run.steps([1001], {"text/loss": 99.0})
        run.steps([1002], {"text/loss": None})
        seq = run.steps(range(1003, 3001), {"text/loss": 1.0})
        running_server.wait_seq(run.id, seq)
        curve = series(running_server, run.id, points=100)["text/loss"]
        assert len(curve["x"]) <= 100
        assert (curve["x"][0], curve["x"][-1]) == (1, 3000)
        assert curve["y"][curve["x"].index(1001)] == 99.0
        assert curve["y"][curve["x"].index(1002)] is None


@pytest.mark.parametrize("count", [2, 3, 10, 11, 99, 1000])
def test_thinning_never_gives_more_than_asked_and_stays_in_order(count: int) -> None:
    values = [math.sin(at / 7) * at for at in range(count)]
    for limit in (2, 3, 10, 50):
        kept = thinning.kept(values, limit)
        assert kept == sorted(set(kept))
        assert {0, count - 1} <= set(kept)
        assert len(kept) <= max(limit, 4)
        if limit >= 10:
            assert {min(values), max(values)} <= {values[at] for at in kept}


@ON_BOTH
def test_a_later_attempt_replaces_what_it_does_again(running_server: RunningServer) -> None:
    with ScriptedRun(running_server.home) as run:
        run.steps(range(1, 301), {"text/loss": 1.0})
        run.end(RunState.INTERRUPTED)
        run.begin(checkpoint="checkpoints/step-00000200")
        receipt = ReceiptEvent(
            checkpoint="checkpoints/step-00000200", step=200, restored=["model"], reset=[], missing=[]
        )
        row = running_server.wait_seq(run.id, run.say(receipt))
        assert row["step"] == 200
        assert series(running_server, run.id)["text/loss"]["x"] == list(range(1, 201))
        running_server.wait_seq(run.id, run.steps(range(201, 251), {"text/loss": 2.0}))
        curve = series(running_server, run.id)["text/loss"]
        assert curve["x"] == list(range(1, 251))
        assert curve["y"] == [1.0] * 200 + [2.0] * 50
        summary = running_server.api.get(f"/runs/{run.id}/metrics").json()["modalities"]["text"]["metrics"]["text/loss"]
        assert summary == {"latest": 2.0, "best": 1.0, "mean_last_100": 1.5, "count": 250, "non_finite": 0}


@ON_BOTH
def test_an_attempt_from_the_beginning_replaces_everything(running_server: RunningServer) -> None:
    with ScriptedRun(running_server.home) as run:
        run.steps(range(1, 11), {"text/loss": 1.0})
        run.end(RunState.FAILED)
        run.begin()
        running_server.wait_seq(run.id, run.steps(range(1, 4), {"text/loss": 2.0}))
        assert series(running_server, run.id)["text/loss"] == {"x": [1, 2, 3], "y": [2.0] * 3, "num_points": 3}


@ON_BOTH
def test_metrics_are_summed_up_by_modality(running_server: RunningServer) -> None:
    off = ("image_understanding", "video_understanding", "video_generation", "asr", "tts")
    config = {"modalities": {"text": {"weight": 3.0}, **{name: {"weight": 0.0} for name in off}}}
    with ScriptedRun(running_server.home, config) as run:
        for step in range(1, 151):
            values: dict[str, float | None] = {
                "text/loss": None if step == 150 else float(200 - step),
                "image_generation/loss": 2.0,
                "train/loss": 5.0,
                "data/text/micro_batches": float(3 * step),
                "data/image_generation/micro_batches": float(step),
                "data/pictures/samples": 16.0 * step,
                "speed/tokens_per_s": 1000.0,
                "speed/steps_per_s": 2.0,
            }
            run.steps([step], values)
        seq = run.say(EvalEvent(step=150, tokens=1, samples=1, seconds=0.1, values={"eval/text/loss": 3.5}))
        running_server.wait_seq(run.id, seq)
        metrics = running_server.api.get(f"/runs/{run.id}/metrics").json()
        text, images = metrics["modalities"]["text"], metrics["modalities"]["image_generation"]
        loss = text["metrics"]["text/loss"]
        assert (loss["latest"], loss["best"], loss["count"], loss["non_finite"]) == (None, 51.0, 150, 1)
        assert loss["mean_last_100"] == sum(200 - step for step in range(51, 150)) / 99
        assert text["eval"]["eval/text/loss"]["latest"] == 3.5
        assert (text["planned_share"], text["actual_share"], text["micro_batches"]) == (0.75, 0.75, 450)
        assert text["tokens_per_s"] == 1000.0
        assert images["samples_per_s"] == pytest.approx(32.0)
        assert images["planned_share"] == 0.25
        assert metrics["other"]["train/loss"]["best"] == 5.0
        assert (metrics["step"], metrics["tokens"]) == (150, 512 * 150)
        assert running_server.show(run.id)["latest"] == {"text/loss": None, "image_generation/loss": 2.0}


def test_series_as_csv(running_server: RunningServer) -> None:
    with ScriptedRun(running_server.home) as run:
        run.steps([1], {"text/loss": 1.5})
        running_server.wait_seq(run.id, run.steps([2], {"text/loss": None}))
        params = {"keys": "text/loss", "format": "csv"}
        response = running_server.api.get(f"/runs/{run.id}/series", params=params)
        assert response.headers["content-type"].startswith("text/csv")
        rows = list(csv.reader(response.text.splitlines()))
        assert rows == [["metric", "step", "value"], ["text/loss", "1.0", "1.5"], ["text/loss", "2.0", ""]]


def test_events_are_read_from_any_number_and_by_kind(running_server: RunningServer) -> None:
    with ScriptedRun(running_server.home) as run:
        run.steps(range(1, 51))
        running_server.wait_seq(run.id, run.end())
        url = f"/runs/{run.id}/events"
        page = running_server.api.get(url, params={"after": 10, "limit": 5}).json()
        assert [event["seq"] for event in page["items"]] == [11, 12, 13, 14, 15]
        assert page["last_seq"] == 15
        states = running_server.api.get(url, params={"kinds": "state"}).json()
        assert [event["state"] for event in states["items"]] == ["running", "completed"]
        assert states["last_seq"] == 52
        assert running_server.api.get(url, params={"after": 52}).json() == {"items": [], "last_seq": 52}


@ON_BOTH
def test_unknown_and_malformed_events_do_no_harm(running_server: RunningServer) -> None:
    with ScriptedRun(running_server.home) as run:
        assert run.writer is not None
        run.steps([1])
        with (run.directory.path / "events.jsonl").open("ab") as file:
            file.write(b'{"seq":3,"time":"2026-01-01T00:00:00.000Z","attempt":1,"kind":"from_the_future","x":1}\n')
            file.write(b'{"seq":4,"kind":"metrics","values":{"text/loss":"low"}}\n')
            file.write(b'{"seq":5,"kind":"state","state":"confused"}\n')
            file.write(b"garbage\n")
        row = running_server.wait_seq(run.id, 5)
        assert row["state"] == "running"
        events = running_server.api.get(f"/runs/{run.id}/events", params={"after": 2}).json()["items"]
        assert [event["kind"] for event in events] == ["from_the_future", "metrics", "state"]
        assert series(running_server, run.id)["text/loss"]["x"] == [1]


def test_bad_samples_are_counted(running_server: RunningServer) -> None:
    from xoron_core.contract.events import BadSampleEvent

    with ScriptedRun(running_server.home) as run:
        run.say(BadSampleEvent(source="a", index=3, reason="torn", count=1))
        run.say(BadSampleEvent(source="a", index=9, reason="torn", count=2))
        seq = run.say(BadSampleEvent(source="b", index=1, reason="empty", count=1))
        assert running_server.wait_seq(run.id, seq)["bad_samples"] == 3


def test_the_eta_comes_from_speed(running_server: RunningServer) -> None:
    with ScriptedRun(running_server.home, {"training": {"max_steps": 100}}) as run:
        event = MetricsEvent(step=40, tokens=1, samples=1, values={"speed/steps_per_s": 4.0})
        row = running_server.wait_seq(run.id, run.say(event))
        assert (row["steps_per_s"], row["eta_s"]) == (4.0, 15.0)
        run.end()
        wait_for(lambda: running_server.show(run.id)["eta_s"] is None)


def test_the_log_is_read_by_bytes_and_by_lines(running_server: RunningServer) -> None:
    with ScriptedRun(running_server.home) as run:
        wait_for(lambda: running_server.api.get(f"/runs/{run.id}").status_code == 200)
        url = f"/runs/{run.id}/logs"
        assert running_server.api.get(url).json() == {"text": "", "offset": 0, "end": 0}
        text = "".join(f"Zeile {number} ü\n" for number in range(100))
        torn = "ü".encode()[:1]
        run.directory.log_file.write_bytes(text.encode() + torn)
        page = running_server.api.get(url, params={"tail": 3}).json()
        assert page["text"] == "Zeile 98 ü\nZeile 99 ü\n"  # what follows is the third, begun, line
        size = len(text.encode())
        assert page["end"] == size
        with run.directory.log_file.open("ab") as file:
            file.write("ü".encode()[1:] + b" more\n")
        page = running_server.api.get(url, params={"after": size}).json()
        assert page == {"text": "ü more\n", "offset": size, "end": size + 8}
        run.directory.log_file.write_text("rotated\n")
        assert running_server.api.get(url, params={"after": size}).json()["text"] == "rotated\n"
