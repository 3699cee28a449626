"""`RunConfig`: parses the command line, validates `POST /runs`, renders the form, is saved with every checkpoint."""

from typing import Any

from pydantic import model_validator

from xoron_core.contract.config.data import DataConfig
from xoron_core.contract.config.lora import LoraConfig
from xoron_core.contract.config.model import XoronConfig
from xoron_core.contract.config.section import FieldValueError, Section
from xoron_core.contract.config.training import (
    CheckpointConfig,
    EvaluationConfig,
    HubConfig,
    ResourcesConfig,
    TrainingConfig,
    TroubleConfig,
)
from xoron_core.contract.modalities import ModalitiesConfig, modality_infos


class RunConfig(Section):
    """Everything that decides what a run does. Defaults are those of the `base` preset."""

    model: XoronConfig = XoronConfig()
    """What is built."""
    data: DataConfig = DataConfig()
    """What it learns from."""
    modalities: ModalitiesConfig = ModalitiesConfig()
    """What it learns, in what shares."""
    training: TrainingConfig = TrainingConfig()
    """How it learns."""
    lora: LoraConfig = LoraConfig()
    """Adapters that learn in the place of whole weights."""
    evaluation: EvaluationConfig = EvaluationConfig()
    """How it is judged."""
    checkpoint: CheckpointConfig = CheckpointConfig()
    """What is kept."""
    hub: HubConfig = HubConfig()
    """Where it is published."""
    trouble: TroubleConfig = TroubleConfig()
    """What happens when things go wrong."""
    resources: ResourcesConfig = ResourcesConfig()
    """What it runs on."""

    @model_validator(mode="after")
    def _modalities_have_sources(self) -> "RunConfig":
        infos = modality_infos()
        known = {category for info in infos.values() for category in info.categories}
        for source in self.data.sources:
            if source.category not in known:
                raise ValueError(
                    f"source {source.name!r} has the unknown category {source.category!r}; "
                    f"known: {', '.join(sorted(known))}"
                )
        weights = self.modality_weights()
        for name in weights:
            if not self.sources_of(name):
                raise ValueError(
                    f"modality {name!r} has no data: add to data.sources one whose category is among "
                    f"{', '.join(infos[name].categories)}, or set modalities.{name}.weight to 0 or null"
                )
        if not weights:
            raise FieldValueError(
                "data.sources",
                "nothing is trained: give data.sources a source, as in [{name: mine, category: document, path: "
                "/data/mine.jsonl}], and its modality a modalities.<name>.weight that is null or above 0",
            )
        return self

    @model_validator(mode="after")
    def _modalities_fit_the_model(self) -> "RunConfig":
        for name in self.modality_weights():
            self.modalities.get(name).check(self.model)
        return self

    @model_validator(mode="after")
    def _rows_fit_positions(self) -> "RunConfig":
        length, limit = self.training.max_seq_length, self.model.language.max_position_embeddings
        if length > limit:
            raise ValueError(
                f"training.max_seq_length {length} is more than model.language.max_position_embeddings {limit}; "
                "lower the one or raise the other"
            )
        return self

    @model_validator(mode="after")
    def _adapters_fit(self) -> "RunConfig":
        """What learns nothing by adapters would fail at its first step, were they all that is trained."""
        lora, asr = self.lora, self.modalities.asr
        if not lora.use_lora:
            return self
        lora.check(self.model.language)
        without = {"tts": True, "asr": asr.asr_loss == "ctc"}
        stuck = [name for name in self.modality_weights() if without.get(name, False)]
        if lora.train_lora_only and stuck:
            weights = " and ".join(f"modalities.{name}.weight" for name in stuck)
            raise FieldValueError(
                "lora.train_lora_only",
                f"{' and '.join(stuck)} would learn nothing, since the loss does not go through the weights that have "
                f"adapters; set lora.train_lora_only to false, or {weights} to 0",
            )
        return self

    @model_validator(mode="after")
    def _balance_fits_processes(self) -> "RunConfig":
        """The auxiliary loss is a product of means over a micro-batch: those of its parts do not add up to it."""
        model = self.model
        experts = {
            "language": model.language.moe,
            "video_encoder": model.video_encoder.moe,
            "image_generator": model.image_generator.moe,
            "video_generator": model.video_generator.moe,
        }
        for component, moe in experts.items():
            if moe.balance == "aux_loss" and self.resources.num_processes > 1:
                raise ValueError(
                    f"model.{component}.moe.balance is 'aux_loss', which {self.resources.num_processes} processes "
                    "(resources.processes) cannot share; set it to 'loss_free', or train with one process"
                )
        return self

    @model_validator(mode="after")
    def _best_metric_is_evaluated(self) -> "RunConfig":
        metric, known = self.checkpoint.best_metric, self.evaluated_metrics()
        if metric not in known:
            raise FieldValueError(
                "checkpoint.best_metric",
                f"{metric!r} is no metric that evaluations of this run give and that is to fall; "
                f"there are: {', '.join(known)}",
            )
        return self

    def evaluated_metrics(self) -> list[str]:
        """The metrics that are to fall and that evaluations may give; whether there are rows for each is not known."""
        infos = modality_infos()
        held_out = [
            name
            for name in self.modality_weights()
            if any(self.data.sources[index].eval_split is not None for index in self.sources_of(name))
        ]
        falling = [metric.name for name in held_out for metric in infos[name].metrics if metric.better == "lower"]
        return ["eval/loss", *(f"eval/{name}" for name in falling)]

    def modality_weights(self) -> dict[str, float]:
        """The modalities that are trained, in the order of their fields, and their shares of the micro-batches."""
        weights = {
            name: config.weight if config.weight is not None else float(bool(self.sources_of(name)))
            for name, config in self.modalities
        }
        return {name: weight for name, weight in weights.items() if weight > 0}

    def sources_of(self, modality: str) -> list[int]:
        """Positions in `data.sources` of those that feed a modality."""
        categories = modality_infos()[modality].categories
        return [index for index, source in enumerate(self.data.sources) if source.category in categories]


def merge(base: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    """`base` with `overrides` laid over it: mappings merge key by key, anything else is replaced."""
    merged = dict(base)
    for key, value in overrides.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged
