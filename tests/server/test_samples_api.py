"""What models made, over the API."""

from support.postgresql import ON_BOTH
from support.sample_files import sound
from support.scripted_run import ScriptedRun
from support.serving import RunningServer

from xoron_core.contract.events import Event


class OldSampleEvent(Event):
    """A sample as runs told of it before there was a truth beside it."""

    kind: str = "sample"
    step: int = 3
    modality: str = "text"
    path: str = "samples/step-00000003/text-0.txt"
    mime: str = "text/plain"
    caption: str = "Say it"


@ON_BOTH
def test_files_of_a_sample_come_with_what_was_asked_and_what_is_true(running_server: RunningServer) -> None:
    with ScriptedRun(running_server.home) as run:
        run.say(OldSampleEvent())
        files = {"wav": sound(0.1, 440), "txt": b"he said so"}
        seq = run.sample(5, "asr-0", files, "What is said?", "She said so.")
        running_server.wait_seq(run.id, seq)
        items = running_server.api.get(f"/runs/{run.id}/samples").json()["items"]
    assert [(item["path"].split("/")[2], item["mime"]) for item in items] == [
        ("text-0.txt", "text/plain"),
        ("asr-0.wav", "audio/wav"),
        ("asr-0.txt", "text/plain"),
    ]
    assert [item["expected"] for item in items] == [None, "She said so.", "She said so."]


def test_a_player_can_ask_for_a_part_of_a_sound(running_server: RunningServer) -> None:
    content = sound(0.5, 440)
    with ScriptedRun(running_server.home) as run:
        running_server.wait_seq(run.id, run.sample(5, "tts-0", {"wav": content}, "Say it"))
        path = f"/runs/{run.id}/samples/step-00000005/tts-0.wav"
        whole = running_server.api.get(path)
        part = running_server.api.get(path, headers={"Range": "bytes=100-199"})
        rest = running_server.api.get(path, headers={"Range": f"bytes={len(content) - 10}-"})
        beyond = running_server.api.get(path, headers={"Range": f"bytes={len(content)}-"})
    assert (whole.status_code, whole.content, whole.headers["content-type"]) == (200, content, "audio/wav")
    assert whole.headers["accept-ranges"] == "bytes"
    assert (part.status_code, part.content) == (206, content[100:200])
    assert part.headers["content-range"] == f"bytes 100-199/{len(content)}"
    assert (rest.status_code, rest.content) == (206, content[-10:])
    assert beyond.status_code == 416


def test_what_no_browser_shows_is_to_be_saved(running_server: RunningServer) -> None:
    with ScriptedRun(running_server.home) as run:
        folder = run.directory.sample_dir(5)
        folder.mkdir(parents=True)
        for name in ("page.html", "clip.gif", "voice.opus"):
            (folder / name).write_bytes(b"<script>")
        answers = {
            name: running_server.api.get(f"/runs/{run.id}/samples/{folder.name}/{name}").headers
            for name in ("page.html", "clip.gif", "voice.opus")
        }
    assert answers["page.html"]["content-disposition"].startswith("attachment")
    assert [answers[name]["content-type"] for name in answers] == [
        "application/octet-stream",
        "image/gif",
        "audio/ogg",
    ]
