"""Adapters as files: what peft loads of ours, what we load of peft's, what a run leaves of them."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from support.adapted_models import ATTENTION_TARGETS, adapted_model, logits, lora_config
from support.small_models import VOCAB_SIZE, make_llm, make_xoron, random_ids

from xoron_core.contract.errors import CheckpointError
from xoron_core.training.adapters.files import load_adapters, save_adapters
from xoron_core.training.adapters.lora import is_adapter

CASES = [
    ({}, {"attention": "mla"}),
    ({"use_rslora": False, "alpha": 3.5}, {"attention": "gqa"}),
    ({"use_dora": True}, {"attention": "mla"}),
    ({"target_modules": ("q_proj", "down_proj")}, {"attention": "gqa"}),
    ({"target_modules": ("gate_proj",)}, {"moe_every": 1, "moe": {"num_experts": 3, "num_shared_experts": 0}}),
]


@pytest.mark.parametrize(("lora", "language"), CASES)
def test_peft_loads_what_was_saved(lora: dict[str, Any], language: dict[str, Any], tmp_path: Path) -> None:
    from peft import PeftModel

    config = lora_config(**lora)
    model = adapted_model(config, **language)
    save_adapters(model, tmp_path / "adapters", config)
    fresh = make_xoron(0, frozenset({"llm"}), **language).eval()  # the same base
    loaded = PeftModel.from_pretrained(fresh.llm, str(tmp_path / "adapters")).eval()
    with torch.no_grad():
        got = loaded(random_ids(2, 9), return_logits=True).logits_BTV
    torch.testing.assert_close(got, logits(model.llm, random_ids(2, 9)))
    new = {"max_new_tokens": 6, "temperature": 0.0}
    assert torch.equal(fresh.llm.generate(random_ids(1, 5), **new), model.llm.generate(random_ids(1, 5), **new))
    assert got.shape[-1] > VOCAB_SIZE

    merged = loaded.merge_and_unload()
    torch.testing.assert_close(logits(merged, random_ids(2, 9)), logits(model.llm, random_ids(2, 9)))


def test_the_files_say_what_they_are_for(tmp_path: Path) -> None:
    config = lora_config()
    save_adapters(adapted_model(config), tmp_path, config)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    told = json.loads((tmp_path / "adapter_config.json").read_text(encoding="utf-8"))
    assert (told["r"], told["lora_alpha"], told["use_rslora"], told["lora_dropout"]) == (4, 6.0, True, 0.0)
    assert sorted(told["target_parameters"]) == ["down_EFD", "gate_up_EDF"]
    linear = {"q_proj", "kv_down_proj", "kv_up_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert set(told["target_modules"]) == linear


def test_adapters_come_back(tmp_path: Path) -> None:
    config = lora_config()
    model, other = adapted_model(config), adapted_model(config, learned=False)
    save_adapters(model, tmp_path, config)
    load_adapters(other, tmp_path)
    found = other.state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in model.state_dict().items() if is_adapter(name))


def test_adapters_of_pefts_making_are_loaded(tmp_path: Path) -> None:
    from peft import LoraConfig as PeftConfig
    from peft import get_peft_model

    llm = make_llm()
    made = get_peft_model(llm, PeftConfig(r=4, lora_alpha=6, use_rslora=True, target_modules=["q_proj", "o_proj"]))
    for name, parameter in made.named_parameters():
        if is_adapter(name):
            parameter.data.fill_(0.1)
    made.save_pretrained(str(tmp_path))
    model = adapted_model(lora_config(target_modules=("q_proj", "o_proj")), learned=False)
    load_adapters(model, tmp_path)
    assert all((parameter == 0.1).all() for name, parameter in model.named_parameters() if is_adapter(name))


def test_adapters_of_others_are_refused(tmp_path: Path) -> None:
    config = lora_config()
    save_adapters(adapted_model(config), tmp_path, config)
    with pytest.raises(CheckpointError, match=r"other weights than the model's, .*; set lora\.target_modules"):
        load_adapters(adapted_model(lora_config(target_modules=ATTENTION_TARGETS)), tmp_path)
    with pytest.raises(CheckpointError, match=r"other shapes; set lora\.r to theirs"):
        load_adapters(adapted_model(lora_config(r=2)), tmp_path)
    with pytest.raises(CheckpointError, match="cannot read adapters from"):
        load_adapters(adapted_model(config), tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match=r"no adapters to write; train with lora\.use_lora true"):
        save_adapters(make_xoron(components=frozenset({"llm"})), tmp_path / "none", config)
