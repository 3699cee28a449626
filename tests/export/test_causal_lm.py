"""The language model of an exported folder in transformers' hands; slow, for transformers takes seconds to load."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from support.small_models import language_config, perturb, random_ids, seeded, small_autoencoder, xoron_config
from torch import Tensor

from xoron_core.contract.errors import CheckpointError
from xoron_core.data.tokenizer import Tokenizer
from xoron_core.export import register
from xoron_core.export.description import ModelDescription
from xoron_core.export.files import special_ids, write_files
from xoron_core.export.pretrained import XoronModel
from xoron_core.export.weights import write_weights

pytestmark = pytest.mark.slow

PROMPTS = ["<|user|>\nHello\n<|/user|>", "A rather longer prompt, of more tokens than that one has"]


def write_model(folder: Path, **language: Any) -> XoronModel:
    tokenizer = Tokenizer.load("demo")
    model = XoronModel(
        xoron_config(**language),
        frozenset({"llm", "generator", "autoencoder"}),
        vocab_size=tokenizer.vocab_size,
        autoencoder_config=small_autoencoder(),
    )
    model.init_weights(seeded(3))
    perturb(model)
    folder.mkdir(exist_ok=True)
    write_files(folder, ModelDescription.of(model, special_ids(tokenizer)), tokenizer, "# A card\n")
    write_weights(folder, model.state_dict())
    return model.eval()


def load(folder: Path, **options: Any) -> Any:
    from transformers import AutoModelForCausalLM

    register()
    return AutoModelForCausalLM.from_pretrained(folder, **options)


def own_logits(model: XoronModel, ids_BT: Tensor) -> Tensor:
    with torch.no_grad():
        made = model.llm(ids_BT, return_logits=True).logits_BTV
    assert made is not None
    return made[..., : model.llm.vocab_size]


@pytest.mark.parametrize("language", [{}, {"attention": "gqa"}, {"sliding_window": 6}, {"moe_every": 1}])
def test_transformers_generates_what_the_model_itself_does(tmp_path: Path, language: dict[str, Any]) -> None:
    ours = write_model(tmp_path, **language)
    theirs = load(tmp_path)
    ids_BT = random_ids(2, 9)
    torch.testing.assert_close(theirs(ids_BT).logits, own_logits(ours, ids_BT))
    expected = ours.llm.generate(ids_BT, max_new_tokens=12, temperature=0)
    plain = {"do_sample": False, "max_new_tokens": 12, "eos_token_id": None}
    assert torch.equal(theirs.generate(ids_BT, **plain), expected)
    assert torch.equal(theirs.generate(ids_BT, use_cache=False, **plain), expected)
    beams = theirs.generate(ids_BT, num_beams=3, **plain)
    assert torch.equal(beams, theirs.generate(ids_BT, num_beams=3, use_cache=False, **plain))


@pytest.mark.parametrize("language", [{}, {"attention": "gqa"}, {"sliding_window": 4}])
def test_prompts_of_different_lengths_go_together(tmp_path: Path, language: dict[str, Any]) -> None:
    from transformers import AutoTokenizer

    write_model(tmp_path, **language)
    model, tokenizer = load(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    own = Tokenizer.load("demo")
    assert [tokenizer(text).input_ids for text in PROMPTS] == [own.encode(text) for text in PROMPTS]
    together = tokenizer(PROMPTS, padding=True, return_tensors="pt")
    made = model.generate(**together, do_sample=False, max_new_tokens=8, eos_token_id=None)[:, -8:]
    for row, text in zip(made, PROMPTS, strict=True):
        alone = tokenizer(text, return_tensors="pt")
        single = model.generate(**alone, do_sample=False, max_new_tokens=8, eos_token_id=None)
        assert torch.equal(single[0, -8:], row)


def test_several_tokens_go_on_from_a_cache(tmp_path: Path) -> None:
    ours = write_model(tmp_path, sliding_window=5)
    theirs = load(tmp_path)
    ids_BT = random_ids(2, 12)
    with torch.no_grad():
        first = theirs(ids_BT[:, :7], use_cache=True)
        rest = theirs(ids_BT[:, 7:], cache=first.cache)
    whole = torch.cat((first.logits, rest.logits), dim=1)
    torch.testing.assert_close(whole, own_logits(ours, ids_BT))


def test_labels_give_the_mean_loss(tmp_path: Path) -> None:
    ours = write_model(tmp_path)
    theirs = load(tmp_path)
    ids_BT = random_ids(2, 9)
    labels_BT = ids_BT.clone()
    labels_BT[0, :4] = -100
    out = theirs(ids_BT, labels=labels_BT)
    expected = ours.llm(ids_BT, labels_BT=labels_BT)
    torch.testing.assert_close(out.loss, expected.loss_sum / expected.weight_sum)
    out.loss.backward()
    assert theirs.llm.model.embed_tokens.weight.grad.abs().sum() > 0


def test_weights_in_half_keep_their_rotations_and_routers(tmp_path: Path) -> None:
    ours = write_model(tmp_path)
    theirs = load(tmp_path, dtype=torch.bfloat16)
    assert theirs.llm.model.embed_tokens.weight.dtype == torch.bfloat16
    assert torch.equal(theirs.llm.model.rope.frequencies_R, ours.llm.model.rope.frequencies_R)
    assert {tensor.dtype for name, tensor in theirs.state_dict().items() if "router" in name} == {torch.float32}
    ids_BT = random_ids(2, 9)
    assert (theirs(ids_BT).logits.float() - own_logits(ours, ids_BT)).abs().max() < 1.0


def test_it_saves_and_comes_back_through_transformers(tmp_path: Path) -> None:
    write_model(tmp_path / "whole")
    theirs = load(tmp_path / "whole")
    theirs.save_pretrained(tmp_path / "alone")
    again = load(tmp_path / "alone")
    ids_BT = random_ids(2, 9)
    assert torch.equal(again(ids_BT).logits, theirs(ids_BT).logits)
    alone = XoronModel.from_pretrained(tmp_path / "alone")
    assert alone.components == {"llm"}
    torch.testing.assert_close(own_logits(alone, ids_BT), theirs(ids_BT).logits)


def test_weights_that_are_missing_are_named(tmp_path: Path) -> None:
    tensors = write_model(tmp_path).state_dict()
    del tensors["llm.model.norm.weight"]
    write_weights(tmp_path, tensors)
    with pytest.raises(CheckpointError, match=r"llm\.model\.norm\.weight are missing"):
        load(tmp_path)


def test_a_model_can_be_made_anew() -> None:
    from xoron_core.export.causal_lm import XoronForCausalLM, XoronPretrainedConfig

    config = xoron_config().to_dict()
    torch.manual_seed(7)
    made = XoronForCausalLM(XoronPretrainedConfig(vocab_size=200, components=["llm"], xoron=config, autoencoder={}))
    std = float(made.llm.model.layers[1].feed_forward.experts.gate_up_EDF.detach().std())
    assert abs(std - language_config().initializer_range) < 0.02


def test_a_training_start_loads_no_transformers() -> None:
    code = "import sys, xoron_core.export.pretrained, xoron_core.training.hooks; print(json.dumps(list(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", f"import json; {code}"], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in json.loads(done.stdout)}
    assert "torch" in loaded and not loaded & {"transformers", "huggingface_hub", "peft"}
