"""Media among the text: placeholders, gated cross-attention, prompts of different lengths."""

import pytest
import torch
from support.small_models import make_llm, make_xoron, perturb, random_ids, seeded, xoron_config

from xoron_core.modalities.media_text import left_padded
from xoron_core.model.fusion import FusedMedia, Fusion
from xoron_core.model.generation import generate
from xoron_core.model.initialise import init_module
from xoron_core.model.media import MediaTokens, insert_media


def make_fusion(opened: bool = True) -> Fusion:
    config = xoron_config()
    fusion = Fusion(config.fusion, config.language)
    init_module(fusion, seeded(3))
    if opened:
        perturb(fusion)
    return fusion


def test_embeddings_take_their_placeholders_places_in_order() -> None:
    text_BTD = torch.zeros(2, 5, 3)
    media_BMD = torch.arange(12.0).view(2, 2, 3) + 1
    places_BT = torch.tensor([[0, 1, 0, 1, 0], [0, 0, 1, 0, 0]]).bool()
    mask_BM = torch.tensor([[True, True], [True, False]])
    got_BTD = insert_media(text_BTD, places_BT, MediaTokens(media_BMD, mask_BM))
    torch.testing.assert_close(got_BTD[0, [1, 3]], media_BMD[0])
    torch.testing.assert_close(got_BTD[1, 2], media_BMD[1, 0])
    assert not got_BTD[~places_BT].any()


def test_a_closed_gate_changes_nothing_and_an_open_one_lets_text_see_media() -> None:
    llm, ids = make_llm(), random_ids(2, 6)
    media_BMD, mask_BM = torch.randn(2, 4, 32, generator=seeded()), torch.ones(2, 4).bool()
    plain = llm(ids).hidden_states_BTD
    closed = llm(ids, media=FusedMedia(make_fusion(opened=False), media_BMD, mask_BM)).hidden_states_BTD
    torch.testing.assert_close(closed, plain)
    fusion = make_fusion()
    seen = llm(ids, media=FusedMedia(fusion, media_BMD, mask_BM)).hidden_states_BTD
    other = llm(ids, media=FusedMedia(fusion, media_BMD.flip(0), mask_BM)).hidden_states_BTD
    assert (seen - plain).abs().max() > 1e-3
    assert (seen - other).abs().max() > 1e-3


def test_gates_start_where_they_are_told() -> None:
    config = xoron_config()
    fusion = Fusion(config.fusion.model_copy(update={"initial_gate": 0.2}), config.language)
    init_module(fusion, seeded())
    assert [layer.gate.item() for layer in fusion.layers] == pytest.approx([0.2, 0.2])


def test_padding_among_media_is_not_seen() -> None:
    llm, ids, fusion = make_llm(), random_ids(1, 6), make_fusion()
    media_BMD = torch.randn(1, 4, 32, generator=seeded())
    mask_BM = torch.tensor([[True, True, False, False]])
    short = llm(ids, media=FusedMedia(fusion, media_BMD[:, :2], mask_BM[:, :2])).hidden_states_BTD
    padded = llm(ids, media=FusedMedia(fusion, media_BMD, mask_BM)).hidden_states_BTD
    torch.testing.assert_close(padded, short)


def test_recomputed_activations_give_the_same_gradients() -> None:
    llm, fusion = make_llm().train(), make_fusion().train()
    media_BMD, mask_BM = torch.randn(2, 4, 32, generator=seeded()), torch.ones(2, 4).bool()
    passes: list[bool] = []
    for layer in fusion.layers:
        layer.register_forward_pre_hook(lambda *_: passes.append(fusion.gradient_checkpointing))
    gradients = []
    for enabled in (False, True):
        fusion.zero_grad()
        fusion.gradient_checkpointing_enable(enabled)
        llm(random_ids(2, 6), media=FusedMedia(fusion, media_BMD, mask_BM)).hidden_states_BTD[0].sum().backward()
        gradients.append([p.grad for p in fusion.parameters()])
    assert (passes.count(False), passes.count(True)) == (2, 4)
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, recomputed)


def test_fusion_layers_are_spread_over_the_decoder() -> None:
    config = xoron_config(num_layers=12)
    fusion = Fusion(config.fusion.model_copy(update={"num_layers": 4}), config.language)
    assert fusion.layer_after == {2: 0, 5: 1, 8: 2, 11: 3}


@pytest.mark.parametrize("kind", ["mla", "gqa"])
@pytest.mark.parametrize("window", [None, 4])
def test_prompts_of_different_lengths_continue_as_each_would_alone(kind: str, window: int | None) -> None:
    llm = make_llm(attention=kind, sliding_window=window)
    ids_BT, lengths_B = random_ids(3, 7), torch.tensor([7, 3, 5])
    padded_BP, mask_BP = left_padded(ids_BT, lengths_B, pad_id=0)
    assert padded_BP[1].tolist() == [0, 0, 0, 0, *ids_BT[1, :3].tolist()]
    options = {"max_new_tokens": 8, "temperature": 0.0, "generator": None, "eos_token_id": None}
    got_BN = generate(llm, llm.model.embed_tokens(padded_BP), prompt_mask_BT=mask_BP, **options)
    for row, length in enumerate(lengths_B.tolist()):
        alone = llm.generate(ids_BT[row : row + 1, :length], max_new_tokens=8, temperature=0.0)
        assert got_BN[row].tolist() == alone[0, length:].tolist()


def test_generation_reads_media() -> None:
    llm, fusion = make_llm(), make_fusion()
    prompt = llm.model.embed_tokens(random_ids(1, 5).expand(2, -1))
    media = FusedMedia(fusion, 5 * torch.randn(2, 4, 32, generator=seeded()), torch.ones(2, 4).bool())
    options = {"max_new_tokens": 12, "temperature": 0.0, "generator": None, "eos_token_id": None}
    first, second = generate(llm, prompt, media=media, **options).tolist()
    assert first != second


def test_media_need_the_decoder() -> None:
    with pytest.raises(ValueError, match="fusion needs llm"):
        make_xoron(components=frozenset({"fusion"}))
