"""`xoron train` takes GPUs that nobody has, or says who has them."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from server.gpus.inventory import GpuInfo
from server.gpus.leases import Leases
from xoron_core.cli.gpus import GpusTakenError, take_gpus
from xoron_core.contract.config.training import ResourcesConfig

AUTO = ResourcesConfig()


class Host:
    """GPUs of a machine that tests do not have."""

    def __init__(self, *uuids: str, lost: str | None = None) -> None:
        self.uuids = uuids
        self.lost_uuid = lost

    def gpus(self) -> list[GpuInfo]:
        return [GpuInfo(uuid, "a GPU", 2**30, 0) for uuid in self.uuids]

    def lost(self, uuids: Sequence[str]) -> str | None:
        return f"GPU {self.lost_uuid}: Xid 79: GPU has fallen off the bus" if self.lost_uuid in uuids else None

    def close(self) -> None:
        pass


@pytest.fixture
def leases(tmp_path: Path) -> Leases:
    return Leases(tmp_path / "leases")


def test_a_run_takes_what_it_needs_and_the_next_is_told_who_has_it(leases: Leases) -> None:
    host = Host("GPU-a", "GPU-b")
    two = ResourcesConfig(processes=2)
    [first] = take_gpus(AUTO, host, leases, "/home/runs/first")
    with pytest.raises(GpusTakenError, match=r"2 GPUs are wanted, and 1 of 2 free \(leased: GPU-a by /home/runs/first"):
        take_gpus(two, host, leases, "/home/runs/second")
    [second] = take_gpus(AUTO, host, leases, "/home/runs/second")
    assert (first.uuid, second.uuid) == ("GPU-a", "GPU-b")
    first.release()
    second.release()
    both = take_gpus(two, host, leases, "/home/runs/third")
    assert [lease.uuid for lease in both] == ["GPU-a", "GPU-b"]
    for lease in both:
        lease.release()


def test_a_run_on_the_cpu_takes_none(leases: Leases) -> None:
    assert take_gpus(AUTO, Host(), leases, "run") == []
    assert take_gpus(ResourcesConfig(device="cpu"), Host("GPU-a"), leases, "run") == []


def test_a_host_without_enough_gpus_is_an_error_with_a_cure(leases: Leases) -> None:
    with pytest.raises(GpusTakenError, match=r"1 GPU is wanted, and 0 can be used here; set resources\.device=cpu"):
        take_gpus(ResourcesConfig(device="cuda"), Host(), leases, "run")
    with pytest.raises(GpusTakenError, match="Xid 79"):
        take_gpus(AUTO, Host("GPU-a", lost="GPU-a"), leases, "run")
