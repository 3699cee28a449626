"""What one of several ranks found out about the others: `rank_program.py FOLDER`, started by torchrun."""

import json
import os
import sys
from pathlib import Path

import torch

from xoron_core.distributed.join import join
from xoron_core.distributed.launch import Launch
from xoron_core.distributed.ranks import Terms

SIZES = [3, 40, 10_000_000, 7]
"""Parameters; the third is larger than a bucket. Rank r has gradients for those in HAS[r]."""
HAS = [{0, 2}, {1, 2}]


def main(folder: Path) -> None:
    """Exchange something of everything and write down what came of it."""
    launch = Launch.of(os.environ)
    ranks = join(launch, "cpu")
    parameters = [torch.nn.Parameter(torch.zeros(size)) for size in SIZES]
    for at in HAS[ranks.rank]:
        parameters[at].grad = torch.full((SIZES[at],), float(1 + ranks.rank))
    ranks.sum_gradients(parameters)
    loads = [torch.tensor([1.0, 2.0]) * (1 + ranks.rank), torch.tensor([5], dtype=torch.int64)]
    ranks.sum_tensors(loads)
    own: list[Terms] = [{"loss": (torch.tensor(1.5), torch.tensor(2.0))}, {}]
    if ranks.rank == 1:
        own = [{"loss": (torch.tensor(0.5), torch.tensor(1.0))}, {"ce": (torch.tensor(torch.inf), torch.tensor(4.0))}]
    found = {
        "largest": ranks.largest(10 - ranks.rank),
        "gathered": ranks.gather({"rank": ranks.rank}),
        "gradients": [None if p.grad is None else [p.grad[0].item(), p.grad[-1].item()] for p in parameters],
        "loads": [load.tolist() for load in loads],
        "terms": [{name: [v.item(), c.item()] for name, (v, c) in t.items()} for t in ranks.sum_terms(own)],
    }
    ranks.close()
    (folder / f"{ranks.rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
