"""The package is typed."""

import subprocess
import sys

import pytest
from conftest import ROOT

pytest.importorskip("mypy", reason="mypy is not installed; pip install 'lazy-attention[test]'")
pytest.importorskip("torch", reason="PyTorch is not installed; pip install 'lazy-attention[torch]'")


def test_mypy_finds_nothing():
    found = subprocess.run([sys.executable, "-m", "mypy"], cwd=ROOT, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout + found.stderr
