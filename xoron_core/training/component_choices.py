"""Which components are trained, and which recompute their activations: what the configuration names must be there."""

import logging
from collections.abc import Collection, Mapping
from typing import Any

from xoron_core.contract.config.run import RunConfig
from xoron_core.contract.config.training import TrainingConfig
from xoron_core.contract.errors import ConfigError, FieldProblem
from xoron_core.modalities.base import Modality
from xoron_core.model.xoron import XoronMultimodalModel

log = logging.getLogger(__name__)

NEVER_TRAINED = frozenset({"autoencoder"})
FROZEN_FIELD = "training.frozen_components"


def needed_components(modalities: Mapping[str, Modality[Any, Any]]) -> frozenset[str]:
    """The components that a run has: those that its modalities need."""
    return frozenset[str]().union(*(modality.components for modality in modalities.values()))


def check_components(config: RunConfig, modalities: Mapping[str, Modality[Any, Any]]) -> None:
    """Before a model is built.

    Raises: ConfigError when an option names components that the run does not have, or leaves a modality nothing to
    learn with.
    """
    training, built = config.training, needed_components(modalities)
    problems = _not_built(FROZEN_FIELD, training.frozen_components, built)
    if training.checkpointed_components is not None:
        problems += _not_built("training.checkpointed_components", training.checkpointed_components, built)
    fixed = NEVER_TRAINED.union(training.frozen_components)
    stuck = [name for name, modality in modalities.items() if modality.components <= fixed]
    if stuck and not config.lora.use_lora:  # adapters would learn in the place of frozen weights
        weights = " and ".join(f"modalities.{name}.weight" for name in stuck)
        message = f"nothing that {' and '.join(stuck)} could learn with is left to train; take a component out of it"
        cure = f", or set {weights} to 0" if len(stuck) < len(modalities) else ""
        problems.append(FieldProblem(FROZEN_FIELD, message + cure, list(training.frozen_components)))
    if problems:
        raise ConfigError(problems)


def _not_built(field: str, names: Collection[str], built: frozenset[str]) -> list[FieldProblem]:
    missing = sorted(set(names) - built)
    if not missing:
        return []
    message = f"this run has no {', '.join(missing)}; take it out, or name some of {', '.join(sorted(built))}"
    return [FieldProblem(field, message, list(names))]


def freeze(model: XoronMultimodalModel, names: Collection[str]) -> None:
    """Leave components as they are: no gradients, no optimizer state, no nudged routers. Gradients still flow through
    them to what lies before."""
    for name in names:
        model.get_submodule(name).requires_grad_(requires_grad=False)
    if names:
        log.info("frozen: %s", ", ".join(names))


def recompute_activations(model: XoronMultimodalModel, training: TrainingConfig) -> None:
    """Let the stacks of the components that are asked for recompute their activations, and say which these are.

    Raises: ConfigError for a component that has no stack of layers.
    """
    if training.gradient_checkpointing:
        names = model.gradient_checkpointing_enable(components=training.checkpointed_components)
        log.info("gradient checkpointing enabled for: %s", ", ".join(names) or "nothing")
