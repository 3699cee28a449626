"""Components on several devices: which goes where, and that nothing is computed across devices unasked."""

import copy
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any, get_args

import pytest
import torch
from support.reference_batches import tiny_everything
from torch._subclasses.fake_tensor import FakeTensorMode

from xoron_core.contract.config.components import ComponentName
from xoron_core.data.formats import format_record
from xoron_core.data.records import Record, SampleOrigin
from xoron_core.data.sources import open_source
from xoron_core.data.sources.base import Source
from xoron_core.data.tokenizer import Tokenizer
from xoron_core.distributed.device_map import get_device_map
from xoron_core.modalities.base import Batch, Modality
from xoron_core.modalities.registry import enabled_modalities
from xoron_core.model.components import COMPONENTS
from xoron_core.model.generation import generate
from xoron_core.model.placement import ENTRIES, move_tensors
from xoron_core.model.speech.mel import compute_mel_spectrogram
from xoron_core.model.xoron import XoronMultimodalModel

ENCODERS = {"vision_encoder", "image_compressor", "video_encoder", "audio_encoder", "ctc_head", "speaker_encoder"}
PROJECTORS = {"image_projector", "video_projector", "audio_projector"}
GENERATORS = {"autoencoder", "generator", "video_generator", "audio_decoder", "waveform_decoder"}
LANGUAGE = {"llm", "fusion"}

APART = {
    **dict.fromkeys(LANGUAGE, "cpu"),
    **dict.fromkeys(ENCODERS | PROJECTORS, "cpu:1"),
    **dict.fromkeys(GENERATORS, "cpu:2"),
}
"""Devices that only pretended tensors tell apart: these refuse to be computed with one another."""


def on(device_map: Mapping[str, str], device: str) -> set[str]:
    return {name for name, where in device_map.items() if where == device}


def test_components_go_where_the_reference_says() -> None:
    everything = set(COMPONENTS)
    assert everything == set(get_args(ComponentName)) == ENCODERS | PROJECTORS | GENERATORS | LANGUAGE
    assert on(get_device_map(1), "cuda:0") == everything
    two = get_device_map(2)
    assert (on(two, "cuda:0"), on(two, "cuda:1")) == (ENCODERS | PROJECTORS | GENERATORS, LANGUAGE)
    for count in (3, 4, 8):
        many = get_device_map(count)
        assert on(many, "cuda:0") == ENCODERS | PROJECTORS
        assert on(many, "cuda:1") == LANGUAGE
        assert on(many, "cuda:2") == GENERATORS
    assert on(get_device_map(0), "cpu") == everything
    with pytest.raises(ValueError, match="got -1"):
        get_device_map(-1)


@pytest.fixture(scope="module")
def modalities() -> dict[str, Modality[Any, Any]]:
    only_text = {"asr": {"asr_loss": "cross_entropy"}}  # CTC reads lengths, which pretended tensors do not have
    config = tiny_everything({"modalities": only_text, "training": {"max_seq_length": 256}})
    compute_mel_spectrogram(torch.zeros(1, 600))  # its filters are made of real tensors, once
    return enabled_modalities(config, Tokenizer.load("demo"))


def batch_of(modality: Modality[Any, Any]) -> Batch:
    """Two real rows."""
    source = modality.run_config.data.sources[modality.run_config.sources_of(modality.name)[0]]
    with closing(open_source(source, source.split, None)) as opened:
        assert isinstance(opened, Source)
        records = [format_record(opened.read(at), source, at) for at in range(2)]
        return modality.collate(
            [modality.prepare(record, SampleOrigin(source.name, record.index, 7 + record.index)) for record in records]
        )


def model_of(modality: Modality[Any, Any], device_map: Mapping[str, str] | None = None) -> XoronMultimodalModel:
    config, tokenizer = modality.run_config.model, modality.tokenizer
    with torch.device("meta"):
        return XoronMultimodalModel(config, modality.components, vocab_size=tokenizer.vocab_size, device_map=device_map)


@contextmanager
def pretending() -> Iterator[FakeTensorMode]:
    """Tensors that know their device and shape alone; in bfloat16, as grouped products want them there."""
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    with mode, torch.autocast("cpu", torch.bfloat16):
        yield mode


NAMES = ("text", "image_understanding", "image_generation", "video_understanding", "video_generation", "asr", "tts")


@pytest.mark.parametrize("name", NAMES)
def test_a_step_never_mixes_devices(name: str, modalities: Any) -> None:
    modality = modalities[name]
    model, batch = model_of(modality).train(), batch_of(modality)
    with pretending() as mode:
        model.place(APART)
        assert {str(p.device) for p in model.parameters()} == {APART[component] for component in modality.components}
        home = next(model.parameters()).device
        assert str(home) == APART["llm"], "batches go to the language model"
        batch.tensors = {key: mode.from_tensor(tensor) for key, tensor in batch.tensors.items()}
        terms = modality.loss(model, batch.to(home))
        assert {term.device for pair in terms.values() for term in pair} == {home}
        torch.stack([total for total, _ in terms.values()]).sum().backward()
        for parameter in model.parameters():
            assert parameter.grad is None or parameter.grad.device == parameter.device
        assert {value.device for value in model.moe_metrics().values()} <= {home}, "they are stacked"


def test_whoever_calls_gets_an_answer_where_it_asked(modalities: Any) -> None:
    """Also of what a step does not call: latents to pictures, logits, text, CTC."""
    config, home = modalities["tts"].run_config.model, torch.device("cpu", 5)
    with torch.device("meta"):
        model = XoronMultimodalModel(config, frozenset(COMPONENTS), vocab_size=512).eval()
    with pretending():
        model.place(APART)
        ids = torch.zeros(1, 6, dtype=torch.long, device=home)
        latents = model.encode_images(torch.zeros(1, 3, 32, 32, device=home))
        states = model.encode_text(ids)
        sound = model.audio_encoder(torch.zeros(1, 4096, device=home))
        everywhere = torch.ones_like(ids, dtype=torch.bool)
        made = [
            latents,
            states,
            model.decode_images(latents),
            model.generator(latents, torch.zeros(1, device=home), states),
            model.llm.logits(states),
            generate(
                model.llm,
                model.llm.model.embed_tokens(ids),
                prompt_mask_BT=everywhere,
                max_new_tokens=2,
                temperature=0.0,
                generator=None,
                eos_token_id=None,
            ),
            model.llm.generate(ids, max_new_tokens=2, temperature=0.0),
            model.ctc_head(sound.features_BFD),
            model.audio_projector(sound).mask_BM,
            *model.audio_decoder(states, audio_features=sound.features_BFD),
        ]
        assert {tensor.device for tensor in made} == {home}


def test_one_device_needs_nothing_of_the_kind(modalities: Any) -> None:
    model = model_of(modalities["image_generation"], dict.fromkeys(COMPONENTS, "cpu"))
    for name, component in model.named_children():
        assert not {entry.rpartition(".")[2] for entry in ENTRIES.get(name, ("forward",))} & vars(component).keys()


def test_a_spread_model_computes_what_it_computes_in_one_place(modalities: Any) -> None:
    """From the meta device, with the initialiser that all models have; and a copy of it computes with its own
    weights."""
    modality = modalities["image_generation"]
    whole, spread = (model_of(modality, dict.fromkeys(COMPONENTS, "cpu")), model_of(modality, APART))
    for model in (whole, spread):
        model.init_weights(torch.Generator().manual_seed(3))
    batch = batch_of(modality)
    expected, found = (modality.loss(model, batch)["loss"][0] for model in (whole, spread))
    torch.testing.assert_close(found, expected)
    copied = copy.deepcopy(spread)
    with torch.no_grad():
        for parameter in spread.llm.parameters():
            parameter.mul_(1.5)
            parameter.add_(0.1)
        for parameter in spread.generator.parameters():
            parameter.add_(0.1)
    torch.testing.assert_close(modality.loss(copied, batch)["loss"][0], expected)
    assert not torch.allclose(modality.loss(spread, batch)["loss"][0], expected)


def test_a_map_that_cannot_be_followed_is_refused(modalities: Any) -> None:
    with pytest.raises(ValueError, match="does not say where autoencoder, generator should go"):
        model_of(modalities["image_generation"], {"llm": "cpu"})
    with pytest.raises(ValueError, match="fusion on cpu:1 and llm on cpu; fusion works between the layers"):
        model_of(modalities["asr"], {**APART, "fusion": "cpu:1"})


def test_only_tensors_travel() -> None:
    record = Record("a", 0, {}, lambda _: b"")
    shape, module = torch.Size([2]), torch.nn.Linear(1, 1)
    value = {"a": [torch.zeros(1), (record, shape)], "b": module, "c": None}
    moved = move_tensors(value, torch.device("meta"))
    assert moved["a"][0].is_meta
    assert moved["a"][1] == (record, shape)
    assert moved["b"] is module
    assert not module.weight.is_meta
