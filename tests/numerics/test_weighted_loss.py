"""The weighted loss of text, from documents to gradients, against the formula written plainly.

Weights come from `support.plain_weighting`, which walks over tokens one by one; every document goes through the decoder
alone and whole logits are made of it; sums are loops.
"""

import pytest
import torch
from support.plain_weighting import BITS, plain_weights
from support.small_models import language_config
from support.small_models import seeded as seeded_generator
from torch import Tensor

from xoron_core.contract.presets import resolve
from xoron_core.data.records import Record, SampleOrigin
from xoron_core.data.tokenizer import Tokenizer
from xoron_core.modalities.text.modality import Text, TextSample
from xoron_core.modalities.text.weighting import GROUP_TERMS
from xoron_core.model.xoron import XoronMultimodalModel

WEIGHTS = {"reasoning": 1.5, "tool": 1.3, "anti_hallucination": 1.75, "code_execution": 0.5}
DOCUMENTS = (
    "<|user|>\nWhat is 2 + 2?\n<|/user|><|assistant|>\n<|think|>Two and <|verify|>two<|/verify|> make four.<|/think|>"
    "Four.<|confidence:low|>\n<|/assistant|>",
    "<|user|>\nRun it.\n<|/user|><|assistant|>\n<|tool_call|>run<|/tool_call|><|exec|>print(1)<|/exec|>"
    "<|speculative|>Perhaps one.<|/uncertain|>\n<|/assistant|>",
    "<|think|>Ask it: <|tool_call|>weather<|/tool_call|> that is what I think.<|/think|>Nothing special in the end.",
    "<|think|>It is never closed <|idk|>and ends with the document",
)


def make_text(form: str) -> tuple[Text, Tokenizer]:
    tokenizer = Tokenizer.load("demo")
    options = {
        "weighting": form,
        "cot_loss_weight": WEIGHTS["reasoning"],
        "tool_loss_weight": WEIGHTS["tool"],
        "anti_hallucination_loss_weight": WEIGHTS["anti_hallucination"],
        "code_exec_loss_weight": WEIGHTS["code_execution"],
    }
    return Text(resolve("demo", {"modalities": {"text": options}}), tokenizer), tokenizer


def make_model(text: Text, tokenizer: Tokenizer) -> XoronMultimodalModel:
    config = text.run_config.model.model_copy(update={"language": language_config(sliding_window=11)})
    model = XoronMultimodalModel(config, text.components, vocab_size=tokenizer.vocab_size)
    model.init_weights(seeded_generator())
    return model


def plain_terms(model: XoronMultimodalModel, samples: list[TextSample], tokenizer: Tokenizer, form: str) -> dict:
    """Name → (sum, count) over all tokens but the first of each document."""
    sums: dict[str, Tensor] = {name: torch.zeros(()) for name in ("loss", "ce", *GROUP_TERMS.values())}
    counts = dict.fromkeys(sums, 0.0)
    for sample in samples:
        ids = sample.ids.tolist()
        weighed = list(plain_weights([tokenizer.decode([number]) for number in ids], form, WEIGHTS))
        logits = model.llm(torch.tensor([ids]), return_logits=True).logits_BTV[0]
        for at in range(1, len(ids)):
            weight, mask = weighed[at]
            loss = logits[at - 1].exp().sum().log() - logits[at - 1, ids[at]]
            sums["loss"], counts["loss"] = sums["loss"] + weight * loss, counts["loss"] + weight
            sums["ce"], counts["ce"] = sums["ce"] + loss, counts["ce"] + 1
            for group, term in GROUP_TERMS.items():
                if mask & BITS[group]:
                    sums[term], counts[term] = sums[term] + loss, counts[term] + 1
    return {name: (total, counts[name]) for name, total in sums.items()}


@pytest.mark.parametrize("form", ["token", "block"])
def test_the_weighted_loss_of_packed_documents_is_the_formula(form: str) -> None:
    text, tokenizer = make_text(form)
    model = make_model(text, tokenizer)
    samples = [
        text.prepare(Record("a", at, {"text": words}, str.encode), SampleOrigin("a", at, 1))
        for at, words in enumerate(DOCUMENTS)
    ]
    batch = text.collate([text.join(samples[:2]), text.join(samples[2:3]), text.join(samples[3:])])
    got = text.loss(model, batch)
    expected = plain_terms(model, samples, tokenizer, form)
    assert got.keys() == expected.keys()
    for name, (total, count) in expected.items():
        assert count > 2, f"no token is in {name}"
        torch.testing.assert_close(got[name][0], total, rtol=1e-5, atol=1e-5, msg=lambda t, name=name: f"{name}: {t}")
        assert float(got[name][1]) == pytest.approx(count), name
    assert batch.counts["loss"] == pytest.approx(expected["loss"][1])
    assert float(got["loss"][1]) != pytest.approx(float(got["ce"][1])), "the weights matter"
    parameters = [p for p in model.parameters() if p.requires_grad]
    mine = torch.autograd.grad(got["loss"][0] / got["loss"][1], parameters)
    theirs = torch.autograd.grad(expected["loss"][0] / expected["loss"][1], parameters)
    for own, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-3, atol=1e-6)
