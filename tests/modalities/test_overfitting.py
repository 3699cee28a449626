"""Every modality can learn four real samples by heart, and looks at what it is given.

A modality that silently trains on nothing is the worst defect this project can have.
"""

import pytest
import torch
from support.workbench import Workbench, make_workbench

from xoron_core.contract.modalities import modality_infos
from xoron_core.data.records import Sample
from xoron_core.modalities.media_text import MediaText

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

STEPS = {
    "text": 120,
    "image_understanding": 120,
    "image_generation": 300,
    "video_understanding": 120,
    "video_generation": 200,
    "asr": 200,
    "tts": 200,
}
LEARNING_RATE = 2e-3
FEW = {"modalities": {"text": {"batch_size": 4, "sample_tokens": 160}}}


class Overfitted:
    """A modality, four of its training rows, and its model before and after it has seen nothing else."""

    def __init__(self, name: str) -> None:
        torch.manual_seed(0)
        self.bench: Workbench = make_workbench(name, FEW)
        self.samples: list[Sample] = distinct(self.bench, 4)
        self.loss_before = self.bench.loss_of(self.samples)
        self.bench.fit(self.samples, STEPS[name], LEARNING_RATE)
        self.loss = self.bench.loss_of(self.samples)


def distinct(bench: Workbench, count: int) -> list[Sample]:
    """Rows with conditions of their own: rows that share a picture teach nothing about looking."""
    rows = bench.rows(8 * count)
    return rows[:: len(rows) // count][:count]


@pytest.fixture(scope="module", params=tuple(modality_infos()))
def learned(request: pytest.FixtureRequest) -> Overfitted:
    return Overfitted(request.param)


def test_what_it_learned_depends_on_what_it_is_given(learned: Overfitted) -> None:
    mixed = learned.bench.shuffled(learned.samples)
    if learned.bench.modality.name == "text":
        assert not mixed
        return
    assert learned.bench.loss_of(mixed) >= 1.2 * learned.loss


def test_it_learns_by_heart(learned: Overfitted) -> None:
    bench, samples, modality = learned.bench, learned.samples, learned.bench.modality
    match modality.name:
        case "text":
            assert bench.evaluated(samples)["ce"] < 0.1
            _recites(bench, samples)
        case "image_generation" | "video_generation":
            assert learned.loss <= 0.5 * learned.loss_before
        case "asr":
            found = bench.evaluated(samples)
            assert (found["wer"], found["cer"]) == (0.0, 0.0)
        case "tts":
            assert bench.evaluated(samples)["mel_loss"] <= mean_error(bench, samples) / 3
        case _:
            assert isinstance(modality, MediaText)
            batch = modality.collate(samples)
            assert modality.answer(bench.model, batch) == modality.truths(batch)


def _recites(bench: Workbench, samples: list[Sample]) -> None:
    """The beginning of a document is continued as the document goes on."""
    tokenizer, sampled = bench.modality.tokenizer, bench.config.modalities.text.sample_tokens
    for sample in samples:
        ids = torch.from_numpy(sample.ids)[: 8 + sampled]  # type: ignore[attr-defined]
        made = bench.model.llm.generate(
            ids[None, :8], max_new_tokens=len(ids) - 8, temperature=0.0, eos_token_id=tokenizer.eos_id
        )
        assert tokenizer.decode(made[0].tolist()) == tokenizer.decode(ids.tolist())


def mean_error(bench: Workbench, samples: list[Sample]) -> float:
    """L1 distance of the samples' normalised mel spectrograms from their own per-bin mean."""
    from xoron_core.model.speech.mel import compute_mel_spectrogram

    mels = [compute_mel_spectrogram(torch.from_numpy(s.waveform)[None])[0] for s in samples]  # type: ignore[attr-defined]
    frames = torch.cat(mels)
    return float((frames - frames.mean(dim=0)).abs().mean())
