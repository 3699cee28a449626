"""Monotonic alignment search against every path there is, and against a plain double loop."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.patience import PATIENT
from support.small_models import seeded
from torch import Tensor

from xoron_core.model.speech.alignment import durations_of, forward_sum, log_prior, path_of, search_path


def all_paths(num_tokens: int, num_frames: int) -> list[list[int]]:
    """Every monotonic path that covers every token: the frames at which it goes on are chosen."""
    changes = itertools.combinations(range(1, num_frames), num_tokens - 1)
    return [[sum(frame >= step for step in steps) for frame in range(num_frames)] for steps in changes]


def score(scores_NF: Tensor, path: list[int]) -> float:
    return sum(float(scores_NF[token, frame]) for frame, token in enumerate(path))


def double_loop(scores_NF: list[list[float]]) -> list[int]:
    """The search as its textbook form: a table over tokens and frames, then the way back."""
    num_tokens, num_frames = len(scores_NF), len(scores_NF[0])
    best = [[-math.inf] * num_frames for _ in range(num_tokens)]
    best[0][0] = scores_NF[0][0]
    for frame in range(1, num_frames):
        for token in range(num_tokens):
            come = best[token - 1][frame - 1] if token else -math.inf
            best[token][frame] = max(best[token][frame - 1], come) + scores_NF[token][frame]
    path = [num_tokens - 1]
    for frame in range(num_frames - 1, 0, -1):
        token = path[-1]
        path.append(token - (token > 0 and best[token - 1][frame - 1] > best[token][frame - 1]))
    return path[::-1]


def lengths(*pairs: tuple[int, int]) -> tuple[Tensor, Tensor]:
    tokens, frames = zip(*pairs, strict=True)
    return torch.tensor(tokens), torch.tensor(frames)


@st.composite
def cases(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor]:
    sizes = draw(st.lists(st.tuples(st.integers(1, 4), st.integers(0, 4)), min_size=1, max_size=3))
    tokens, frames = lengths(*((tokens, tokens + more) for tokens, more in sizes))
    spare = draw(st.integers(0, 2))
    shape = (len(sizes), int(tokens.max()) + spare, int(frames.max()) + spare)
    return torch.randn(shape, generator=seeded(draw(st.integers(0, 10_000)))), tokens, frames


@PATIENT
@given(case=cases())
def test_the_search_finds_the_best_of_all_paths(case: tuple[Tensor, Tensor, Tensor]) -> None:
    scores, num_tokens, num_frames = case
    found = search_path(scores, num_tokens, num_frames)
    for row, (tokens, frames) in enumerate(zip(num_tokens.tolist(), num_frames.tolist(), strict=True)):
        best = max(all_paths(tokens, frames), key=lambda path: score(scores[row], path))
        assert found[row, :frames].tolist() == best
        assert (found[row, frames:] == tokens - 1).all()


@PATIENT
@given(case=cases())
def test_the_sum_goes_over_all_paths(case: tuple[Tensor, Tensor, Tensor]) -> None:
    scores, num_tokens, num_frames = case
    found = forward_sum(scores, num_tokens, num_frames)
    for row, (tokens, frames) in enumerate(zip(num_tokens.tolist(), num_frames.tolist(), strict=True)):
        paths = torch.tensor([score(scores[row], path) for path in all_paths(tokens, frames)])
        torch.testing.assert_close(found[row], paths.logsumexp(0), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("num_tokens", "num_frames"), [(40, 190), (1, 17), (31, 31), (7, 128), (2, 129)])
def test_the_search_is_a_plain_double_loop(num_tokens: int, num_frames: int) -> None:
    scores = torch.randn(3, 40, 190, generator=seeded(num_frames)).log_softmax(1)
    sizes = lengths((num_tokens, num_frames), (40, 190), (5, 23))
    found = search_path(scores, *sizes)
    for row, (tokens, frames) in enumerate(zip(*(size.tolist() for size in sizes), strict=True)):
        assert found[row, :frames].tolist() == double_loop(scores[row, :tokens, :frames].double().tolist())


def test_a_path_is_monotonic_and_covers_every_token() -> None:
    num_tokens, num_frames = lengths((30, 30), (12, 100), (1, 64), (30, 100))
    path = search_path(torch.randn(4, 30, 100, generator=seeded()), num_tokens, num_frames)
    steps = path.diff(dim=1)
    assert ((steps == 0) | (steps == 1)).all()
    assert (path[:, 0] == 0).all()
    assert torch.equal(path[:, -1], num_tokens - 1)
    durations = durations_of(path, 30, num_frames)
    assert torch.equal(durations.sum(1), num_frames)
    assert torch.equal((durations > 0).sum(1), num_tokens), "no token goes without a frame"


def test_padding_changes_nothing() -> None:
    scores = torch.randn(1, 6, 20, generator=seeded())
    sizes = lengths((6, 20))
    wide = torch.nn.functional.pad(scores, (0, 9, 0, 5), value=50.0)
    assert torch.equal(search_path(wide, *sizes)[:, :20], search_path(scores, *sizes))
    torch.testing.assert_close(forward_sum(wide, *sizes), forward_sum(scores, *sizes))


def test_the_search_has_no_gradient_and_the_sum_has_the_posterior() -> None:
    scores = torch.randn(1, 3, 6, generator=seeded()).requires_grad_()
    sizes = lengths((3, 5))
    assert not search_path(scores, *sizes).requires_grad
    forward_sum(scores, *sizes).sum().backward()
    paths = all_paths(3, 5)
    weights = torch.tensor([score(scores[0].detach(), path) for path in paths]).softmax(0)
    posterior = torch.zeros(3, 6)
    for path, weight in zip(paths, weights, strict=True):
        for frame, token in enumerate(path):
            posterior[token, frame] += weight
    torch.testing.assert_close(scores.grad[0], posterior, rtol=1e-4, atol=1e-5)


def test_durations_lead_to_their_path_and_back() -> None:
    durations = torch.tensor([[2, 0, 3, 1], [1, 1, 1, 0]])
    path = path_of(durations, 6)
    assert path.tolist() == [[0, 0, 2, 2, 2, 3], [0, 1, 2, 3, 3, 3]]
    assert torch.equal(durations_of(path, 4, torch.tensor([6, 3])), durations)


def test_the_prior_is_a_distribution_along_the_diagonal() -> None:
    num_tokens, num_frames = lengths((9, 40), (3, 7))
    prior = log_prior(num_tokens, num_frames, 11, 40).exp()
    torch.testing.assert_close(prior[0].sum(0), torch.ones(40), rtol=1e-4, atol=0)
    torch.testing.assert_close(prior[1, :, :7].sum(0), torch.ones(7), rtol=1e-4, atol=0)
    assert prior[0, 9:].sum() == prior[1, 3:].sum() == 0
    assert prior[0, :, 0].argmax() == 0
    assert prior[0, :, -1].argmax() == 8
    assert prior[0, :, 20].argmax() == 4
    # BetaBinomial(2, 3, 5), written out: frame 2 of 7
    torch.testing.assert_close(prior[1, :3, 2], torch.tensor([30 / 72, 30 / 72, 12 / 72]), rtol=1e-4, atol=0)
