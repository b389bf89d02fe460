"""Diagnostics of weights and hidden states, against the formulas of docs/diagnostics.md in NumPy."""

import numpy as np
import pytest

import lazy_attention as la


@pytest.fixture
def weights(problem):
    p = problem(Tq=9, Tk=9, tau=-0.9)
    return la.attention_weights(p["q"], p["k"], p["bias"], p["tau"])


def test_mass_sink_and_density(weights):
    summary = la.attention_summary(weights)
    mass = weights.sum(-1)
    assert summary.mass == pytest.approx(mass.mean())
    assert summary.sink_mass == pytest.approx(weights[:, :, 1:, 0].mean())
    assert summary.sink_mass + summary.rest_mass == pytest.approx(mass[:, :, 1:].mean())
    causal = np.tri(9, dtype=bool)
    assert summary.density_micro == pytest.approx((weights > 0)[:, :, causal].mean())
    assert summary.sparsity == pytest.approx(1 - summary.density_micro)
    assert summary.dead_rows == pytest.approx((mass == 0).mean())


def test_effective_keys_of_uniform_weights_is_their_number():
    uniform = np.tri(6) / np.arange(1, 7)[:, None]
    assert la.attention_summary(uniform).effective_keys == pytest.approx(np.arange(1, 7).mean())


def test_sink_scores(weights):
    scores = la.sink_scores(weights)
    assert scores.shape == weights.shape[:2] + (9,)
    assert scores[1, 2, 3] == pytest.approx(weights[1, 2, 3:, 3].mean())


def test_collapse_of_equal_rows():
    x = np.tile(np.arange(1.0, 5.0), (3, 1))
    assert la.collapse(x).mean_cosine == pytest.approx(1)
    assert la.collapse(x).rank_residual == pytest.approx(0)
    assert la.collapse(x).variance_footprint == pytest.approx([np.arange(1.0, 5.0).var(ddof=1)] * 3)
    assert la.activations(x).largest == 4


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: la.attention_summary(np.ones(3)), r"weights has shape \(3,\)"),
        (lambda: la.attention_summary(np.ones((3, 3)), visible=[1, 2]), "visible has 2 entries, expected 3"),
        (lambda: la.collapse(np.ones((2, 3, 4))), r"x has shape \(2, 3, 4\), expected \[T, C\]"),
    ],
)
def test_refusals(call, words):
    with pytest.raises(ValueError, match=words):
        call()
