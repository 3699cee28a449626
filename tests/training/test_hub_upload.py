"""Checkpoints on their way to the hub: which arrive, what a hub that refuses them costs, and where the token is not."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from support.attempts import begin, of_kind, train
from support.model_hub import ModelHub, model_hub
from support.runs import wait_for
from support.tiny import tiny_config, tiny_corpus

from xoron_core.contract.commands import CommandKind
from xoron_core.contract.config.run import RunConfig, merge
from xoron_core.contract.exit_codes import ExitCode
from xoron_core.contract.run_directory import RunDirectory
from xoron_core.contract.writer import EventWriter
from xoron_core.export.pretrained import XoronModel
from xoron_core.training.build import build_trainer
from xoron_core.training.checkpoint import verify_checkpoint
from xoron_core.training.control import Control, EndRequest
from xoron_core.training.hooks import Hook, standard_hooks
from xoron_core.training.hooks.hub import HubHook
from xoron_core.training.trainer import XoronTrainer

TOKEN = "hf_" + "aVerySecretToken" * 2
REPOSITORY = "someone/tiny"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelHub]:
    with model_hub(TOKEN) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
        yield hub


class After(Hook):
    """Does something after every step, when all other hooks have done theirs."""

    def __init__(self, action: Callable[[XoronTrainer], object]) -> None:
        self.action = action

    def after_step(self, trainer: XoronTrainer) -> None:
        self.action(trainer)


def config_of(corpus: Path, overrides: dict[str, Any] | None = None, **training: Any) -> RunConfig:
    """Of a run that uploads every checkpoint."""
    values = {"modalities": {"image_generation": {"weight": 0}}, "hub": {"repo_id": REPOSITORY}}
    steps = {"save_steps": 1, "logging_steps": 1, **training}
    return tiny_config(corpus, merge(values, overrides or {}), **steps)


def train_here(
    run: RunDirectory,
    config: RunConfig,
    action: Callable[[XoronTrainer, HubHook], object] = lambda trainer, hook: None,
    control: Control | None = None,
    final_wait_s: float = 60.0,
    **arguments: Any,
) -> tuple[XoronTrainer, EndRequest | None]:
    """Train with the hooks of every run, without patience for a hub that refuses."""
    with EventWriter(run.path, 1) as events, ExitStack() as resources:
        hooks = standard_hooks(config, run, events)
        hook = next(hook for hook in hooks if isinstance(hook, HubHook))
        hook.retry_waits_s, hook.final_wait_s = (), final_wait_s
        hooks.append(After(lambda trainer: action(trainer, hook)))
        trainer = build_trainer(config, hooks, control or Control(), None, lambda _: None, resources)
        for name, value in arguments.items():
            setattr(trainer, name, value)
        return trainer, trainer.train()


def messages(run: RunDirectory, kind: str, text: str) -> list[str]:
    return [event["message"] for event in of_kind(run, kind) if text in event["message"]]


def holding_token(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and TOKEN.encode() in path.read_bytes()]


def command_lines() -> list[bytes]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_bytes())
        except OSError:  # it is gone
            continue
    return found


def test_every_nth_and_the_last_checkpoint_arrive_whole(corpus: Path, tmp_path: Path, hub: ModelHub) -> None:
    run = begin(tmp_path, config_of(corpus, {"hub": {"every": 2}}, max_steps=5, eval_steps=2))
    seen: list[bytes] = []

    def watch(trainer: XoronTrainer, hook: HubHook) -> None:
        """Let no step outrun its upload; look at the processes while the first is under way."""
        if trainer.global_step == 2:
            hub.is_open.clear()
            wait_for(lambda: hook.after_step(trainer) or any("preupload" in asked for asked in hub.asked))
            seen.extend(command_lines())
            hub.is_open.set()
        if trainer.global_step % 2 == 0:
            wait_for(lambda: hook.after_step(trainer) or len(hub.commits) == trainer.global_step // 2)

    trainer, end = train_here(run, run.config(), watch)
    assert end is None
    assert [message for message, _ in hub.commits] == ["Step 2", "Step 4", "Step 5"]
    assert hub.repositories == {REPOSITORY: "private"}
    assert len(messages(run, "log", "is uploaded: http")) == 3 and not of_kind(run, "alert")
    assert not messages(run, "log", "is not uploaded")

    assert not any("optimizer" in name or name.endswith((".yaml", "state.json")) for name in hub.files)
    assert hub.files["model.safetensors"] == (run.checkpoint_dir(5) / "model.safetensors").read_bytes()
    card = hub.files["README.md"].decode()
    assert f"# {REPOSITORY}\n" in card and "| optimizer steps | 5 |" in card and "- thoughts (chain_of_thought)" in card
    assert "## Held-out values at step 5" in card and "`eval/text/loss`" in card and "pictures" not in card

    folder = tmp_path / "downloaded"
    folder.mkdir()
    for name, content in hub.files.items():
        (folder / name).write_bytes(content)
    loaded, trained = XoronModel.from_pretrained(folder).state_dict(), trainer.model.state_dict()
    assert loaded.keys() == trained.keys() and all(bool((loaded[name] == trained[name]).all()) for name in trained)

    assert not list(run.checkpoints.glob(".upload-*"))
    assert any(b"xoron_core.training.publishing" in line for line in seen)
    assert not any(TOKEN.encode() in line for line in seen)
    assert holding_token(run.path) == [] and TOKEN not in repr(trainer)


@pytest.mark.parametrize(
    ("refusal", "reason"),
    [
        pytest.param(("create", 500), "the hub answered 500", marks=pytest.mark.slow),
        (("auth-check", 401), "the hub answered 401"),
        (None, "there is no token: set HF_TOKEN, or run `hf auth login`"),
    ],
)
def test_a_hub_that_refuses_costs_an_alert_and_nothing_else(
    corpus: Path,
    tmp_path: Path,
    hub: ModelHub,
    monkeypatch: pytest.MonkeyPatch,
    refusal: tuple[str, int] | None,
    reason: str,
) -> None:
    config = config_of(corpus, max_steps=3, save_steps=None)
    if refusal is None:
        monkeypatch.delenv("HF_TOKEN")
    else:
        hub.refuse(*refusal)
        hub.refuse("commit", refusal[1])
    run = begin(tmp_path / "with", config)
    assert train_here(run, config)[1] is None
    [alert] = of_kind(run, "alert")
    assert alert["level"] == "error" and reason in alert["message"] and REPOSITORY in alert["message"]
    assert "[redacted]" in alert["message"] or refusal is None
    assert len(messages(run, "log", "the checkpoint of step 3 could not be uploaded")) == 1  # told already
    assert holding_token(run.path) == [] and not list(run.checkpoints.glob(".upload-*"))

    plain = config.model_copy(update={"hub": RunConfig.model_fields["hub"].default})
    other = begin(tmp_path / "without", plain)
    train_here(other, plain)
    losses = [[event["values"]["train/loss"] for event in of_kind(one, "metrics")] for one in (run, other)]
    assert losses[0] == losses[1] and len(losses[0]) == 3
    assert run.checkpoint_dir(3).is_dir()


@pytest.mark.slow
def test_the_newest_goes_first_and_what_is_uploaded_outlives_its_checkpoint(
    corpus: Path, tmp_path: Path, hub: ModelHub
) -> None:
    config = config_of(corpus, {"checkpoint": {"keep_last": 2, "keep_best": False}}, max_steps=5)
    run = begin(tmp_path, config)
    (run.checkpoints / ".upload-step-00000009").mkdir()  # of a trainer that was killed
    first: list[bytes] = []
    hub.is_open.clear()

    def watch(trainer: XoronTrainer, hook: HubHook) -> None:
        if trainer.global_step == 1:
            first.append((run.checkpoint_dir(1) / "model.safetensors").read_bytes())
            wait_for(lambda: hook.after_step(trainer) or any("preupload" in asked for asked in hub.asked))
        if trainer.global_step == 5:
            assert not run.checkpoint_dir(1).exists()
            hub.is_open.set()

    train_here(run, config, watch)
    assert [message for message, _ in hub.commits] == ["Step 1", "Step 5"]
    assert hub.commits[0][1]["model.safetensors"] == first[0]
    left_out = messages(run, "log", "is not uploaded: that of step")
    assert [message.split()[4] for message in left_out] == ["2", "3", "4"]
    assert not list(run.checkpoints.glob(".upload-*"))


def test_an_end_waits_for_no_upload(corpus: Path, tmp_path: Path, hub: ModelHub) -> None:
    control = Control()
    config = config_of(corpus, max_steps=9)
    run = begin(tmp_path, config)
    hub.is_open.clear()

    def watch(trainer: XoronTrainer, hook: HubHook) -> None:
        if trainer.global_step == 2:
            control.request_end(EndRequest(CommandKind.STOP, save=True, reason="a test"))

    _, end = train_here(run, config, watch, control, final_wait_s=1000)
    assert end is not None and hub.commits == []
    assert messages(run, "log", "is not uploaded: the run was asked to end") and not of_kind(run, "alert")
    assert not list(run.checkpoints.glob(".upload-*"))
    assert not any(b"xoron_core.training.publishing" in line for line in command_lines())


@pytest.mark.slow
def test_a_signal_is_heard_while_the_last_upload_is_waited_for(corpus: Path, tmp_path: Path, hub: ModelHub) -> None:
    class Told(Control):
        """Gets a signal as soon as the hub has been asked what it does not answer."""

        def poll(self) -> None:
            if self.step == 2 and any("preupload" in asked for asked in hub.asked) and self.signals.count == 0:
                self.signals.note(EndRequest(CommandKind.STOP, save=True, reason="SIGTERM received"))
            super().poll()

    config = config_of(corpus, max_steps=2, save_steps=None)
    run = begin(tmp_path, config)
    hub.is_open.clear()
    _, end = train_here(run, config, control=Told(), final_wait_s=1000)
    assert end is not None and end.reason == "SIGTERM received"
    assert {"phase": "closing", "detail": f"uploading to {REPOSITORY}"}.items() <= of_kind(run, "phase")[-1].items()
    assert messages(run, "log", "step 2 is not uploaded: the run was asked to end")


def test_a_run_that_is_complete_waits_so_long_and_takes_what_the_trainer_was_given(
    corpus: Path, tmp_path: Path, hub: ModelHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    config = config_of(corpus, {"hub": {"repo_id": None, "private": False}}, max_steps=2, save_steps=None)
    run = begin(tmp_path, config)

    def watch(trainer: XoronTrainer, hook: HubHook) -> None:
        if trainer.global_step == 1:
            wait_for(lambda: "someone/else" in hub.repositories)
            hub.is_open.clear()

    _, end = train_here(run, config, watch, final_wait_s=0.5, hf_token=TOKEN, hf_repo_id="else")
    assert end is None and hub.repositories == {"someone/else": "public"} and hub.commits == []
    [alert] = of_kind(run, "alert")
    assert alert["level"] == "warning" and "step 2 is not uploaded: it took longer than 0.5 s" in alert["message"]
    assert holding_token(run.path) == []


def test_without_a_repository_nothing_is_asked_of_the_hub(corpus: Path, tmp_path: Path, hub: ModelHub) -> None:
    config = config_of(corpus, {"hub": {"repo_id": None}}, max_steps=2)
    run = begin(tmp_path, config)
    train_here(run, config)
    assert hub.asked == [] and not list(run.checkpoints.glob(".upload-*"))


@pytest.mark.slow
def test_a_trainer_of_its_own_uploads_and_never_tells_its_token(corpus: Path, tmp_path: Path, hub: ModelHub) -> None:
    run = begin(tmp_path, config_of(corpus, max_steps=3, save_steps=None))
    assert train(run) == ExitCode.COMPLETED
    assert [message for message, _ in hub.commits] == ["Step 3"]
    assert holding_token(tmp_path / "runs") == [] and run.log_file.stat().st_size > 0


@pytest.mark.slow
def test_adapters_are_merged_on_the_way(corpus: Path, tmp_path: Path, hub: ModelHub) -> None:
    config = config_of(corpus, {"lora": {"use_lora": True, "r": 2}}, max_steps=3, save_steps=None)
    run = begin(tmp_path, config)
    trainer, _ = train_here(run, config)
    assert not of_kind(run, "alert"), of_kind(run, "alert")
    folder = tmp_path / "downloaded"
    folder.mkdir()
    for name, content in hub.files.items():
        (folder / name).write_bytes(content)
    loaded = XoronModel.from_pretrained(folder)
    ids_BT = loaded.llm.model.embed_tokens.weight.new_zeros((1, 6)).long() + 5
    ours, theirs = (model.eval().llm(ids_BT, return_logits=True).logits_BTV for model in (trainer.model, loaded))
    assert ours is not None and theirs is not None
    assert (ours - theirs).abs().max() < 1e-4 and (run.checkpoint_dir(3) / "model.safetensors").stat().st_nlink == 1
    verify_checkpoint(run.checkpoint_dir(3))
