"""Monotonic alignment of tokens and frames: the best one, the likelihood of all, and what follows from durations.

A path starts at (first token, first frame), ends at (last token, last frame) and at every frame stays at its token or
goes on to the next: every token has a frame at least, so a sample needs as many frames as tokens.
Shapes: B samples, N tokens, F frames. Samples are shorter than N and F where their lengths say so.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

UNREACHABLE = -1e9
"""Score of what no path leads to. Finite: gradients through it are zero, not undefined."""


def search_path(log_likelihood_BNF: Tensor, num_tokens_B: Tensor, num_frames_B: Tensor) -> Tensor:
    """Monotonic alignment search (arXiv 2005.11129), exact: the token of every frame on the path with the largest sum
    of log likelihoods, [B, F]; frames beyond a sample's own have its last token.

    One loop over frames; the way back is a composition of maps, by doubling. Nothing waits for the host, and there is
    no gradient.
    """
    with torch.no_grad():
        scores_BNF = log_likelihood_BNF.double()  # sums over hundreds of frames: rounding must not decide
        steps: list[Tensor] = []

        def best(stay_BN: Tensor, come_BN: Tensor) -> Tensor:
            steps.append(come_BN > stay_BN)
            return torch.maximum(stay_BN, come_BN)

        _run_frames(scores_BNF, best)
        batch_size, tokens, frames = scores_BNF.shape
        comes_BFN = torch.stack([torch.zeros_like(scores_BNF[:, :, 0], dtype=torch.bool), *steps], dim=1)
        index_F = torch.arange(frames, device=scores_BNF.device)
        comes_BFN = comes_BFN & (index_F < num_frames_B.unsqueeze(1)).unsqueeze(2)
        # before_BFN[b, f, n]: the token at frame f - 1 of a path that has token n at frame f, then at f + 2^k - 1
        before_BFN = torch.arange(tokens, device=scores_BNF.device) - comes_BFN.long()
        reach = 1
        while reach < frames:
            joined_BFN = before_BFN[:, :-reach].gather(2, before_BFN[:, reach:])
            before_BFN = torch.cat((joined_BFN, before_BFN[:, -reach:]), dim=1)
            reach *= 2
        last_B = (num_tokens_B - 1).clamp(min=0)
        path_BF = before_BFN.gather(2, last_B.view(-1, 1, 1).expand(batch_size, frames, 1)).squeeze(2)
        return torch.cat((path_BF[:, 1:], last_B.unsqueeze(1)), dim=1)


def forward_sum(log_likelihood_BNF: Tensor, num_tokens_B: Tensor, num_frames_B: Tensor) -> Tensor:
    """Log of the summed likelihood of all monotonic paths, [B] (the aligner's objective of arXiv 2108.10447: CTC
    without blanks)."""
    sums_BFN = torch.stack(_run_frames(log_likelihood_BNF.float(), torch.logaddexp), dim=1)
    last_B = (num_frames_B - 1) * sums_BFN.shape[2] + num_tokens_B - 1
    return sums_BFN.flatten(1).gather(1, last_B.unsqueeze(1)).squeeze(1)


def _run_frames(scores_BNF: Tensor, merge: Callable[[Tensor, Tensor], Tensor]) -> list[Tensor]:
    """The recurrence that search and sum share: of staying at a token and of coming from the one before it, `merge`
    makes one; then the frame's own score is added. One [B, N] for each frame."""
    first_BN, *others = scores_BNF.unbind(2)
    rest_BN = torch.full_like(first_BN[:, 1:], UNREACHABLE)
    state_BN = torch.cat((first_BN[:, :1], rest_BN), dim=1)
    states = [state_BN]
    for score_BN in others:
        state_BN = merge(state_BN, F.pad(state_BN[:, :-1], (1, 0), value=UNREACHABLE)) + score_BN
        states.append(state_BN)
    return states


def durations_of(path_BF: Tensor, num_tokens: int, num_frames_B: Tensor) -> Tensor:
    """Frames of every token on a path, [B, N]."""
    is_frame_BF = torch.arange(path_BF.shape[1], device=path_BF.device) < num_frames_B.unsqueeze(1)
    durations_BN = torch.zeros((len(path_BF), num_tokens), dtype=torch.long, device=path_BF.device)
    return durations_BN.scatter_add(1, path_BF, is_frame_BF.long())


def path_of(durations_BN: Tensor, num_frames: int) -> Tensor:
    """The token of every frame, [B, F]: the way back of `durations_of`. Frames beyond the durations' sum have the last
    of the N tokens."""
    ends_BN = durations_BN.cumsum(dim=1)
    frames_BF = torch.arange(num_frames, device=durations_BN.device).expand(len(durations_BN), -1).contiguous()
    return torch.searchsorted(ends_BN, frames_BF, right=True).clamp(max=durations_BN.shape[1] - 1)


def log_prior(num_tokens_B: Tensor, num_frames_B: Tensor, tokens: int, frames: int) -> Tensor:
    """Log of the beta-binomial prior, [B, N, F]: at frame f of F' the token is distributed over a sample's N' tokens as
    BetaBinomial(N' - 1, f + 1, F' - f), a broad diagonal (arXiv 2108.10447, scale 1). UNREACHABLE beyond them."""
    with torch.no_grad():
        n_B11, f_B11 = (lengths.view(-1, 1, 1).float() for lengths in (num_tokens_B, num_frames_B))
        token_N1 = torch.arange(tokens, device=num_tokens_B.device).unsqueeze(1).float()
        frame_F = torch.arange(frames, device=num_tokens_B.device).float()
        rest_BN1 = (n_B11 - 1 - token_N1).clamp(min=0)
        rise_B1F, fall_B1F = (frame_F + 1).expand(len(n_B11), 1, -1), (f_B11 - frame_F).clamp(min=1)
        choose_BN1 = torch.lgamma(n_B11) - torch.lgamma(token_N1 + 1) - torch.lgamma(rest_BN1 + 1)
        beta_BNF = torch.lgamma(token_N1 + rise_B1F) + torch.lgamma(rest_BN1 + fall_B1F)
        beta_BNF = beta_BNF - torch.lgamma(n_B11 - 1 + rise_B1F + fall_B1F)
        norm_B1F = torch.lgamma(rise_B1F) + torch.lgamma(fall_B1F) - torch.lgamma(rise_B1F + fall_B1F)
        return torch.where(token_N1 < n_B11, choose_BN1 + beta_BNF - norm_B1F, UNREACHABLE)
