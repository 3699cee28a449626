"""The committed JSON Schemas are those of the code."""

import json
from pathlib import Path

import pytest

from xoron_core.contract.schema import documents

GOLDEN = Path(__file__).with_name("golden")


@pytest.mark.parametrize("name", sorted({*documents(), *(path.stem for path in GOLDEN.glob("*.json"))}))
def test_the_golden_schema_is_the_codes(name: str) -> None:
    cure = (
        "the contract has changed: run `make schemas` and commit the result together with contract/, as its own commit"
    )
    path = GOLDEN / f"{name}.json"
    assert path.exists(), f"{path.name} is missing; {cure}"
    assert name in documents(), f"{path.name} is of nothing; remove it: {cure}"
    assert json.loads(path.read_text(encoding="utf-8")) == documents()[name], cure
