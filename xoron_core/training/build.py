"""From a configuration to a trainer."""

import logging
from collections.abc import Callable, Collection
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import torch

from xoron_core.contract.config.data import SourceConfig
from xoron_core.contract.config.run import RunConfig
from xoron_core.contract.errors import ConfigError
from xoron_core.contract.events import PhaseName
from xoron_core.contract.sources import check_sources
from xoron_core.data.dataset import DataShare, TrueStreamingDataset
from xoron_core.data.estimate import estimate_epoch
from xoron_core.data.formats import check_format
from xoron_core.data.indexing import index_sources
from xoron_core.data.records import derive_seed
from xoron_core.data.tokenizer import Tokenizer
from xoron_core.distributed.ranks import Alone, Ranks
from xoron_core.modalities.base import Collator, Modality
from xoron_core.modalities.registry import enabled_modalities
from xoron_core.model.xoron import XoronMultimodalModel
from xoron_core.training.adapters.lora import add_adapters
from xoron_core.training.autoencoder import load_autoencoder
from xoron_core.training.component_choices import (
    check_components,
    freeze,
    needed_components,
    recompute_activations,
)
from xoron_core.training.control import Control
from xoron_core.training.evaluation import EvaluationSet
from xoron_core.training.hooks.base import Hook
from xoron_core.training.optimizer import build_optimizer, check_optimizer
from xoron_core.training.precision import keep_weights_in
from xoron_core.training.pretrained_weights import load_pretrained
from xoron_core.training.schedule import build_scheduler
from xoron_core.training.trainer import XoronTrainer
from xoron_core.training.vision_weights import load_vision_weights

log = logging.getLogger(__name__)


def pick_device(config: RunConfig, ranks: Ranks | None = None) -> torch.device:
    """The device to train on; each of several ranks has a GPU of its own.

    Raises: ConfigError when a GPU is asked for and there is none.
    """
    wanted = config.resources.device
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    if wanted == "cuda" and not torch.cuda.is_available():
        raise ConfigError.of("resources.device", "there is no usable GPU here; set it to 'auto' or 'cpu'", "cuda")
    if wanted == "cuda" and ranks is not None and ranks.world_size > 1:
        return torch.device("cuda", ranks.local_rank)
    return torch.device(wanted)


def build_model(
    config: RunConfig,
    modalities: dict[str, Modality[Any, Any]],
    tokenizer: Tokenizer,
    device: torch.device,
    *,
    is_resumed: bool = False,
) -> XoronMultimodalModel:
    """The model with the components that these modalities need, its weights drawn from the seed or pretrained.

    `is_resumed`: a checkpoint will bring all weights, so those that others trained need not be there any more.
    Raises: ConfigError when an option names a component that is not there, or pretrained weights cannot be had or do
    not fit.
    """
    check_components(config, modalities)
    components = needed_components(modalities)
    with torch.device("meta"):
        model = XoronMultimodalModel(config.model, components, vocab_size=tokenizer.vocab_size)
    recompute_activations(model, config.training)
    model.to_empty(device=device)
    model.init_weights(torch.Generator().manual_seed(derive_seed(config.training.seed, "weights")))
    if "autoencoder" in components and not is_resumed:
        load_autoencoder(model, config.model.autoencoder)
    if "vision_encoder" in components and not is_resumed:
        load_vision_weights(model.vision_encoder)
    if config.model.pretrained is not None and not is_resumed:
        load_pretrained(model, config.model.pretrained)
    model.tokenizer = tokenizer
    for modality in modalities.values():
        model.register_task(f"{modality.name}.loss", modality.loss)
        model.register_task(f"{modality.name}.evaluate", modality.evaluate)
    freeze(model, config.training.frozen_components)
    _compile(model, config.training.torch_compile, device)
    if config.lora.use_lora:  # last: the weights under adapters are there, and what is frozen is frozen
        add_adapters(model, config.lora, torch.Generator().manual_seed(derive_seed(config.training.seed, "adapters")))
    if config.training.model_dtype == "float16":
        keep_weights_in(model, torch.float16)
    return model


def _compile(model: XoronMultimodalModel, wanted: bool | None, device: torch.device) -> None:
    """Have layers compiled, as `torch_compile` says."""
    if wanted or (wanted is None and device.type == "cuda"):
        torch._dynamo.config.recompile_limit = 64  # a kind of layer meets several masks and lengths
        model.compile_layers(None if wanted else {"llm"})


def build_dataset(
    config: RunConfig,
    modalities: dict[str, Modality[Any, Any]],
    skip: Collection[str] = (),
    ranks: Ranks | None = None,
    cache: Path | None = None,
    on_progress: Callable[[], None] = lambda: None,
) -> TrueStreamingDataset:
    """The training data of the enabled modalities, without the samples in `skip`."""
    ranks = ranks or Alone()
    return TrueStreamingDataset(
        sources_with_modality(config, modalities),
        modalities,
        config.modality_weights(),
        config.training.seed,
        config.data,
        skip=skip,
        share=DataShare(ranks.rank, ranks.world_size, ranks.gather),
        cache=cache,
        on_progress=on_progress,
    )


def sources_with_modality(
    config: RunConfig, modalities: dict[str, Modality[Any, Any]]
) -> list[tuple[SourceConfig, str]]:
    """Every source that feeds an enabled modality, in the order of the configuration."""
    pairs = [(index, name) for name in modalities for index in config.sources_of(name)]
    return [(config.data.sources[index], name) for index, name in sorted(pairs)]


def total_steps(config: RunConfig, dataset: TrueStreamingDataset) -> int:
    """Optimizer steps that the schedule is laid out for."""
    training = config.training
    if training.max_steps is not None:
        return training.max_steps
    per_epoch = estimate_epoch(dataset) / training.gradient_accumulation_steps
    return max(1, round(per_epoch * training.num_epochs))


def build_trainer(
    config: RunConfig,
    hooks: list[Hook],
    control: Control,
    resume_from: Path | None,
    on_phase: Callable[[PhaseName], None],
    resources: ExitStack,
    ranks: Ranks | None = None,
    skip: Collection[str] = (),
    between_parts: Callable[[], None] = lambda: None,
    cache: Path | None = None,
    on_detail: Callable[[str], None] = lambda _: None,
) -> XoronTrainer:
    """A trainer that is ready to train, without the samples in `skip`; what it keeps open is closed with `resources`.

    `on_phase` and `between_parts` are called at the same points on all ranks, and may raise to leave the set-up.
    `cache` is where indexes of files are kept; `on_detail` is told how far looking through them is.
    Raises: ConfigError, DataError or CheckpointError, whatever stands in the way, before the first step.
    """
    check_sources(config)
    check_optimizer(config.training)
    for name in config.modality_weights():
        for index in config.sources_of(name):
            check_format(config.data.sources[index], f"data.sources.{index}")
    torch.set_num_threads(config.resources.threads or torch.get_num_threads())
    ranks = ranks or Alone()
    device = pick_device(config, ranks)
    torch.manual_seed(derive_seed(config.training.seed, "global"))
    on_phase("data")
    tokenizer = Tokenizer.load(config.model.tokenizer)
    modalities = enabled_modalities(config, tokenizer)
    check_components(config, modalities)
    sources = sources_with_modality(config, modalities)
    if ranks.is_first:  # the others find the indexes in the cache
        on_wait = between_parts if ranks.world_size == 1 else control.poll  # the others wait for what this one says
        index_sources([source for source, _ in sources], cache, on_wait, on_detail)
    between_parts()
    dataset = build_dataset(config, modalities, skip, ranks, cache, control.poll)
    resources.enter_context(closing(dataset))
    held_out = sources if ranks.is_first else []  # only rank 0 evaluates
    evaluation = EvaluationSet(held_out, modalities, config.evaluation, cache, control.poll)
    between_parts()
    on_phase("model")
    model = build_model(config, modalities, tokenizer, device, is_resumed=resume_from is not None)
    parts = model.num_parameters()
    log.info("%s parameters on %s: %s", f"{sum(parts.values()):,}", device, parts)
    between_parts()
    optimizer = build_optimizer(model, config.training, config.lora)
    scheduler = build_scheduler(optimizer, total_steps(config, dataset), config.training)
    if resume_from is not None:
        on_phase("restoring")
    return XoronTrainer(
        model,
        dataset,
        optimizer,
        scheduler,
        config.training,
        config.model,
        Collator(modalities),
        resume_from=resume_from,
        tokenizer=tokenizer,
        eval_dataset=evaluation,
        hooks=hooks,
        control=control,
        ranks=ranks,
    )
