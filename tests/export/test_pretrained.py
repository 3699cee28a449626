"""Folders in the Hugging Face layout: written, read, and refused by name."""

import json
from pathlib import Path

import pytest
import torch
from support.small_models import VOCAB_SIZE, perturb, random_ids, seeded, small_autoencoder, xoron_config
from support.tiny import TINY_MODEL

from xoron_core.contract.errors import CheckpointError, ConfigError
from xoron_core.contract.presets import resolve
from xoron_core.export.pretrained import XoronModel
from xoron_core.export.weights import find_weights, write_weights
from xoron_core.model.components import COMPONENTS

PARTS = frozenset({"llm", "fusion", "generator", "autoencoder"})


def make_model(components: frozenset[str] = PARTS) -> XoronModel:
    model = XoronModel(xoron_config(), components, vocab_size=VOCAB_SIZE, autoencoder_config=small_autoencoder())
    model.init_weights(seeded(3))
    perturb(model)
    for moe in model.moe_layers().values():
        moe.router.bias_E.uniform_(-0.1, 0.1, generator=seeded(4))
    model.special_ids = {"eos_token_id": 2}
    return model.eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    make_model().save_pretrained(folder)
    return folder


def logits(model: XoronModel) -> torch.Tensor:
    with torch.no_grad():
        made = model.llm(random_ids(2, 9), return_logits=True).logits_BTV
    assert made is not None
    return made


def test_a_model_comes_back_as_it_was(folder: Path) -> None:
    before, after = make_model(), XoronModel.from_pretrained(folder)
    assert after.components == PARTS and not after.training and after.special_ids == {"eos_token_id": 2}
    assert after.autoencoder.config == small_autoencoder() and after.config == before.config
    saved, loaded = before.state_dict(), after.state_dict()
    assert saved.keys() == loaded.keys()
    assert all(torch.equal(saved[name], loaded[name]) for name in saved)
    assert torch.equal(logits(before), logits(after))
    assert all(parameter.requires_grad for parameter in after.llm.parameters())
    assert not any(parameter.requires_grad for parameter in after.autoencoder.parameters())
    assert not any(module.router.load_E.is_meta for module in after.moe_layers().values())


def test_every_component_is_written_and_read(tmp_path: Path) -> None:
    config = resolve("demo", {"model": TINY_MODEL}).model
    model = XoronModel(config, frozenset(COMPONENTS), vocab_size=VOCAB_SIZE)
    model.init_weights(torch.Generator().manual_seed(0))
    model.save_pretrained(tmp_path)
    loaded = XoronModel.from_pretrained(tmp_path)
    found = loaded.state_dict()
    assert loaded.components == COMPONENTS.keys()
    assert all(torch.equal(tensor, found[name]) for name, tensor in model.state_dict().items())


def test_shards_have_an_index_and_hold_the_same(folder: Path, tmp_path: Path) -> None:
    model = make_model()
    model.save_pretrained(tmp_path, max_shard_size="60KB")
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert len(set(index["weight_map"].values())) > 2 and not (tmp_path / "model.safetensors").exists()
    assert torch.equal(logits(XoronModel.from_pretrained(tmp_path)), logits(model))
    XoronModel.from_pretrained(folder).save_pretrained(tmp_path)  # shards of before are gone
    assert find_weights(tmp_path).keys() == find_weights(folder).keys()
    assert [path.name for path in tmp_path.glob("*.safetensors*")] == ["model.safetensors"]


def test_a_part_is_read_alone(folder: Path) -> None:
    model = XoronModel.from_pretrained(folder, components=["llm"])
    assert model.components == {"llm"} and torch.equal(logits(model), logits(make_model()))
    with pytest.raises(ValueError, match=r"audio_encoder are not in the model; it has autoencoder, fusion"):
        XoronModel.from_pretrained(folder, components=["llm", "audio_encoder"])
    with pytest.raises(ValueError, match=r"generator needs autoencoder, llm"):
        XoronModel.from_pretrained(folder, components=["generator"])


def test_weights_are_converted_but_not_counters(folder: Path) -> None:
    model = XoronModel.from_pretrained(folder, torch_dtype="bfloat16")
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    router = next(iter(model.moe_layers().values())).router
    kept = next(iter(make_model().moe_layers().values())).router
    assert torch.equal(router.bias_E, kept.bias_E) and router.load_E.dtype == torch.float32
    assert model.llm.model.rope.frequencies_R.dtype == torch.float32
    assert (logits(model).float() - logits(make_model())).abs().max() < 0.3
    with pytest.raises(ValueError, match="dtype 'int8' is none of weights"):
        XoronModel.from_pretrained(folder, dtype="int8")


def test_each_component_goes_to_its_device(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"device_map has no device for autoencoder, generator"):
        XoronModel.from_pretrained(folder, device_map={"llm": "cpu", "fusion": "cpu"})
    model = XoronModel.from_pretrained(folder, device_map="cpu")
    assert {parameter.device.type for parameter in model.parameters()} == {"cpu"}
    assert next(iter(XoronModel.from_pretrained(folder, device_map="auto").parameters())).device.type in {"cpu", "cuda"}


def test_tensors_that_do_not_fit_are_named(folder: Path, tmp_path: Path) -> None:
    model = make_model()
    tensors = model.state_dict()
    model.save_pretrained(tmp_path)

    def message(changed: dict[str, torch.Tensor]) -> str:
        write_weights(tmp_path, changed)
        with pytest.raises(CheckpointError) as refused:
            XoronModel.from_pretrained(tmp_path)
        return str(refused.value)

    without = {name: tensor for name, tensor in tensors.items() if name != "llm.model.norm.weight"}
    assert "missing: llm.model.norm.weight" in message(without)
    assert "unknown: llm.lm_head" in message({**tensors, "llm.lm_head": torch.ones(1)})
    assert "unknown: video_encoder.gate" in message({**tensors, "video_encoder.gate": torch.ones(1)})
    other = message({**tensors, "llm.model.norm.weight": torch.ones(7)})
    assert "llm.model.norm.weight has shape [7] and should have [32]" in other


def test_what_is_no_exported_model_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"is no exported model: .*config\.json"):
        XoronModel.from_pretrained(tmp_path)
    values = json.loads((folder / "config.json").read_text())
    for changes, error, text in (
        ({"model_type": "llama"}, CheckpointError, "model_type 'llama', not 'xoron'"),
        ({"components": None}, CheckpointError, "does not describe a model"),
        ({"xoron": {"langage": {}}}, ConfigError, "langage: unknown key; did you mean 'language'"),
    ):
        (tmp_path / "config.json").write_text(json.dumps({**values, **changes}))
        with pytest.raises(error, match=text):
            XoronModel.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(values))
    with pytest.raises(CheckpointError, match=r"weights in .* cannot be read"):
        XoronModel.from_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="no folder here, and no repository"):
        XoronModel.from_pretrained("a/b/c")


def test_paths_of_this_machine_are_not_told(tmp_path: Path) -> None:
    model = make_model()
    vision = model.config.vision_encoder.model_copy(update={"pretrained": "google/siglip-base-patch16-224"})
    paths = {"tokenizer": "/home/someone/words", "autoencoder": str(tmp_path), "vision_encoder": vision}
    model.config = model.config.model_copy(update=paths)
    model.save_pretrained(tmp_path / "out")
    told = json.loads((tmp_path / "out" / "config.json").read_text())["xoron"]
    assert (told["tokenizer"], told["autoencoder"]) == ("words", tmp_path.name)
    assert told["vision_encoder"]["pretrained"] == "google/siglip-base-patch16-224"
