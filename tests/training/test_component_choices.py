"""Components that are frozen, and components that recompute their activations."""

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch
from support.small_models import perturb, seeded
from support.tiny import tiny_config, tiny_corpus
from torch import Tensor, nn

from xoron_core.contract.config.run import RunConfig
from xoron_core.contract.errors import ConfigError
from xoron_core.contract.presets import resolve
from xoron_core.model.components import COMPONENTS
from xoron_core.model.fusion import FusedMedia
from xoron_core.model.layers.checkpointing import Checkpointed
from xoron_core.model.speech.audio_decoder import AudioDecoder
from xoron_core.model.xoron import XoronMultimodalModel
from xoron_core.training.build import build_trainer
from xoron_core.training.control import Control
from xoron_core.training.trainer import XoronTrainer

IMAGES_ALONE = {"modalities": {"text": {"weight": 0.0}}}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_corpus(tmp_path_factory.mktemp("corpus"))


def trained(config: RunConfig) -> tuple[XoronTrainer, dict[str, Tensor]]:
    """A trainer after its last step, and the state of its model before the first."""
    with ExitStack() as resources:
        trainer = build_trainer(config, [], Control(), None, lambda phase: None, resources)
        before = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
        assert trainer.train() is None
    return trainer, before


def changed(trainer: XoronTrainer, before: dict[str, Tensor]) -> set[str]:
    """Components of which anything changed: weights or buffers, but for the routers' counters."""
    return {
        name.partition(".")[0]
        for name, tensor in trainer.model.state_dict().items()
        if not name.endswith("last_load_E") and not torch.equal(tensor, before[name])
    }


@pytest.mark.parametrize("model_dtype", ["float32", "float16"])
def test_a_frozen_component_stays_and_passes_gradients_on(corpus: Path, model_dtype: str) -> None:
    """The generator is last in the path and has experts of its own."""
    options = {"frozen_components": ["generator"], "gradient_checkpointing": True, "model_dtype": model_dtype}
    trainer, before = trained(tiny_config(corpus, IMAGES_ALONE, max_steps=3, **options))
    assert changed(trainer, before) == {"llm"}
    assert all(p.grad is None for p in trainer.model.generator.parameters())
    names = {id(parameter): name for name, parameter in trainer.model.named_parameters()}
    assert {names[id(parameter)].partition(".")[0] for parameter in trainer.optimizer.state} == {"llm"}
    assert trainer.model.generator.training, "the experts' load is counted, and layers are recomputed"
    assert float(trainer.model.moe_metrics()["moe/generator.0/load_max"]) >= 1.0


def test_what_lies_behind_a_frozen_component_learns(corpus: Path) -> None:
    options = {"frozen_components": ["llm", "autoencoder"], "gradient_checkpointing": True}
    trainer, before = trained(tiny_config(corpus, IMAGES_ALONE, max_steps=2, **options))
    assert changed(trainer, before) == {"generator"}


def test_freezing_everything_a_loss_comes_from_is_told_at_its_first_step(corpus: Path) -> None:
    with ExitStack() as resources:
        trainer = build_trainer(tiny_config(corpus), [], Control(), None, lambda phase: None, resources)
        trainer.model.llm.requires_grad_(requires_grad=False)
        trainer.model.generator.requires_grad_(requires_grad=False)
        with pytest.raises(ConfigError, match=r"frozen_components: nothing that the loss of \w+ comes from is trained"):
            trainer.train()


def random(*shape: int) -> Tensor:
    return torch.randn(shape, generator=seeded(sum(shape)))


def through_fusion(model: XoronMultimodalModel) -> Tensor:
    states = random(1, 5, model.config.language.hidden_size)
    media = FusedMedia(model.fusion, states, torch.ones((1, 5), dtype=torch.bool))
    return model.llm(torch.arange(6).unsqueeze(0), media=media).hidden_states_BTD


def seen_by(model: XoronMultimodalModel, frames: int) -> Tensor:
    """Patches of as many pictures."""
    rows, columns = model.config.vision_encoder.grid
    return random(frames, rows * columns, model.config.vision_encoder.hidden_size)


def spoken(model: XoronMultimodalModel) -> Tensor:
    decoder: AudioDecoder = model.audio_decoder
    features = random(1, 8 * decoder.features_per_frame, model.config.audio_encoder.hidden_size)
    return decoder(random(1, 4, model.config.language.hidden_size), audio_features=features)[0]


CALLS: dict[str, Callable[[XoronMultimodalModel], Tensor]] = {
    "llm": lambda m: m.llm(torch.arange(6).unsqueeze(0)).hidden_states_BTD,
    "fusion": through_fusion,
    "vision_encoder": lambda m: m.vision_encoder(random(1, 3, *(2 * (m.config.vision_encoder.image_size,)))),
    "image_compressor": lambda m: m.image_compressor(seen_by(m, 1)),
    "image_projector": lambda m: m.image_projector(m.image_compressor(seen_by(m, 1)).detach()),
    "video_encoder": lambda m: m.video_encoder(seen_by(m, 2), 2)[0],
    "video_projector": lambda m: m.video_projector(seen_by(m, 2).flatten(0, 1).unsqueeze(0)),
    "audio_encoder": lambda m: m.audio_encoder(random(1, 4096), torch.tensor([4096])).features_BFD,
    "audio_decoder": spoken,
    "waveform_decoder": lambda m: m.waveform_decoder(random(1, 80, 2)),
    "generator": lambda m: m.generator(random(1, 4, 4, 4), torch.tensor([0.4]), random(1, 3, m.llm.config.hidden_size)),
    "video_generator": lambda m: m.video_generator(
        random(1, 2, 4, 4, 4), torch.tensor([0.4]), random(1, 3, m.llm.config.hidden_size)
    ),
}
"""A pass through each component that has a stack of layers."""


@pytest.fixture(scope="module")
def everything() -> XoronMultimodalModel:
    """All components of the demo, with four layers of the language model."""
    config = resolve("demo").model
    model = XoronMultimodalModel(config, frozenset(COMPONENTS), vocab_size=300)
    model.init_weights(seeded(3))
    for name, component in model.named_children():
        if name not in {"waveform_decoder", "autoencoder"}:
            perturb(component)  # no gate is closed
    return model.train()


def layers_of(component: nn.Module) -> Iterator[nn.Module]:
    """What a component's stacks run as layers."""
    for stack in component.modules():
        if isinstance(stack, Checkpointed):
            own = [child for child in stack.children() if isinstance(child, nn.ModuleList)]
            yield from (own or [child for child in stack.modules() if isinstance(child, nn.ModuleList)])[0]


def backward(model: XoronMultimodalModel, name: str) -> tuple[Tensor, dict[str, Tensor], Counter[str]]:
    """Outputs, gradients, and how often the layers of each component ran."""
    calls: Counter[str] = Counter()
    with ExitStack() as hooks:
        for component, module in model.named_children():
            for layer in layers_of(module):
                handle = layer.register_forward_pre_hook(lambda *_, component=component: calls.update([component]))
                hooks.callback(handle.remove)
        output = CALLS[name](model)
        output.float().square().sum().backward()
    gradients = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return output.detach(), gradients, calls


@pytest.mark.parametrize("name", list(CALLS))
def test_only_what_is_named_recomputes_and_gradients_are_the_same(everything: XoronMultimodalModel, name: str) -> None:
    everything.gradient_checkpointing_enable(enabled=False)
    kept, expected, once = backward(everything, name)
    assert everything.gradient_checkpointing_enable(components=[name]) == (name,)
    output, gradients, calls = backward(everything, name)
    assert once[name] > 0
    assert calls == once + Counter({name: once[name]})
    assert torch.equal(output, kept)
    assert gradients.keys() == expected.keys()
    assert all(torch.equal(gradients[n], gradient) for n, gradient in expected.items())
    everything.eval()
    assert backward(everything, name)[2] == once, "only training recomputes"
    everything.train()


def test_all_components_with_layers_recompute_where_none_is_named(everything: XoronMultimodalModel) -> None:
    assert set(everything.gradient_checkpointing_enable()) == set(CALLS)
    assert all(module.gradient_checkpointing for module in everything.modules() if isinstance(module, Checkpointed))
    everything.gradient_checkpointing_enable(enabled=False)
    with pytest.raises(ConfigError, match=r"checkpointed_components: ctc_head has no stack of layers here"):
        everything.gradient_checkpointing_enable(components=["llm", "ctc_head"])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"gradient_checkpointing": True}, "gradient checkpointing enabled for: llm, generator"),
        (
            {"gradient_checkpointing": True, "checkpointed_components": ["generator"]},
            "gradient checkpointing enabled for: generator",
        ),
        ({"gradient_checkpointing": False}, None),
    ],
)
def test_a_run_says_what_recomputes(
    corpus: Path, caplog: pytest.LogCaptureFixture, options: dict[str, Any], words: str | None
) -> None:
    with caplog.at_level(logging.INFO), ExitStack() as resources:
        trainer = build_trainer(tiny_config(corpus, **options), [], Control(), None, lambda phase: None, resources)
    told = [message for message in caplog.messages if message.startswith("gradient checkpointing")]
    assert told == ([] if words is None else [words])
    named = set() if words is None else set(words.rpartition(": ")[2].split(", "))
    for name, component in trainer.model.named_children():
        stacks = [module for module in component.modules() if isinstance(module, Checkpointed)]
        assert all(stack.gradient_checkpointing is (name in named) for stack in stacks), name
