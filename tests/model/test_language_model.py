"""The decoder: generation, checkpointing, determinism."""

import pytest
import torch
from support.small_models import VOCAB_SIZE, make_llm, random_ids, seeded

from xoron_core.contract.config.model import LanguageModelConfig
from xoron_core.model.generation import choose_token, generate
from xoron_core.model.language_model import LanguageModel, document_positions


@pytest.mark.parametrize("kind", ["mla", "gqa"])
@pytest.mark.parametrize("window", [None, 6])
def test_cached_generation_equals_uncached(kind: str, window: int | None) -> None:
    llm = make_llm(attention=kind, sliding_window=window).eval()
    prompt = random_ids(2, 9)
    got = llm.generate(prompt, max_new_tokens=12, temperature=0.0)
    tokens = prompt
    with torch.no_grad():
        for _ in range(12):
            logits = llm(tokens, return_logits=True).logits_BTV[:, -1, :VOCAB_SIZE]
            tokens = torch.cat((tokens, logits.argmax(-1, keepdim=True)), dim=1)
    assert got.tolist() == tokens.tolist()


def make_restless_llm(**changes: object) -> LanguageModel:
    """One that does not say the same again and again, as tied embeddings would by themselves."""
    llm = make_llm(**changes).eval()
    torch.nn.init.normal_(llm.model.norm.weight, generator=seeded(7))
    return llm


@pytest.mark.parametrize("kind", ["mla", "gqa"])
@pytest.mark.parametrize("window", [1, 4, 17])
def test_cached_generation_far_past_the_window_equals_uncached(kind: str, window: int) -> None:
    """Forty tokens drawn after six, beyond the positions that the frequencies are made for; the prompt is shorter or
    longer than the window."""
    llm = make_restless_llm(attention=kind, sliding_window=window, num_layers=3)
    tokens = random_ids(3, 6)
    got = llm.generate(tokens, max_new_tokens=40, temperature=0.7, generator=seeded(2))
    generator = seeded(2)
    with torch.no_grad():
        for _ in range(40):
            logits = llm(tokens, return_logits=True).logits_BTV[:, -1, :VOCAB_SIZE]
            tokens = torch.cat((tokens, choose_token(logits, 0.7, generator).unsqueeze(1)), dim=1)
    assert got.tolist() == tokens.tolist()
    assert len(set(got[:, 6:].flatten().tolist())) > 40


@pytest.mark.parametrize("kind", ["mla", "gqa"])
@pytest.mark.parametrize("window", [None, 1, 5, 11])
def test_prompts_padded_on_the_left_go_on_as_each_alone(kind: str, window: int | None) -> None:
    llm = make_restless_llm(attention=kind, sliding_window=window)
    lengths = (9, 2, 5, 1)
    prompts = [random_ids(1, length, seed=length) for length in lengths]
    padded = torch.full((4, 9), 7)
    mask = torch.zeros(4, 9, dtype=torch.bool)
    for row, prompt in enumerate(prompts):
        padded[row, 9 - prompt.shape[1] :] = prompt[0]
        mask[row, 9 - prompt.shape[1] :] = True
    together = generate(
        llm, llm.model.embed_tokens(padded), prompt_mask_BT=mask, max_new_tokens=14, temperature=0.0,
        generator=None, eos_token_id=None,
    )  # fmt: skip
    for row, prompt in enumerate(prompts):
        alone = llm.generate(prompt, max_new_tokens=14, temperature=0.0)
        assert together[row].tolist() == alone[0, prompt.shape[1] :].tolist()
    assert len(set(together.flatten().tolist())) > 5


def test_sampling_follows_its_generator_and_stays_in_the_vocabulary() -> None:
    llm = make_llm().eval()
    prompt = random_ids(1, 4)
    first, same, other = (
        llm.generate(prompt, max_new_tokens=60, temperature=3.0, generator=seeded(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    assert first.max() < VOCAB_SIZE < llm.model.embed_tokens.num_embeddings


def test_generation_ends_with_the_last_row_and_fills_the_others() -> None:
    llm = make_llm().eval()
    prompt = random_ids(2, 4)
    free = llm.generate(prompt, max_new_tokens=8, temperature=2.0, generator=seeded())
    end = int(free[0, 5])
    assert end not in free[1, 4:], "the second row goes on"
    got = llm.generate(prompt, max_new_tokens=8, temperature=2.0, generator=seeded(), eos_token_id=end)
    position = free[0, 4:].tolist().index(end) + 4
    assert got[0, : position + 1].tolist() == free[0, : position + 1].tolist()
    assert got[1].tolist() == free[1].tolist()
    assert got[0, position:].tolist() == [end] * (12 - position)
    alone = llm.generate(free[:1, :position], max_new_tokens=8, temperature=0.0)
    end = int(alone[0, position])
    assert (
        llm.generate(free[:1, :position], max_new_tokens=8, temperature=0.0, eos_token_id=end).shape[1] == position + 1
    )


def test_temperature_sharpens_or_flattens() -> None:
    logits = torch.tensor([[1.0, 0.0, 0.0, 0.0]]).expand(400, 4)
    likeliest = [
        int((choose_token(logits, temperature, seeded()) == 0).sum()) for temperature in (0.0, 0.1, 1.0, 100.0)
    ]
    assert likeliest[:2] == [400, 400]
    assert 150 < likeliest[2] < 230
    assert 70 < likeliest[3] < 130


def test_what_writes_into_the_residual_stream_starts_smaller() -> None:
    layers = make_llm(num_layers=8).model.layers
    ratios = [layer.attention.o_proj.weight.std() / layer.attention.q_proj.weight.std() for layer in layers]
    assert float(sum(ratios).detach()) / 8 == pytest.approx((2 * 8) ** -0.5, rel=0.1)


def test_positions_restart_with_every_document() -> None:
    documents = torch.tensor([[0, 0, 0, 1, 1, 2], [7, 7, 3, 3, 3, -1]])
    assert document_positions(documents).tolist() == [[0, 1, 2, 0, 1, 0], [0, 1, 0, 1, 2, 0]]


def test_embeddings_may_be_given_instead_of_ids() -> None:
    llm = make_llm()
    ids = random_ids(1, 5)
    from_ids = llm(ids).hidden_states_BTD
    assert torch.equal(from_ids, llm(inputs_embeds_BTD=llm.model.embed_tokens(ids)).hidden_states_BTD)
    with pytest.raises(ValueError, match="either input_ids_BT or inputs_embeds_BTD"):
        llm(ids, inputs_embeds_BTD=llm.model.embed_tokens(ids))
    with pytest.raises(ValueError, match="either input_ids_BT or inputs_embeds_BTD"):
        llm()


def test_experts_stand_in_every_nth_layer() -> None:
    def with_experts(moe_every: int) -> list[int]:
        config = LanguageModelConfig(**(make_llm().config.model_dump() | {"num_layers": 6, "moe_every": moe_every}))
        names = {name for name, _ in LanguageModel(config, 100).named_parameters() if "router" in name}
        return sorted(int(name.split(".")[2]) for name in names)

    assert with_experts(2) == [1, 3, 5]
    assert with_experts(3) == [2, 5]
    assert with_experts(0) == []


def losses_and_gradients(checkpointing: bool = False) -> list[torch.Tensor]:
    llm = make_llm(seed=3)
    llm.gradient_checkpointing_enable(checkpointing)
    ids = random_ids(2, 24)
    documents = torch.tensor([[0] * 10 + [1] * 14] * 2)
    out = llm(ids, document_ids_BT=documents, labels_BT=ids)
    out.loss_sum.backward()
    return [out.loss_sum.detach(), *(parameter.grad for parameter in llm.parameters())]


def test_checkpointing_changes_no_gradient() -> None:
    for plain, recomputed in zip(losses_and_gradients(), losses_and_gradients(checkpointing=True), strict=True):
        torch.testing.assert_close(plain, recomputed)


def test_the_same_seed_gives_the_same_bits() -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        first, second = losses_and_gradients(), losses_and_gradients()
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_padding_changes_neither_states_nor_load() -> None:
    llm = make_llm()
    ids = random_ids(1, 6)
    padded = torch.cat((ids, torch.zeros(1, 4, dtype=torch.long)), dim=1)
    documents = torch.tensor([[0] * 6 + [-1] * 4])
    torch.testing.assert_close(
        llm(padded, document_ids_BT=documents).hidden_states_BTD[:, :6], llm(ids).hidden_states_BTD
    )
    assert llm.model.layers[1].feed_forward.router.load_E.sum() == 2 * 6 * 2
