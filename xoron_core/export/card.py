"""The model card, `README.md`: what was trained, on what, how far, and how to load it. Only what the run knows."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from xoron_core.contract.config.run import RunConfig
from xoron_core.contract.files import to_yaml
from xoron_core.contract.modalities import modality_infos
from xoron_core.export.description import ModelDescription


@dataclass(frozen=True)
class HeldOut:
    """Values of an evaluation, and the step that they are of."""

    step: int
    values: Mapping[str, float | None]


@dataclass(frozen=True)
class Progress:
    """How far training had got."""

    step: int
    tokens: int
    samples: int


@dataclass(frozen=True)
class ModelCard:
    """What a card is made of; `name` is the repository or the folder."""

    name: str
    description: ModelDescription
    config: RunConfig
    progress: Progress
    held_out: HeldOut | None = None
    notes: tuple[str, ...] = field(default=())

    def render(self) -> str:
        """The text, with the metadata in front that the hub reads."""
        modalities = list(self.config.modality_weights())
        metadata = to_yaml({"library_name": "xoron", "tags": ["xoron", *modalities]})
        parts = [
            f"---\n{metadata}---\n\n# {self.name}\n",
            *(f"{note}\n" for note in self.notes),
            self._training(modalities),
            self._data(modalities),
            self._held_out(),
            _LOADING.format(name=self.name),
            _LICENCE,
        ]
        return "\n".join(part for part in parts if part)

    def _training(self, modalities: list[str]) -> str:
        language = self.description.config.language
        rows = [
            ("modalities", ", ".join(modality_infos()[name].label for name in modalities)),
            ("optimizer steps", f"{self.progress.step:,}"),
            ("text tokens", f"{self.progress.tokens:,}"),
            ("samples", f"{self.progress.samples:,}"),
            ("components", ", ".join(sorted(self.description.components))),
            ("language model", f"{language.num_layers} layers of width {language.hidden_size}, {language.attention}"),
            ("pretrained parts", ", ".join(self._pretrained()) or "none"),
        ]
        return "## Training\n\n" + _table(rows)

    def _pretrained(self) -> list[str]:
        config, components = self.description.public_config, self.description.components
        named = {"vision_encoder": config.vision_encoder.pretrained, "autoencoder": config.autoencoder}
        return [f"{component}: {name}" for component, name in named.items() if component in components and name]

    def _data(self, modalities: list[str]) -> str:
        sources = [(self.config.data.sources[at], name) for name in modalities for at in self.config.sources_of(name)]
        lines = [f"- {source.name} ({source.category})" for source, _ in sources]
        return "## Data\n\n" + "\n".join(lines) + "\n"

    def _held_out(self) -> str:
        if self.held_out is None:
            return ""
        known = [(name, value) for name, value in self.held_out.values.items() if value is not None]
        rows = [(f"`{name}`", f"{value:.4g}") for name, value in known if math.isfinite(value)]
        return f"## Held-out values at step {self.held_out.step:,}\n\n" + _table(rows) if rows else ""


def _table(rows: list[tuple[str, str]]) -> str:
    return "| | |\n|---|---|\n" + "".join(f"| {name} | {value} |\n" for name, value in rows)


_LICENCE = """## Licence

None is stated here. Whoever publishes this model says on what terms it may be used; those of the data and of pretrained
parts apply, too.
"""

_LOADING = """## Loading

With the `xoron` package, all components:

```python
from xoron_core.data.tokenizer import Tokenizer
from xoron_core.export.pretrained import XoronModel

model = XoronModel.from_pretrained("{name}")
```

The language model alone, through transformers:

```python
from transformers import AutoModelForCausalLM, AutoTokenizer
from xoron_core.export import register

register()
model = AutoModelForCausalLM.from_pretrained("{name}")
tokenizer = AutoTokenizer.from_pretrained("{name}")
```
"""
