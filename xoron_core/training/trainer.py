"""`XoronTrainer`: the loop does steps; hooks do everything periodic."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from xoron_core.contract.config.model import XoronConfig
from xoron_core.contract.config.training import TrainingConfig
from xoron_core.contract.errors import ConfigError
from xoron_core.data.dataset import TrueStreamingDataset
from xoron_core.data.records import BadSample, Drawn, derive_seed
from xoron_core.data.tokenizer import Tokenizer
from xoron_core.distributed.ranks import Alone, Ranks
from xoron_core.modalities.base import Batch, Collator, LossTerms, Modality
from xoron_core.model.xoron import XoronMultimodalModel
from xoron_core.training.batches import Batches
from xoron_core.training.checkpoint import read_checkpoint
from xoron_core.training.control import Control, EndRequest
from xoron_core.training.errors import StepsNotFiniteError
from xoron_core.training.evaluation import EvaluationSet
from xoron_core.training.hooks.base import Hook
from xoron_core.training.master_weights import MasterAdamW
from xoron_core.training.metrics import MetricWindow, Stopwatch, now
from xoron_core.training.objective import WindowObjective
from xoron_core.training.optimizer import gradient_norm
from xoron_core.training.precision import Precision, check_saved_precision
from xoron_core.training.reference import ReferenceTrainer
from xoron_core.training.snapshot import Receipt, Snapshot
from xoron_core.training.state import TrainerState

log = logging.getLogger(__name__)

CONTRIBUTION = "objective"
"""Among the terms of a micro-batch, while ranks add them up: what it adds to the objective."""


class XoronTrainer(ReferenceTrainer):
    """Trains every enabled modality of a model by the objective in `objective.py`.

    The positional arguments are the reference's. `collate_fn` brings the heavy halves of the modalities, `hooks` are
    what happens around the steps, `control` is where requests to end come from. All `ranks` go through the same steps;
    hooks are those of one of them; that of the hub reads `hf_token` and `hf_repo_id`.

    Raises: CheckpointError when `resume_from` cannot be used; ConfigError for float16 weights and an optimizer without
    masters.
    """

    def __init__(
        self,
        model: XoronMultimodalModel,
        train_dataset: TrueStreamingDataset,
        optimizer: Optimizer,
        scheduler: LRScheduler,
        config: TrainingConfig,
        xoron_config: XoronConfig,
        collate_fn: Collator,
        resume_from: str | Path | None = None,
        tokenizer: Tokenizer | None = None,
        eval_dataset: EvaluationSet | None = None,
        hf_token: str | None = None,
        hf_repo_id: str | None = None,
        *,
        hooks: Sequence[Hook] = (),
        control: Control | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        self.model = model
        self.train_dataset = train_dataset
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.config = config
        self.xoron_config = xoron_config
        self.collate_fn = collate_fn
        self.tokenizer = tokenizer
        self.eval_dataset = eval_dataset
        self.hf_token = hf_token
        self.hf_repo_id = hf_repo_id
        self.hooks = list(hooks)
        self.control = control or Control()
        self.ranks = ranks or Alone()
        self.modalities: Mapping[str, Modality[Any, Any]] = collate_fn.modalities
        self.device = next(model.parameters()).device
        self.precision = Precision.of(config, model, self.device)
        self.scaler = self.precision.scaler
        self.manual_loss_scale: float | None = None  # nothing is scaled where weights are float16, as in the reference
        self.amp_dtype = self.precision.amp_dtype
        self.use_amp = self.amp_dtype is not None
        self.max_grad_norm = config.max_grad_norm
        if self.precision.has_half_weights and not isinstance(optimizer, MasterAdamW):
            raise ConfigError.of(
                "training.model_dtype",
                f"{type(optimizer).__name__} keeps no float32 weights beside those in float16, where small steps are "
                "lost; take the optimizer that build_optimizer makes",
                "float16",
            )
        self.state = TrainerState()
        self.metrics = MetricWindow()
        self.stopwatch = Stopwatch()
        self.new_bad_samples: list[BadSample] = []
        self.new_skipped_samples: list[str] = []
        self.new_alerts: list[str] = []
        self.last_sample_ids: dict[str, tuple[str, ...]] = {}
        self.odd_sample_ids: dict[str, tuple[str, ...]] = {}
        self.receipt: Receipt | None = None
        self.last_lr = 0.0
        self._data_state: dict[str, Any] = {}
        self._ends_epoch = False
        self.state.data = train_dataset.state_dict()
        self._parameters = [p for group in optimizer.param_groups for p in group["params"]]
        if resume_from is not None:
            self._load_checkpoint(resume_from)

    @property
    def global_step(self) -> int:
        """Optimizer steps since the run began."""
        return self.state.step

    @property
    def is_logging_step(self) -> bool:
        """Whether metrics of the step just done are to be written."""
        return self.state.step % self.config.logging_steps == 0

    def snapshot(self) -> Snapshot:
        """The parts that survive in a checkpoint."""
        return Snapshot(self.model, self.optimizer, self.scheduler, self.state, self.scaler, self.metrics)

    def load_checkpoint(self, path: Path) -> Receipt:
        """Go on where a checkpoint left off.

        Raises: DamagedCheckpointError when it is incomplete or altered, AnotherModelError when it is of another model.
        """
        content = read_checkpoint(path, self.control.poll)
        check_saved_precision(self.model, content.tensors["model"])
        self.receipt = self.snapshot().restore(content, self.control.poll)
        saved = self.state.data
        self.train_dataset.load_state_dict(saved)
        self.state.data = self.train_dataset.state_dict()
        self.receipt.note_data(saved, self.state.data)
        self.control.step = self.state.step
        return self.receipt

    def train(self) -> EndRequest | None:
        """Train until the steps or epochs are done, or somebody asks to end; the request that ended it, or None.

        Raises: StepsNotFiniteError after more than `max_nonfinite` skipped steps in a row; DataError when a source has
        too many unreadable rows; RanksDifferError when ranks read different ones; PeerLostError when another rank went
        away.
        """
        self.model.train()
        self.train_dataset.load_state_dict(self.state.data)  # where an earlier call has left it, it may have read ahead
        for hook in self.hooks:
            hook.before_training(self)
        if self.scaler is not None:
            self.scaler.scale(torch.zeros((), device=self.device))  # makes the scale; a rank without rows needs it, too
        with closing(self._batches()) as batches:
            while not self._is_asked_to_end() and not self._is_done():
                if not self._train_step(batches):
                    break
                for hook in self.hooks:
                    hook.after_step(self)
                self.new_bad_samples.clear()
                self.new_skipped_samples.clear()
        end = self.control.end
        for hook in self.hooks:
            hook.after_training(self, end)
        return self.control.agree(self.ranks)

    def _is_done(self) -> bool:
        steps_done = self.config.max_steps is not None and self.state.step >= self.config.max_steps
        return steps_done or self.state.epoch >= self.config.num_epochs

    def _batches(self) -> Batches:
        return Batches(
            self.train_dataset,
            self.collate_fn,
            self.device,
            self.ranks.world_size,
            self.control.poll,
            self.new_alerts.append,
        )

    def _is_asked_to_end(self) -> bool:
        """Whether any rank is; all of them come here in the same order."""
        self.control.poll()
        return self.control.agree(self.ranks) is not None

    def _train_step(self, batches: Iterator[Drawn[Batch]]) -> bool:
        """One optimizer step; False when a request to end came first, which leaves everything as it was before."""
        begin = now()
        window = self._next_window(batches)
        self.stopwatch.data_s += now() - begin
        if window is None:
            return False
        if not window:
            self._go_on_in_data()
            return True
        objective = WindowObjective(window, self.modalities)
        # what adapters drop depends on the step alone: a step that was dropped is done again as it was
        torch.manual_seed(derive_seed(self.config.seed, "dropout", self.state.step, self.ranks.rank))
        found: list[LossTerms] = []
        for batch in window:
            if self._is_asked_to_end():
                self.optimizer.zero_grad()
                return False
            found.append(self._backward(batch, objective) if batch.tensors else {})
        self._finish_step(window, self.ranks.sum_terms(found))
        self.stopwatch.step_s += now() - begin
        return True

    def _finish_step(self, window: Sequence[Batch], found: Sequence[LossTerms]) -> None:
        """From the gradients of a window and the terms of all ranks to the next step."""
        losses = [terms.pop(CONTRIBUTION)[0] for terms in found]
        total = torch.zeros((), device=losses[0].device)
        for loss in losses:
            total = total + loss
        is_finite = self._optimizer_step(total, len(window))
        for batch, terms in zip(window, found, strict=True):
            self.metrics.add(batch.modality, terms)
        self.metrics.add_value("train/loss", total)
        self._count(window, is_finite=is_finite)
        self._empty_cache()
        if not is_finite:
            self._note_non_finite(window, losses)

    def _next_window(self, batches: Iterator[Drawn[Batch]]) -> list[Batch] | None:
        """The micro-batches of one optimizer step, with the counts of all ranks; fewer where an epoch ends, none when
        its last rows are unreadable. None: somebody asks to end."""
        window: list[Batch] = []
        self._ends_epoch = False
        self._data_state = self.state.data
        while len(window) < self.config.gradient_accumulation_steps and not self._ends_epoch:
            if self._is_asked_to_end():
                return None
            drawn = next(batches)
            self.new_bad_samples.extend(drawn.bad)
            self.new_skipped_samples.extend(drawn.skipped)
            self.new_alerts.extend(drawn.alerts)
            self._data_state, self._ends_epoch = drawn.state, drawn.ends_epoch
            if drawn.part is not None and drawn.part.sample_ids:
                window.append(drawn.part)
        return window

    def _backward(self, batch: Batch, objective: WindowObjective) -> LossTerms:
        """Add a micro-batch's gradients; its terms, and what it adds to the objective.

        Raises: ConfigError when nothing that the loss comes from is trained.
        """
        with self.precision.autocast():
            terms = self.model(f"{batch.modality}.loss", batch)
        loss = objective.contribution(batch, terms)
        if not loss.requires_grad:
            raise ConfigError.of(
                "training.frozen_components",
                f"nothing that the loss of {batch.modality} comes from is trained; take a component out of it, or set "
                f"modalities.{batch.modality}.weight to 0",
                list(self.config.frozen_components),
            )
        share = loss * self._num_averaged(objective.num_batches)
        torch.autograd.backward(share if self.scaler is None else self.scaler.scale(share))
        found = {name: (value.detach(), count.detach()) for name, (value, count) in terms.items()}
        return {**found, CONTRIBUTION: (loss.detach(), torch.ones_like(loss))}

    def _num_averaged(self, num_batches: int) -> int:
        """The gradients that a step takes the mean of. With float16 weights those of all micro-batches of all ranks, in
        float32: divided before their backward pass, as the objective does it, more of them would be too small for
        float16. Else one."""
        return num_batches * self.ranks.world_size if self.precision.has_half_weights else 1

    def _optimizer_step(self, loss: torch.Tensor, num_batches: int) -> bool:
        """Clip, check and step; False when the step was left out for a loss or gradient that is not a number."""
        self.ranks.sum_gradients(self._parameters)
        if (count := self._num_averaged(num_batches)) > 1:
            for parameter in self._parameters:
                if parameter.grad is not None:
                    parameter.grad.div_(count)
        if self.scaler is not None:
            self.scaler.unscale_(self.optimizer)
        norm = gradient_norm(self._parameters, self.max_grad_norm)
        self.metrics.add_value("optim/grad_norm", norm)
        is_finite = bool(torch.isfinite(norm).item())  # the one look from the host in a step
        self.state.skipped_steps += int(not is_finite)
        if self.scaler is not None:
            self.scaler.step(self.optimizer)
            self.scaler.update()
        elif is_finite:
            self.optimizer.step()
        self.ranks.sum_tensors([moe.router.load_E for moe in self.model.moe_layers().values()])
        self.model.update_router_biases()
        if self.is_next_logged:
            for name, value in self.model.moe_metrics().items():
                self.metrics.add_value(name, value)
        self.last_lr = float(self.optimizer.param_groups[0]["lr"])
        self.scheduler.step()
        self.optimizer.zero_grad(set_to_none=self.config.set_to_none)
        return is_finite or self._is_scale_too_large(loss)

    def _is_scale_too_large(self, loss: torch.Tensor) -> bool:
        """Whether a gradient overflowed by its scale alone: the scaler has lowered it, and nothing is wrong."""
        return self.scaler is not None and self.scaler.get_scale() >= 1.0 and bool(torch.isfinite(loss).item())

    def _empty_cache(self) -> None:
        """Give memory that the allocator holds for later back to the driver, every so often, on every rank."""
        every = self.config.empty_cache_freq
        if self.device.type == "cuda" and every and self.state.step % every == 0:
            torch.cuda.empty_cache()

    @property
    def is_next_logged(self) -> bool:
        """Whether metrics of the step under way will be written."""
        return (self.state.step + 1) % self.config.logging_steps == 0

    def _go_on_in_data(self) -> None:
        self.state.epoch += int(self._ends_epoch)
        self.state.data = self._data_state

    def _count(self, window: Sequence[Batch], *, is_finite: bool) -> None:
        state = self.state
        state.step += 1
        self._go_on_in_data()
        state.tokens += sum(batch.num_tokens for batch in window)
        state.samples += sum(len(batch.sample_ids) for batch in window)
        self.control.step = state.step
        if is_finite:
            state.nonfinite_in_a_row = 0
            state.nonfinite_samples = []
        ids: dict[str, tuple[str, ...]] = {}
        for batch in window:
            state.micro_batches[batch.modality] = state.micro_batches.get(batch.modality, 0) + 1
            ids[batch.modality] = ids.get(batch.modality, ()) + batch.sample_ids
        self.last_sample_ids |= ids
        self.stopwatch.steps += 1
        self.stopwatch.tokens += sum(batch.num_tokens for batch in window)

    def _note_non_finite(self, window: Sequence[Batch], losses: Sequence[torch.Tensor]) -> None:
        """Remember what a skipped step was trained on: those of its micro-batches whose loss was not finite, or all.

        Raises: StepsNotFiniteError when that makes too many steps in a row.
        """
        state = self.state
        state.nonfinite_in_a_row += 1
        odd = [batch for batch, loss in zip(window, losses, strict=True) if not bool(torch.isfinite(loss).item())]
        names = [name for batch in odd or window for name in batch.sample_ids]
        for batch in odd or window:
            self.odd_sample_ids[batch.modality] = self.odd_sample_ids.get(batch.modality, ()) + batch.sample_ids
        state.nonfinite_samples = list(dict.fromkeys([*state.nonfinite_samples, *names]))
        if state.nonfinite_in_a_row > self.config.max_nonfinite:
            since = state.step - state.nonfinite_in_a_row + 1
            raise StepsNotFiniteError(
                f"{state.nonfinite_in_a_row} steps in a row had a gradient that is not finite (max_nonfinite "
                f"is {self.config.max_nonfinite}); lower learning_rate, or look at the samples of step {state.step}: "
                f"{', '.join(names)}",
                since,
                state.nonfinite_samples,
            )
