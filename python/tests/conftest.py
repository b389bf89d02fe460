"""Where the tests find golden cases and the `lazy` tool, and inputs that lie off the kink."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = sorted((ROOT / "tests" / "golden").glob("*.safetensors"))


@pytest.fixture(scope="session")
def lazy_tool():
    """The command-line tool: LAZY_TOOL, build/lazy, or on the PATH."""
    for found in (os.environ.get("LAZY_TOOL"), ROOT / "build" / "lazy", shutil.which("lazy")):
        if found and Path(found).is_file():
            return str(found)
    pytest.skip("the lazy tool is not built; make build makes it")


@pytest.fixture
def problem():
    """make(dtype, ...) -> dict of q, k, v, bias, tau, lengths: two ragged sequences, grouped heads, a window shorter than them."""

    def make(dtype=np.float64, B=2, Tq=7, Tk=7, H=4, Hkv=2, D=6, W=3, tau=-0.6, seed=0):
        random = np.random.default_rng(seed)
        draw = lambda *shape: random.normal(size=shape).astype(dtype)  # noqa: E731
        return {
            "q": draw(B, Tq, H, D),
            "k": draw(B, Tk, Hkv, D),
            "v": draw(B, Tk, Hkv, D),
            "bias": draw(H, W),
            "tau": np.linspace(tau, tau / 2, H).astype(dtype),
            "lengths": np.array([Tk] + [Tk - 2] * (B - 1), np.int64),
        }

    return make
