"""The reference's face of the trainer: its attributes and methods by name, over what does the work.

`docs/reference.md` maps every line of the reference to this project.
"""

import logging
import math
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.amp import GradScaler
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from xoron_core.contract.config.training import TrainingConfig
from xoron_core.contract.errors import CheckpointError, ConfigError
from xoron_core.contract.modalities import ModalitiesConfig
from xoron_core.contract.modalities.base import ModalityConfig
from xoron_core.contract.modalities.text import TextConfig
from xoron_core.data.tokenizer import Tokenizer
from xoron_core.modalities.base import Modality
from xoron_core.modalities.text.weighting import TokenWeighting, group_ids
from xoron_core.model.cross_entropy import IGNORED
from xoron_core.model.placement import move_tensors
from xoron_core.model.xoron import XoronMultimodalModel
from xoron_core.training.control import Control
from xoron_core.training.evaluation import MEAN_LOSS, EvaluationSet, evaluate
from xoron_core.training.hooks.base import Hook
from xoron_core.training.hooks.checkpoints import CheckpointHook
from xoron_core.training.hooks.evaluation import EvaluationHook
from xoron_core.training.precision import Precision, check_saved_precision
from xoron_core.training.reference_batch import read_rows
from xoron_core.training.reference_checkpoint import ReferenceCheckpoint
from xoron_core.training.snapshot import Receipt
from xoron_core.training.state import TrainerState
from xoron_core.training.steps import (
    BatchError,
    take,
    train_image_diffusion_step,
    train_video_diffusion_step,
    train_voice_asr_step,
    train_voice_tts_step,
)

if TYPE_CHECKING:
    from xoron_core.training.trainer import XoronTrainer

log = logging.getLogger(__name__)

H = TypeVar("H", bound=Hook)

PARTS: Mapping[str, tuple[str, str]] = {
    "has_image_gen": ("image_generation", "generator"),
    "has_video_gen": ("video_generation", "video_generator"),
    "has_asr": ("asr", "audio_projector"),
    "has_tts": ("tts", "audio_decoder"),
}
"""Flag of a batch → the modality, and the component that it cannot do without."""


class ReferenceTrainer:
    """What the reference's `XoronTrainer` has beside its constructor and `train`."""

    model: XoronMultimodalModel
    optimizer: Optimizer
    scheduler: LRScheduler
    config: TrainingConfig
    tokenizer: Tokenizer | None
    eval_dataset: EvaluationSet | None
    hooks: list[Hook]
    control: Control
    modalities: Mapping[str, Modality[Any, Any]]
    device: torch.device
    scaler: GradScaler | None
    state: TrainerState
    precision: Precision
    receipt: Receipt | None

    def load_checkpoint(self, path: Path) -> Receipt:
        """Go on where a checkpoint of this project left off."""
        raise NotImplementedError

    # Where training stands

    @property
    def start_epoch(self) -> int:
        """The epoch that `train` begins with, or is in."""
        return self.state.epoch

    @property
    def best_loss(self) -> float | None:
        """The lowest value of the metric that decides which checkpoint is best; None before an evaluation."""
        return self.state.best_loss

    # Loss weights: those of the configuration, which `train` goes by; its defaults where a modality is not enabled

    @property
    def llm_loss_weight(self) -> float:
        """Of text."""
        return self._config_of("text").loss_weight

    @property
    def image_diffusion_loss_weight(self) -> float:
        """Of image generation."""
        return self._config_of("image_generation").loss_weight

    @property
    def video_diffusion_loss_weight(self) -> float:
        """Of video generation."""
        return self._config_of("video_generation").loss_weight

    @property
    def asr_loss_weight(self) -> float:
        """Of speech recognition."""
        return self._config_of("asr").loss_weight

    @property
    def tts_loss_weight(self) -> float:
        """Of speech synthesis."""
        return self._config_of("tts").loss_weight

    @property
    def cot_loss_weight(self) -> float:
        """Of reasoning's tags."""
        return self._text_config.cot_loss_weight

    @property
    def tool_loss_weight(self) -> float:
        """Of the tags of tool calls."""
        return self._text_config.tool_loss_weight

    @property
    def anti_hallucination_loss_weight(self) -> float:
        """Of the tags of uncertainty and citation."""
        return self._text_config.anti_hallucination_loss_weight

    @property
    def code_exec_loss_weight(self) -> float:
        """Of the tags of code execution."""
        return self._text_config.code_exec_loss_weight

    @cached_property
    def reasoning_token_ids(self) -> frozenset[int]:
        """Ids of the tags, opening and closing, that `cot_loss_weight` is for."""
        return group_ids(self._tokenizer, "reasoning")

    @cached_property
    def tool_block_ids(self) -> frozenset[int]:
        """Ids of the tags that `tool_loss_weight` is for."""
        return group_ids(self._tokenizer, "tool")

    @cached_property
    def anti_hallucination_token_ids(self) -> frozenset[int]:
        """Ids of the tags that `anti_hallucination_loss_weight` is for."""
        return group_ids(self._tokenizer, "anti_hallucination")

    @cached_property
    def code_exec_token_ids(self) -> frozenset[int]:
        """Ids of the tags that `code_exec_loss_weight` is for."""
        return group_ids(self._tokenizer, "code_execution")

    # Losses

    def _compute_weighted_loss(self, logits: Tensor, labels: Tensor, loss_mask: Tensor | None = None) -> Tensor:
        """Cross-entropy of `labels` [B, T] by `logits` [B, T, V] of the tokens before them, weighted by the labels' ids
        in token form: a scalar, zero where no label counts.

        Labels of -100, and those where `loss_mask` [B, T] is 0, count neither above nor below the line. What `train`
        computes in chunks is the same number.
        """
        labels_BT = labels[..., 1:]
        if loss_mask is not None:
            labels_BT = labels_BT.masked_fill(loss_mask[..., 1:] == 0, IGNORED)
        labels_N = labels_BT.flatten()
        logits_NV = logits[..., :-1, :].flatten(0, -2).float()
        losses_N = F.cross_entropy(logits_NV, labels_N, reduction="none", ignore_index=IGNORED)
        weights_V = self._token_weights(logits.shape[-1], labels.device)
        weights_N = weights_V[labels_N.clamp(min=0)].masked_fill(labels_N == IGNORED, 0.0)
        return (losses_N * weights_N).sum() / weights_N.sum().clamp(min=1e-12)

    def _compute_loss(self, batch: Mapping[str, Any]) -> Tensor:
        """The weighted sum of the losses of all that a batch of the reference's form holds; a scalar.

        Its keys: `input_ids`, `labels`, beside them `attention_mask`, `images`, `videos`, `audio` (see `read_rows`);
        `has_image_gen` with `gen_images` and `gen_prompts`; `has_video_gen` with `gen_videos` and `gen_prompts`;
        `has_asr` with `audio` and `transcripts`; `has_tts` with `text`, `target_audio` and perhaps `speaker_ref`.
        Raises: BatchError naming the key that is missing, does not fit, or asks for what this model does not have.
        """
        if self.model.tokenizer is None:
            self.model.tokenizer = self._tokenizer
        losses: list[Tensor] = []
        if "input_ids" in batch or "labels" in batch:
            table = self.model.llm.model.embed_tokens.weight
            weights_V = self._token_weights(len(table), table.device)
            loss, aux_loss = read_rows(self.model, self.modalities, batch, weights_V)
            losses.append(self.llm_loss_weight * (loss + aux_loss))
        if self._has(batch, "has_image_gen"):
            loss = train_image_diffusion_step(self.model, *take(batch, "gen_images", "gen_prompts"))
            losses.append(self.image_diffusion_loss_weight * loss)
        if self._has(batch, "has_video_gen"):
            loss = train_video_diffusion_step(self.model, *take(batch, "gen_videos", "gen_prompts"))
            losses.append(self.video_diffusion_loss_weight * loss)
        if self._has(batch, "has_asr"):
            loss = train_voice_asr_step(self.model, *take(batch, "audio", "transcripts"))
            losses.append(self.asr_loss_weight * loss)
        if self._has(batch, "has_tts"):
            text, audio = take(batch, "text", "target_audio")
            loss = train_voice_tts_step(self.model, text, audio, batch.get("speaker_ref"))
            losses.append(self.tts_loss_weight * loss)
        if not losses:
            raise BatchError("input_ids", f"nothing to learn in a batch with {', '.join(batch) or 'no keys'}")
        return torch.stack([loss.to(self.device) for loss in losses]).sum()

    def _has(self, batch: Mapping[str, Any], flag: str) -> bool:
        """Whether a batch has this part. Raises: BatchError where the model cannot learn it."""
        if not batch.get(flag):
            return False
        modality, component = PARTS[flag]
        if component not in self.model.components:
            raise BatchError(flag, f"the model was built without {component}; enable modalities.{modality}")
        return True

    # Around the steps

    def _move_to_device(self, batch: Any) -> Any:
        """A batch of any form with its tensors on the trainer's device; texts stay."""
        return move_tensors(batch, self.device)

    def _log_metrics(self, loss: float) -> None:
        """Say how far training is; metrics themselves are events, which a hook writes."""
        log.info("epoch %d, step %d: mean loss %.4f", self.state.epoch, self.state.step, loss)

    def _evaluate(self, epoch: int) -> None:
        """Evaluate the held-out rows; the means are logged, the best of them noted.

        With a hook that evaluates, it does so as in training: it writes an event, unless this step has one. Raises:
        ConfigError without held-out rows.
        """
        if self.eval_dataset is None:
            raise ConfigError.of("eval_dataset", "there is none to evaluate on; give the trainer one")
        if (hook := self._hook(EvaluationHook)) is not None:
            hook.run(cast("XoronTrainer", self))
            return
        was_training = self.model.training
        self.model.eval()
        with self.precision.in_evaluation():
            for values in evaluate(self.model, self.eval_dataset, self.modalities, self.device):
                for name, value in (values or {}).items():
                    log.info("epoch %d: %s %.4f", epoch, name, value)
                mean = (values or {}).get(MEAN_LOSS, math.inf)
                if mean < (math.inf if self.state.best_loss is None else self.state.best_loss):
                    self.state.best_loss, self.state.best_step = mean, self.state.step
        self.model.train(was_training)

    def _save_checkpoint(self, epoch: int) -> Path:
        """Write a checkpoint of this step, where it has none, into the run directory that the trainer's hooks know;
        the folder.

        Raises: CheckpointError where no hook writes checkpoints, or the disk refuses one and somebody asks to end.
        """
        hook = self._hook(CheckpointHook)
        if hook is None:
            raise CheckpointError(
                "this trainer has no run directory to write checkpoints into; give it hooks, as "
                "xoron_core.training.hooks.standard_hooks makes them"
            )
        problem = hook.write(cast("XoronTrainer", self), "requested", lambda: self.control.end is not None)
        if problem is not None:
            raise CheckpointError(f"no checkpoint at step {self.state.step}: {problem}")
        path = hook.run.checkpoint_dir(self.state.step)
        log.info("epoch %d: saved checkpoint %s", epoch, path)
        return path

    def _load_checkpoint(self, path: str | Path) -> Receipt:
        """Go on where a checkpoint left off: a folder as this project writes it, or a file as the reference does.

        Such a file knows epochs alone and nothing of the data: training goes on with the epoch after it, and the data
        begin anew. Raises: CheckpointError when it cannot be used.
        """
        path = Path(path)
        if not path.is_file():
            return self.load_checkpoint(path)
        found = ReferenceCheckpoint.read(path)
        check_saved_precision(self.model, found.model)
        restored = found.restore(self.model, self.optimizer, self.scheduler, self.scaler)
        state = self.state
        state.epoch, state.step, state.best_loss = found.epoch + 1, found.global_step, found.best_loss
        self.control.step = state.step
        missing = ["scaler"] if self.scaler is not None and found.scaler is None else []
        self.receipt = Receipt(
            restored=[*restored, "epoch", "step", "best_loss"], reset=["data", "metrics", "rng"], missing=missing
        )
        log.info("resumed from %s: epoch %d, step %d", path, self.start_epoch, state.step)
        return self.receipt

    def _enable_gradient_checkpointing(self) -> tuple[str, ...]:
        """Recompute activations in the backward pass, of the components that the configuration names or of all that
        have layers; their names."""
        enabled = self.model.gradient_checkpointing_enable(components=self.config.checkpointed_components)
        log.info("gradient checkpointing enabled for: %s", ", ".join(enabled) or "nothing")
        return enabled

    # What the above is made of

    def _hook(self, kind: type[H]) -> H | None:
        return next((hook for hook in self.hooks if isinstance(hook, kind)), None)

    def _config_of(self, modality: str) -> ModalityConfig:
        enabled = self.modalities.get(modality)
        return ModalitiesConfig().get(modality) if enabled is None else enabled.config

    @property
    def _text_config(self) -> TextConfig:
        config = self._config_of("text")
        assert isinstance(config, TextConfig)
        return config

    @property
    def _tokenizer(self) -> Tokenizer:
        """The trainer's, else the model's. Raises: ConfigError where neither has one."""
        tokenizer: Tokenizer | None = self.tokenizer or self.model.tokenizer
        if tokenizer is None:
            raise ConfigError.of("tokenizer", "special tokens are weighted by their ids; give the trainer a tokenizer")
        return tokenizer

    @cached_property
    def _weights_of_ids(self) -> Tensor:
        """The weight of each id of the vocabulary as a label, in token form."""
        return torch.from_numpy(TokenWeighting(self._text_config, self._tokenizer).token_weights)

    def _token_weights(self, num_ids: int, device: torch.device) -> Tensor:
        """The same for a table of `num_ids` rows, the last of which are padding."""
        known_V = self._weights_of_ids[:num_ids]
        return F.pad(known_V, (0, num_ids - len(known_V)), value=1.0).to(device)
