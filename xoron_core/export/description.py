"""What an exported model is: `config.json`, from which it is built again."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from xoron_core.contract.config.model import XoronConfig
from xoron_core.contract.errors import CheckpointError
from xoron_core.model.autoencoder import AutoencoderConfig
from xoron_core.model.xoron import XoronMultimodalModel

CONFIG_FILE = "config.json"
MODEL_TYPE = "xoron"
ARCHITECTURE = "XoronForCausalLM"
_SPECIAL_IDS = ("bos_token_id", "eos_token_id", "pad_token_id")


@dataclass(frozen=True)
class ModelDescription:
    """What a model is built from; `special_ids` are those of the tokenizer, by transformers' names."""

    config: XoronConfig
    components: frozenset[str]
    vocab_size: int
    autoencoder: AutoencoderConfig
    special_ids: Mapping[str, int] = field(default_factory=dict)
    dtype: str = "float32"

    @classmethod
    def of(cls, model: XoronMultimodalModel, special_ids: Mapping[str, int]) -> "ModelDescription":
        """The description of a model that stands in memory. Raises: ValueError for one without a language model."""
        if "llm" not in model.components:
            raise ValueError("the model has no language model, which an exported one must have; add llm to components")
        autoencoder = model.autoencoder.config if "autoencoder" in model.components else AutoencoderConfig()
        dtype = str(model.llm.model.embed_tokens.weight.dtype).removeprefix("torch.")
        return cls(model.config, model.components, model.llm.vocab_size, autoencoder, special_ids, dtype)

    @property
    def public_config(self) -> XoronConfig:
        """The configuration; paths on this machine lose all but their last part: an exported model goes elsewhere."""
        return _without_folders(self.config)

    def to_json(self) -> dict[str, Any]:
        """The content of `config.json`."""
        return {
            "model_type": MODEL_TYPE,
            "architectures": [ARCHITECTURE],
            "dtype": self.dtype,
            "vocab_size": self.vocab_size,
            **self.special_ids,
            "components": sorted(self.components),
            "xoron": self.public_config.to_dict(),
            "autoencoder": asdict(self.autoencoder),
        }

    @classmethod
    def of_json(cls, values: Mapping[str, Any], where: str) -> "ModelDescription":
        """From the content of `config.json`; keys that transformers adds are left alone.

        Raises: CheckpointError saying what is missing `where`; ConfigError for options that this version does not know.
        """
        if values.get("model_type") != MODEL_TYPE:
            raise CheckpointError(f"{where} is of model_type {values.get('model_type')!r}, not {MODEL_TYPE!r}")
        try:
            return cls(
                XoronConfig.parse(values["xoron"]),
                frozenset(values["components"]),
                values["vocab_size"],
                AutoencoderConfig.from_json(values["autoencoder"]),
                {name: values[name] for name in _SPECIAL_IDS if values.get(name) is not None},
                values.get("dtype") or "float32",
            )
        except (KeyError, TypeError) as error:
            raise CheckpointError(f"{where} does not describe a model: {error}; export it anew") from error

    @classmethod
    def read(cls, folder: Path) -> "ModelDescription":
        """The description in a folder. Raises: CheckpointError, ConfigError."""
        path = folder / CONFIG_FILE
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{folder} is no exported model: {path} cannot be read: {error}") from error
        return cls.of_json(values, str(path))

    def with_components(self, components: frozenset[str] | None) -> "ModelDescription":
        """A part of the model; None: all of it. Raises: ValueError for components that it does not have."""
        if components is None:
            return self
        if unknown := components - self.components:
            there = ", ".join(sorted(self.components))
            raise ValueError(f"components {', '.join(sorted(unknown))} are not in the model; it has {there}")
        return replace(self, components=components)

    def build(self, kind: type[XoronMultimodalModel] = XoronMultimodalModel) -> XoronMultimodalModel:
        """The model on the meta device: shapes without memory."""
        with torch.device("meta"):
            return kind(self.config, self.components, vocab_size=self.vocab_size, autoencoder_config=self.autoencoder)


def _without_folders(config: XoronConfig) -> XoronConfig:
    pretrained = config.vision_encoder.pretrained
    vision = config.vision_encoder.model_copy(update={"pretrained": pretrained and _without_folder(pretrained)})
    return config.model_copy(
        update={
            "tokenizer": _without_folder(config.tokenizer),
            "pretrained": None,
            "autoencoder": _without_folder(config.autoencoder),
            "vision_encoder": vision,
        }
    )


def _without_folder(name: str) -> str:
    """A name on the hub as it is; of a path its last part."""
    is_path = name.startswith(("/", "~", ".")) or name.count("/") > 1 or Path(name).exists()
    return Path(name).name if is_path else name
