"""Notebooks are kept without outputs: they are run, not believed."""

import json

import pytest
from conftest import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_no_outputs_in_the_source(path):
    for number, cell in enumerate(json.loads(path.read_text())["cells"]):
        assert not cell.get("outputs") and cell.get("execution_count") is None, f"{path.name}, cell {number}: clear its outputs"
        assert len("".join(cell["source"]).splitlines()) <= 40, f"{path.name}, cell {number} is too long to read"


def test_the_six_are_there():
    assert len(NOTEBOOKS) == 6
