"""What ranks tell each other."""

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from xoron_core.distributed.group import between_ranks
from xoron_core.distributed.join import join
from xoron_core.distributed.launch import Launch
from xoron_core.distributed.ranks import Alone, PeerLostError

PROGRAM = Path(__file__).parents[1] / "support" / "rank_program.py"


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of two processes found out."""
    folder = tmp_path_factory.mktemp("found")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run([*launcher, str(PROGRAM), str(folder)], capture_output=True, text=True, timeout=90)
    assert done.returncode == 0, done.stderr
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


def test_both_ranks_find_the_same(found: list[dict[str, Any]]) -> None:
    assert found[0] == found[1]


def test_numbers_and_items_reach_everybody(found: list[dict[str, Any]]) -> None:
    assert found[0]["largest"] == 10
    assert found[0]["gathered"] == [{"rank": 0}, {"rank": 1}]


def test_a_gradient_that_one_rank_lacks_counts_nothing_and_one_that_all_lack_stays_away(
    found: list[dict[str, Any]],
) -> None:
    assert found[0]["gradients"] == [[1.0, 1.0], [2.0, 2.0], [3.0, 3.0], None]


def test_tensors_of_different_types_are_summed(found: list[dict[str, Any]]) -> None:
    assert found[0]["loads"] == [[3.0, 6.0], [10]]


def test_terms_are_summed_by_place_and_name(found: list[dict[str, Any]]) -> None:
    assert found[0]["terms"] == [{"loss": [2.0, 3.0]}, {"ce": [math.inf, 4.0]}]


def test_alone_everything_stays_as_it_is() -> None:
    ranks = join(Launch(), "cpu")
    assert isinstance(ranks, Alone)
    terms = [{"loss": (torch.tensor(1.5), torch.tensor(2.0))}]
    assert ranks.sum_terms(terms) is terms
    assert (ranks.largest(3), ranks.gather("me")) == (3, ["me"])


def test_being_alone_costs_no_torch() -> None:
    code = (
        "import sys; from xoron_core.distributed.join import join; from xoron_core.distributed.launch import Launch; "
        "import xoron_core.training.process; join(Launch(), 'auto'); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_place_that_a_launcher_tells_is_read() -> None:
    launch = Launch.of({"RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "4"})
    assert (launch.rank, launch.local_rank, launch.world_size, launch.has_launcher) == (3, 1, 4, True)
    assert not Launch.of({}).has_launcher


@pytest.mark.parametrize(
    "told",
    [
        "NCCL error in: NCCLUtils.cpp:77, unhandled cuda error\nLast error:\nCuda failure 2 'out of memory'",
        "NCCL error in: NCCLUtils.cpp:77, unhandled cuda error\nLast error:\nFailed to CUDA calloc async 4194304 bytes",
    ],
)
def test_memory_that_runs_out_while_ranks_talk_is_not_taken_for_the_loss_of_another(told: str) -> None:
    with pytest.raises(torch.OutOfMemoryError, match="no memory is left for NCCL"), between_ranks():
        raise torch.distributed.DistBackendError(told)


def test_trouble_of_the_own_gpu_stays_what_it_is() -> None:
    with pytest.raises(torch.AcceleratorError, match="ECC"), between_ranks():
        raise torch.AcceleratorError("CUDA error: uncorrectable ECC error encountered")


def test_what_goes_wrong_otherwise_is_the_loss_of_another() -> None:
    with pytest.raises(PeerLostError, match="another rank went away: Connection closed by peer"), between_ranks():
        raise RuntimeError("Connection closed by peer\nmore")
