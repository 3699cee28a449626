"""What holds for every modality that is registered."""

import io
import wave
from collections.abc import Callable
from typing import Any

import pytest
import torch
from PIL import Image
from support.small_models import perturb
from support.workbench import Workbench, make_workbench

from server.samples.routes import MEDIA_TYPES
from xoron_core.contract.modalities import modality_infos
from xoron_core.contract.presets import resolve
from xoron_core.modalities.registry import MODALITIES

NAMES = tuple(modality_infos())


@pytest.fixture(scope="module", params=NAMES)
def bench(request: pytest.FixtureRequest) -> Workbench:
    made = make_workbench(request.param)
    for component, module in made.model.named_children():
        if component != "waveform_decoder":  # periodic activations would make chaos of large weights
            perturb(module)  # no gate is closed, no branch silent
    return made


def test_both_halves_are_registered_in_one_order() -> None:
    assert tuple(modality.name for modality in MODALITIES) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_metrics_have_names_of_their_own(name: str) -> None:
    names = [metric.name for metric in modality_infos()[name].metrics]
    assert len(set(names)) == len(names)
    assert all(metric.startswith(f"{name}/") for metric in names)


def test_the_demo_trains_every_modality_equally() -> None:
    assert resolve("demo").modality_weights() == dict.fromkeys(NAMES, 1.0)


def test_collate_has_one_form_for_one_sample_and_for_many(bench: Workbench) -> None:
    samples = bench.rows(3)
    one, many, again = (bench.modality.collate(part) for part in (samples[:1], samples, samples))
    assert {key: tensor.dtype for key, tensor in one.tensors.items()} == {
        key: tensor.dtype for key, tensor in many.tensors.items()
    }
    assert one.counts.keys() == many.counts.keys() == again.counts.keys()
    assert set(bench.modality.objective) <= set(one.counts)
    assert (one.num_samples, many.num_samples) == (1, 3)
    assert many.sample_ids == tuple(sample.origin.id for sample in samples)
    for key, tensor in many.tensors.items():
        assert torch.equal(tensor, again.tensors[key]), f"{key} is not a function of the samples"


def test_two_half_batches_are_one_whole(bench: Workbench) -> None:
    samples = bench.rows(4)
    whole = [bench.modality.collate(samples)]
    halves = [bench.modality.collate(samples[:2]), bench.modality.collate(samples[2:])]
    seen: list[tuple[float, dict[str, torch.Tensor]]] = []
    bench.model.eval()
    for window in (whole, halves):
        bench.model.zero_grad()
        loss = bench.backward(*window)
        gradients = {name: p.grad.clone() for name, p in bench.model.named_parameters() if p.grad is not None}
        seen.append((loss, gradients))
    bench.model.zero_grad()
    (one_loss, one), (two_loss, two) = seen
    assert two_loss == pytest.approx(one_loss, rel=1e-4)
    assert one.keys() == two.keys()
    scale = max(float(gradient.abs().max()) for gradient in one.values())
    for name, gradient in one.items():
        assert float((gradient - two[name]).abs().max()) <= 1e-4 * scale, name


def test_evaluation_repeats_to_the_bit_and_holds_the_loss(bench: Workbench) -> None:
    samples = bench.rows(3)
    first, second = bench.evaluated(samples), bench.evaluated(samples)
    assert first == second
    assert set(bench.modality.objective) <= set(first)
    declared = {metric.name.removeprefix(f"{bench.modality.name}/") for metric in _info(bench).metrics}
    derived = set(bench.modality.derived(first))
    assert (set(first) | derived) - {"moe_aux"} <= declared, "a metric that no page would show"
    assert declared - {"shuffled_loss"} <= set(first) | derived | GROUPS_OF_TEXT


GROUPS_OF_TEXT = {"cot_loss", "tool_loss", "anti_hallucination_loss", "code_exec_loss"}
"""Terms that a handful of documents may not have."""


def _info(bench: Workbench) -> Any:
    return modality_infos()[bench.modality.name]


def test_conditions_can_be_exchanged_where_there_are_any(bench: Workbench) -> None:
    samples = bench.rows(8)
    other = bench.modality.with_condition_of(samples[0], samples[-1])
    has_condition = any(metric.name.endswith("/shuffled_loss") for metric in _info(bench).metrics)
    assert has_condition is (bench.modality.name != "text")
    assert (other is not None) is has_condition
    if other is not None:
        own, mixed = bench.modality.collate(samples[:1]), bench.modality.collate([other])
        assert own.counts.keys() == mixed.counts.keys()
        assert any(
            tensor.shape != mixed.tensors[key].shape or not torch.equal(tensor, mixed.tensors[key])
            for key, tensor in own.tensors.items()
        )


def _check_png(content: bytes) -> None:
    with Image.open(io.BytesIO(content)) as image:
        assert image.format == "PNG"
        image.load()


def _check_webp(content: bytes) -> None:
    with Image.open(io.BytesIO(content)) as image:
        assert image.format == "WEBP"
        image.load()


def _check_wav(content: bytes) -> None:
    with wave.open(io.BytesIO(content)) as file:
        assert file.getnframes() > 0


READS: dict[str, Callable[[bytes], object]] = {
    "image/png": _check_png,
    "image/webp": _check_webp,
    "audio/wav": _check_wav,
    "text/plain": bytes.decode,
}


def test_a_sample_is_what_it_says_it_is(bench: Workbench) -> None:
    prompts = bench.modality.prompts(bench.rows(3))
    assert prompts
    bench.model.eval()
    with torch.inference_mode():
        made = [bench.modality.sample(bench.model, prompts[0], torch.Generator().manual_seed(3)) for _ in range(2)]
    for artifact in made[0]:
        READS[artifact.mime](artifact.content)
        assert MEDIA_TYPES[f".{artifact.suffix}"].startswith(artifact.mime), "a browser would not show it"
    suffixes = [artifact.suffix for artifact in made[0]]
    assert len(set(suffixes)) == len(suffixes), "files of one sample would overwrite each other"
    assert made[0] == made[1]


def _everyone_is_asked(model: dict[str, Any]) -> dict[str, Any]:
    """Every mixture of experts asks all its experts for every token."""
    changed: dict[str, Any] = {}
    for key, value in model.items():
        if isinstance(value, dict):
            changed[key] = _everyone_is_asked(value)
    if "num_experts" in model:
        changed["top_k"] = model["num_experts"]
    return changed


BRANCHES = {
    "image_generation": {"cfg_dropout_rate": 0.5},
    "video_generation": {"cfg_dropout_rate": 0.5, "first_frame_rate": 0.5},
    "tts": {"speaker_reference_rate": 0.5},
}
"""Options under which four samples take every branch."""

UNUSED = {"tts": ("llm.model.layers.", "llm.model.norm.")}
"""Speech synthesis uses the decoder's table of embeddings alone."""


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_learns(name: str) -> None:
    model = _everyone_is_asked(resolve("demo").model.to_dict())
    bench = make_workbench(name, {"model": model, "modalities": {name: BRANCHES.get(name, {})}})
    optimizer = torch.optim.AdamW(bench.model.parameters(), lr=1e-3)
    silent = {parameter_name for parameter_name, p in bench.model.named_parameters() if p.requires_grad}
    bench.model.train()
    for step in range(5):
        bench.backward(bench.modality.collate(bench.redrawn(bench.rows(4), step)))
        silent -= {n for n, p in bench.model.named_parameters() if p.grad is not None and bool(p.grad.any())}
        optimizer.step()
        optimizer.zero_grad()
    assert sorted(n for n in silent if not n.startswith(UNUSED.get(name, ()))) == []
