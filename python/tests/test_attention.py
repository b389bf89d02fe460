"""Attention on NumPy arrays: golden cases, properties of the method, what is refused."""

import numpy as np
import pytest
from conftest import GOLDEN
from safetensors.numpy import load_file

import lazy_attention as la

NAMES = {"dq": "d_q", "dk": "d_k", "dv": "d_v", "dbias": "d_bias", "dtau": "d_tau"}


def difference(found, expected):
    """Largest difference over the largest value; infinities must be the same."""
    assert found.shape == expected.shape
    finite = np.isfinite(expected)
    assert np.array_equal(finite, np.isfinite(found))
    assert np.array_equal(found[~finite], expected[~finite])
    if not finite.any():
        return 0.0
    return np.abs(found[finite] - expected[finite]).max() / max(np.abs(expected[finite]).max(), 1e-30)


@pytest.mark.parametrize("path", GOLDEN, ids=lambda p: p.stem)
@pytest.mark.parametrize("implementation, dtype, budget", [("oracle", "f8", 1e-12), ("tiled", "f8", 1e-11), ("tiled", "f4", 2e-4)])
def test_golden(path, implementation, dtype, budget):
    case = load_file(path)
    inputs = {name: case[name].astype(dtype) for name in ("q", "k", "v", "bias", "tau")}
    rule = {"lengths": case["lengths"], "implementation": implementation}
    forward = la.attention_forward(**inputs, **rule)
    grads = la.attention_backward(case["d_out"].astype(dtype), **inputs, forward=forward, **rule)
    assert difference(forward.out, case["out"]) <= budget
    assert difference(forward.lse, case["lse"]) <= budget
    for ours, theirs in NAMES.items():
        if case[theirs].size:
            assert difference(getattr(grads, ours), case[theirs]) <= 10 * budget, ours
    if "weights" in case:
        weights = la.attention_weights(inputs["q"], inputs["k"], inputs["bias"], inputs["tau"], **rule)
        assert difference(weights, case["weights"]) <= budget


@pytest.mark.parametrize("normalizer", ["softmax", "softmax1", "sink", "sigmoid", "entmax15", "softpick", "elastic"])
@pytest.mark.parametrize("Tq", [1, 4, 7])
def test_tiled_agrees_with_the_oracle(problem, normalizer, Tq):
    p = problem(Tq=Tq)
    p["sink"] = np.linspace(-1, 1, 4)
    dout = np.random.default_rng(5).normal(size=p["q"].shape)
    rule = {"normalizer": normalizer}
    a, b = (la.attention_backward(dout, **p, **rule, implementation=i) for i in ("tiled", "oracle"))
    for name, x, y in zip(a._fields, a, b):
        assert difference(x, y) <= 1e-11, name


def test_weights_times_values_are_the_output(problem):
    p = problem()
    out = la.attention_forward(**p).out
    v = np.repeat(p.pop("v"), 2, axis=2)
    assert np.allclose(np.einsum("bhij,bjhd->bihd", la.attention_weights(**p), v), out, atol=1e-14)


def test_the_past_does_not_see_the_future(problem):
    p = problem(tau=0.5)
    before = la.attention_forward(**p).out
    p["k"][:, 5:], p["v"][:, 5:] = 100.0, -100.0
    assert np.array_equal(la.attention_forward(**p).out[:, :5], before[:, :5])


def test_the_first_token_attends_to_nothing_at_minus_one(problem):
    p = problem(tau=-1.0)
    p["tau"][:] = -1.0
    assert not la.attention_forward(**p).out[:, 0].any()


def test_rows_past_a_length_are_zero(problem):
    p = problem()
    forward = la.attention_forward(**p)
    assert not forward.out[1, 5:].any()
    assert np.isneginf(forward.lse[1, :, 5:]).all()
    assert forward.out[1, :5].all()


def test_any_strides_give_the_same(problem):
    p = problem()
    expected = la.attention_forward(**p).out
    p["q"] = np.asfortranarray(p["q"])
    p["k"] = p["k"].transpose(0, 2, 1, 3).copy().transpose(0, 2, 1, 3)
    p["v"] = np.repeat(p["v"], 2, axis=1)[:, ::2]
    p["lengths"] = p["lengths"].astype(np.int32)
    assert np.array_equal(la.attention_forward(**p).out, expected)


def test_inputs_may_be_read_only(problem):
    p = problem()
    for x in p.values():
        x.setflags(write=False)
    la.attention_forward(**p)


def test_no_bias_and_an_empty_table_are_the_same(problem):
    p = problem()
    p["bias"] = None
    without = la.attention_backward(np.ones_like(p["q"]), **p)
    p["bias"] = np.zeros((4, 0))
    empty = la.attention_backward(np.ones_like(p["q"]), **p)
    assert without.dbias is None and empty.dbias.shape == (4, 0)
    assert np.array_equal(without.dq, empty.dq)


@pytest.mark.parametrize(
    "change, error, words",
    [
        ({"k": np.zeros((2, 7, 2, 5))}, ValueError, r"k has shape \(2, 7, 2, 5\), expected \(2, Tk, Hkv, 6\)"),
        ({"v": np.zeros((2, 6, 2, 6))}, ValueError, r"v has shape .* expected \(2, 7, 2, 6\): the shape of k"),
        ({"k": np.zeros((2, 7, 3, 6)), "v": np.zeros((2, 7, 3, 6))}, ValueError, "q has 4 heads and k has 3"),
        ({"k": np.zeros((2, 4, 2, 6)), "v": np.zeros((2, 4, 2, 6))}, ValueError, "q has 7 rows and k has 4"),
        ({"q": np.zeros((7, 4, 6))}, ValueError, "q has shape .* sequences, queries, heads"),
        ({"q": np.zeros((2, 7, 4, 6), np.float16)}, TypeError, "q is float16, expected one of float32, float64"),
        ({"k": np.zeros((2, 7, 2, 6), np.float32)}, TypeError, "k is float32, expected float64: that of q"),
        ({"bias": np.zeros((3, 5))}, ValueError, r"bias has shape \(3, 5\), expected \(4, W\)"),
        ({"tau": np.zeros(3)}, ValueError, r"tau has shape \(3,\), expected \(4,\)"),
        ({"tau": None}, ValueError, "tau is missing: .* normalizer='softmax'"),
        ({"normalizer": "sink"}, ValueError, "sink is missing"),
        ({"lengths": np.array([7, 8])}, ValueError, r"lengths\[1\] is 8, must be between 0 and keys \(7\)"),
        ({"lengths": np.array([7])}, ValueError, r"lengths has shape \(1,\), expected \(2,\)"),
        ({"lengths": np.array([7.0, 7.0])}, TypeError, "lengths is float64, expected int64"),
        ({"normalizer": "sofmax"}, ValueError, "normalizer is 'sofmax'; choose one of softmax"),
        ({"implementation": "fast"}, ValueError, "implementation is 'fast'; choose one of tiled, oracle"),
        ({"q": [1.0]}, TypeError, "q is a list, expected a NumPy array"),
    ],
)
def test_refusals_name_what_is_wrong(problem, change, error, words):
    with pytest.raises(error, match=words):
        la.attention_forward(**{**problem(), **change})


def test_a_forward_of_other_inputs_is_refused(problem):
    p = problem()
    other = la.attention_forward(**problem(Tq=3))
    with pytest.raises(ValueError, match="forward.out has shape"):
        la.attention_backward(np.ones_like(p["q"]), **p, forward=other)
    with pytest.raises(ValueError, match="dout has shape"):
        la.attention_backward(np.ones((1, 2)), **p)
