"""The image backbone and the compressor of its patches."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from support.small_models import perturb, seeded
from torch import Tensor, nn

from xoron_core.contract.config.vision import ImageCompressorConfig, VisionEncoderConfig
from xoron_core.contract.errors import ConfigError
from xoron_core.model.initialise import init_module
from xoron_core.model.vision.compressor import ImageCompressor, cell_means, places_on_grid
from xoron_core.model.vision.encoder import VisionEncoder
from xoron_core.training.vision_weights import load_vision_weights

CPU = torch.device("cpu")


def vision_config(**changes: Any) -> VisionEncoderConfig:
    values: dict[str, Any] = {
        "pretrained": None,
        "image_size": 26,
        "patch_size": 8,
        "hidden_size": 32,
        "num_layers": 2,
        "num_heads": 2,
        "intermediate_size": 48,
    }
    return VisionEncoderConfig(**(values | changes))


def make_encoder(seed: int = 0, **changes: Any) -> VisionEncoder:
    encoder = VisionEncoder(vision_config(**changes))
    init_module(encoder, seeded(seed))
    return encoder


def new_compressor(num_layers: int = 2) -> ImageCompressor:
    config = ImageCompressorConfig(num_tokens=4, num_layers=num_layers, num_heads=2)
    return ImageCompressor(config, hidden_size=32, patch_grid=(3, 3))


def make_compressor(num_layers: int = 2) -> ImageCompressor:
    compressor = new_compressor(num_layers)
    init_module(compressor, seeded())
    return compressor


def pictures(size: int = 26) -> Tensor:
    return torch.rand(2, 3, size, size, generator=seeded(1)) * 2 - 1


def silent(module: nn.Module) -> list[str]:
    return [name for name, p in module.named_parameters() if p.grad is None or p.grad.abs().sum() == 0]


def test_patches_are_what_siglip_makes_of_the_picture() -> None:
    encoder = make_encoder().eval()
    patches = encoder(pictures())
    assert encoder.config.grid == (3, 3)
    assert patches.shape == (2, 9, 32)
    torch.testing.assert_close(patches, encoder.vision_model(pictures()).last_hidden_state)


def test_pixels_are_centred_as_configured() -> None:
    plain, centred = make_encoder().eval(), make_encoder(pixel_mean=0.725, pixel_std=0.3).eval()
    torch.testing.assert_close(centred(pictures()), plain((pictures() - 0.45) / 0.6))


def test_pictures_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expected \[B, 3, 26, 26\]"):
        make_encoder()(pictures(32))


@pytest.mark.parametrize("make", [lambda: VisionEncoder(vision_config()), new_compressor])
def test_a_seed_decides_every_weight_and_buffer_also_after_meta(make: Callable[[], nn.Module]) -> None:
    direct = make()
    with torch.device("meta"):
        late = make()
    late.to_empty(device="cpu")
    with torch.no_grad():
        for tensor in (*late.parameters(), *late.buffers()):
            tensor.fill_(float("nan") if tensor.is_floating_point() else -1)
    for module in (direct, late):
        init_module(module, seeded(3))
    for mine, theirs in ((direct.parameters(), late.parameters()), (direct.buffers(), late.buffers())):
        assert all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True))


@pytest.mark.parametrize("num_layers", [1, 2])
def test_every_parameter_gets_a_gradient(num_layers: int) -> None:
    encoder = make_encoder()
    compressor = make_compressor(num_layers)
    perturb(encoder)
    weights = torch.randn(2, 4, 32, generator=seeded(2))
    (compressor(encoder(pictures())) * weights).sum().backward()
    assert silent(encoder) == []
    assert silent(compressor) == []


def test_recomputed_activations_give_the_same_gradients() -> None:
    encoder, compressor = make_encoder().train(), make_compressor().train()
    gradients = []
    for enabled in (False, True):
        for module in (encoder, compressor):
            module.zero_grad()
            module.gradient_checkpointing_enable(enabled)
        compressor(encoder(pictures()))[0].square().sum().backward()
        gradients.append([p.grad for module in (encoder, compressor) for p in module.parameters()])
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, recomputed)


def test_tokens_lie_evenly_on_the_patches() -> None:
    assert places_on_grid((2, 2), (8, 8), CPU).tolist() == [2 * 8 + 2, 2 * 8 + 6, 6 * 8 + 2, 6 * 8 + 6]
    assert places_on_grid((1, 3), (3, 3), CPU).tolist() == [3, 4, 5]
    assert places_on_grid((4, 1), (2, 2), CPU).tolist() == [1, 1, 3, 3]


def test_a_token_starts_from_the_mean_of_its_cell() -> None:
    patches = torch.arange(8.0).view(1, 4, 2)
    assert torch.equal(cell_means(patches, (2, 2), (2, 2)), patches)
    assert cell_means(patches, (2, 2), (1, 1)).tolist() == [[[3.0, 4.0]]]
    assert cell_means(patches, (2, 2), (1, 2)).tolist() == [[[2.0, 3.0], [4.0, 5.0]]]


def test_the_compressor_sees_every_patch_and_its_place() -> None:
    compressor = make_compressor().eval()
    patches = torch.randn(1, 9, 32, generator=seeded(4), requires_grad=True)
    tokens = compressor(patches)
    assert tokens.shape == (1, 4, 32)
    assert not torch.allclose(compressor(patches.flip(1)), tokens, atol=1e-3)
    tokens.square().sum().mul(tokens.detach().flatten()[0]).backward()
    assert patches.grad is not None
    assert (patches.grad.abs().sum(dim=2) > 0).all()


def test_tokens_of_like_patches_differ_by_place_alone() -> None:
    """Were queries alike and patches alike, only 2D-RoPE could tell tokens apart."""
    compressor = make_compressor().eval()
    with torch.no_grad():
        compressor.queries_QD.copy_(compressor.queries_QD[:1].expand_as(compressor.queries_QD))
        patches = torch.randn(1, 9, 32, generator=seeded(4))
        tokens = compressor(patches)[0]
    assert not torch.allclose(tokens[0], tokens[3], atol=1e-3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"patch_size": 32}, "patch_size 32 is more than image_size 26"),
        ({"num_heads": 3}, "hidden_size 32 is not a multiple of num_heads 3"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        vision_config(**changes)


def save_siglip(folder: Path, **changes: Any) -> None:
    from transformers import SiglipVisionConfig, SiglipVisionModel

    values = {"image_size": 26, "patch_size": 8, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    SiglipVisionModel(SiglipVisionConfig(**(values | {"intermediate_size": 48} | changes))).save_pretrained(folder)


def test_pretrained_weights_come_from_a_folder(tmp_path: Path) -> None:
    from transformers import SiglipVisionModel

    save_siglip(tmp_path)
    encoder = make_encoder(pretrained=str(tmp_path)).eval()
    load_vision_weights(encoder)
    expected = SiglipVisionModel.from_pretrained(tmp_path).eval()(pictures()).last_hidden_state
    torch.testing.assert_close(encoder(pictures()), expected)


def test_the_vision_half_of_a_whole_siglip_will_do(tmp_path: Path) -> None:
    from transformers import SiglipConfig, SiglipModel

    text = {"vocab_size": 16, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1,
            "intermediate_size": 8}  # fmt: skip
    vision = {"image_size": 26, "patch_size": 8, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
              "intermediate_size": 48}  # fmt: skip
    whole = SiglipModel(SiglipConfig(text_config=text, vision_config=vision)).eval()
    whole.save_pretrained(tmp_path)
    encoder = make_encoder(pretrained=str(tmp_path)).eval()
    load_vision_weights(encoder)
    torch.testing.assert_close(encoder(pictures()), whole.vision_model(pictures()).last_hidden_state)


def test_weights_of_other_sizes_are_refused_by_field(tmp_path: Path) -> None:
    save_siglip(tmp_path, hidden_size=16, num_hidden_layers=1)
    with pytest.raises(ConfigError, match=r"hidden_size 16 \(here 32\), num_layers 1 \(here 2\)") as caught:
        load_vision_weights(make_encoder(pretrained=str(tmp_path)))
    assert caught.value.problems[0].field == "model.vision_encoder.pretrained"


def test_weights_that_cannot_be_had_are_a_configuration_error(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    for name in (str(tmp_path), str(tmp_path / "nowhere"), "no such name"):
        with pytest.raises(ConfigError, match="set it to null"):
            load_vision_weights(make_encoder(pretrained=name))
