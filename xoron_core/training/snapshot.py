"""What of a trainer goes into a checkpoint, and back."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from xoron_core.contract.errors import CheckpointError
from xoron_core.training.checkpoint import CheckpointContent
from xoron_core.training.digest import Part
from xoron_core.training.errors import AnotherModelError
from xoron_core.training.metrics import MetricWindow
from xoron_core.training.state import TrainerState


@dataclass(frozen=True)
class Receipt:
    """What a restore took over, what it left at its start value, and what it looked for in vain. `hashes`: SHA-256 of
    each field that was restored, as it stands in memory."""

    restored: list[str] = field(default_factory=list)
    reset: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    hashes: dict[str, str] = field(default_factory=dict)

    def note_data(self, saved: dict[str, Any], now: dict[str, Any]) -> None:
        """Compare the place in the data with the one that was saved: where the data are laid out in another way, what
        was left of the windows in use is dealt out anew."""
        if not Part(plain=saved).equals(Part(plain=now)):
            self.reset.append("data.windows")
            self.hashes["data"] = Part(plain=now).digest()


@dataclass(frozen=True)
class Snapshot:
    """The parts of a training run that survive in a checkpoint."""

    model: nn.Module
    optimizer: Optimizer
    scheduler: LRScheduler
    state: TrainerState
    scaler: GradScaler | None
    metrics: MetricWindow

    def take(self, config_yaml: str) -> CheckpointContent:
        """The content of a checkpoint of this moment. Only torch's generators are drawn from: whatever else is random
        has a seed of its own."""
        optimizer_tensors, optimizer_state = _split_optimizer(self.optimizer, _names(self.model))
        rng = {"cpu": torch.get_rng_state()}
        if torch.cuda.is_available():
            rng["cuda.0"] = torch.cuda.get_rng_state()  # of the GPU that is trained on, whichever that is
        return CheckpointContent(
            tensors={"model": self.model.state_dict(), "optimizer": optimizer_tensors, "rng": rng},
            state={
                "trainer": self.state.state_dict(),
                "optimizer": optimizer_state,
                "scheduler": self.scheduler.state_dict(),
                "scaler": None if self.scaler is None else self.scaler.state_dict(),
                "metrics": self.metrics.state_dict(),
                **machine(next(self.model.parameters()).device),
            },
            config_yaml=config_yaml,
        )

    def restore(self, content: CheckpointContent, on_progress: Callable[[], None] = lambda: None) -> Receipt:
        """Put everything back, except the optimizer's options: a resume may change the configuration. What is called
        restored was compared, bit for bit, with what was read. `on_progress` is called every now and then meanwhile.

        Raises: AnotherModelError when the model or the optimizer is not the one that was saved; CheckpointError naming
        a field that does not stand in memory as it was read.
        """
        receipt = Receipt()
        options = [{k: v for k, v in group.items() if k != "params"} for group in self.optimizer.param_groups]
        base_lrs = list(self.scheduler.base_lrs)
        try:
            self.model.load_state_dict(dict(content.tensors["model"]))
        except RuntimeError as error:
            raise AnotherModelError(f"the checkpoint is of another model: {error}") from error
        _restore_optimizer(self.optimizer, _names(self.model), content.tensors["optimizer"], content.state["optimizer"])
        self.scheduler.load_state_dict(content.state["scheduler"])
        self.scheduler.base_lrs = base_lrs
        self._keep_options(options, receipt)
        self.state.load_state_dict(content.state["trainer"])
        self.metrics.load_state_dict(content.state["metrics"], next(self.model.parameters()).device)
        if self.scaler is not None and content.state["scaler"] is not None:
            self.scaler.load_state_dict(content.state["scaler"])
        self._restore_rng(dict(content.tensors["rng"]))
        self._account(content, receipt, on_progress)
        return receipt

    def _account(self, content: CheckpointContent, receipt: Receipt, on_progress: Callable[[], None]) -> None:
        """Compare every field that stands in memory with what the checkpoint has of it.

        Raises: CheckpointError naming the first that differs.
        """
        saved, now = _parts(content), _parts(self.take(content.config_yaml))
        for name, part in now.items():
            if name not in saved:
                (receipt.reset if name.startswith("rng.") else receipt.missing).append(name)
            elif not part.equals(saved[name]):
                raise CheckpointError(f"{name} does not stand in memory as the checkpoint has it; start again")
            else:
                receipt.restored.append(name)
                receipt.hashes[name] = part.digest(on_progress)
        receipt.reset.extend(name for name in saved if name not in now)

    def _keep_options(self, options: list[dict[str, Any]], receipt: Receipt) -> None:
        """Put the configured options back; the learning rate keeps its place in the schedule."""
        for group, own in zip(self.optimizer.param_groups, options, strict=True):
            for key, value in own.items():
                saved = group.get(key)
                is_same = saved == (list(value) if isinstance(value, tuple) else value)  # JSON has no tuples
                if key == "lr":
                    continue
                if key == "initial_lr" and saved is not None and not is_same:
                    group["lr"] *= value / saved
                if not is_same and (name := f"optimizer.{key}") not in receipt.reset:
                    receipt.reset.append(name)
                group[key] = value

    @staticmethod
    def _restore_rng(saved: dict[str, Tensor]) -> None:
        torch.set_rng_state(saved["cpu"])
        if torch.cuda.is_available() and "cuda.0" in saved:
            torch.cuda.set_rng_state(saved["cuda.0"])


def machine(device: torch.device) -> dict[str, Any]:
    """What sums depend on beside their terms: the version of torch, the device, and the number of CPU threads."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else torch.backends.cpu.get_cpu_capability()
    return {"torch": str(torch.__version__), "device": f"{device.type} {name}", "threads": torch.get_num_threads()}


def _parts(content: CheckpointContent) -> dict[str, Part]:
    """A checkpoint field by field, as a receipt lists them. Options of the optimizer, among them the schedule's base
    learning rates, are the configuration's."""
    state = content.state
    schedule = {name: value for name, value in state["scheduler"].items() if name != "base_lrs"}
    parts = {
        "model": Part(content.tensors["model"]),
        "optimizer": Part(content.tensors["optimizer"], state["optimizer"]["plain"]),
        "scheduler": Part(plain=schedule),
    }
    if state["scaler"] is not None:
        parts["scaler"] = Part(plain=state["scaler"])
    parts |= {name: Part(plain=value) for name, value in state["trainer"].items()}
    parts["metrics"] = Part(plain=state["metrics"])
    return parts | {f"rng.{name}": Part({name: tensor}) for name, tensor in content.tensors["rng"].items()}


def _names(model: nn.Module) -> dict[int, str]:
    return {id(parameter): name for name, parameter in model.named_parameters()}


def _split_optimizer(optimizer: Optimizer, names: dict[int, str]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors of the state under `parameter/key`, and the rest as plain data."""
    tensors: dict[str, Tensor] = {}
    plain: dict[str, Any] = {}
    for parameter, entries in optimizer.state.items():
        name = names[id(parameter)]
        for key, value in entries.items():
            if isinstance(value, Tensor):
                tensors[f"{name}/{key}"] = value
            else:
                plain.setdefault(name, {})[key] = value
    groups = [
        {"names": [names[id(p)] for p in group["params"]], **{k: v for k, v in group.items() if k != "params"}}
        for group in optimizer.param_groups
    ]
    return tensors, {"plain": plain, "groups": groups}


def _restore_optimizer(optimizer: Optimizer, names: dict[int, str], tensors: Any, saved: dict[str, Any]) -> None:
    current = [[names[id(p)] for p in group["params"]] for group in optimizer.param_groups]
    if current != [group["names"] for group in saved["groups"]]:
        raise AnotherModelError("the optimizer's parameter groups are not those that were saved")
    by_name = {name: index for index, name in enumerate(name for group in current for name in group)}
    state: dict[int, dict[str, Any]] = {}
    for path, tensor in tensors.items():
        name, _, key = path.rpartition("/")
        state.setdefault(by_name[name], {})[key] = tensor
    for name, entries in saved["plain"].items():
        state.setdefault(by_name[name], {}).update(entries)
    groups, start = [], 0
    for names_in_group, group in zip(current, saved["groups"], strict=True):
        stop = start + len(names_in_group)
        groups.append({**{k: v for k, v in group.items() if k != "names"}, "params": list(range(start, stop))})
        start = stop
    optimizer.load_state_dict({"state": state, "param_groups": groups})
