"""AdamW's parameter groups."""

from typing import get_args

from support.small_models import make_xoron

from xoron_core.contract.config.components import ComponentName
from xoron_core.contract.config.training import TrainingConfig
from xoron_core.model.components import COMPONENTS
from xoron_core.training.optimizer import build_optimizer


def test_the_contract_names_the_components_that_there_are() -> None:
    assert set(get_args(ComponentName)) == set(COMPONENTS)


def test_a_component_may_have_a_learning_rate_of_its_own() -> None:
    model = make_xoron(components=frozenset({"llm", "fusion"}))
    ratios = {"fusion": 0.25, "audio_encoder": 0.5}
    config = TrainingConfig.parse({"learning_rate": 8e-3, "use_8bit_optimizer": False, "component_lr_ratios": ratios})
    groups = build_optimizer(model, config).param_groups
    assert [(group["lr"], group["weight_decay"]) for group in groups] == [
        (8e-3, 0.01), (8e-3, 0.0), (2e-3, 0.01), (2e-3, 0.0),
    ]  # fmt: skip
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    grouped = [[names[id(parameter)] for parameter in group["params"]] for group in groups]
    assert all(name.startswith("llm.") for part in grouped[:2] for name in part)
    assert all(name.startswith("fusion.") for part in grouped[2:] for name in part)
    assert sorted(name for part in grouped for name in part) == sorted(names.values())
    assert "llm.model.embed_tokens.weight" in grouped[1]
