"""Checkpoints and the C++ model from Python: both ways, with the tool, without PyTorch."""

import subprocess
from dataclasses import replace

import numpy as np
import pytest

import lazy_attention as la


def tokens(*shape, vocabulary=256, seed=0):
    return np.random.default_rng(seed).integers(0, vocabulary, shape).astype(np.int32)


def tiny(**change):
    sizes = {"layers": 2, "channels": 32, "heads": 4, "kv_heads": 2, "inner": 48, "context": 24, "window": 8}
    return la.ModelConfig(**{**sizes, **change})


@pytest.fixture
def checkpoint():
    model = la.make_model(tiny(), la.TrainingConfig(warmup=1), seed=3)
    for seed in range(3):
        model.step(tokens(2, 24, seed=seed), tokens(2, 24, seed=seed + 1))
    return la.checkpoint_of(model, la.Checkpoint.of(tiny(), model.parameters(), la.TrainingConfig(warmup=1)))


def test_the_presets_are_those_of_the_tool():
    assert la.preset("toy") == (la.ModelConfig(), la.TrainingConfig())
    assert la.preset("paper-340m")[0].vocabulary == 32000
    with pytest.raises(ValueError, match="unknown preset 'tiny'; choose one of: toy"):
        la.preset("tiny")


def test_initial_values():
    parameters = la.make_model(la.ModelConfig()).parameters()
    for row in la.parameter_table(la.ModelConfig()):
        x = parameters[row.name]
        assert x.shape == row.shape
        assert abs(x.mean() - row.mean) <= 5 * row.deviation / np.sqrt(x.size)
    assert (parameters["model.layers.0.self_attn.tau"] == -1).all()


def test_a_saved_checkpoint_comes_back_the_same(checkpoint, tmp_path):
    path = la.save_checkpoint(tmp_path / "run", checkpoint)
    back = la.load_checkpoint(tmp_path / "run")
    assert path.name == "checkpoint.safetensors" and back.step == 3
    for field in ("model", "training", "random", "tokenizer"):
        assert getattr(back, field) == getattr(checkpoint, field)
    for field in ("parameters", "first_moment", "second_moment"):
        for name, x in getattr(checkpoint, field).items():
            assert np.array_equal(getattr(back, field)[name], x)


def test_going_on_from_a_checkpoint_is_going_on(checkpoint, tmp_path):
    la.save_checkpoint(tmp_path, checkpoint)
    a, b = la.load_model(checkpoint), la.load_model(tmp_path)
    batch = tokens(2, 24, seed=8), tokens(2, 24, seed=9)
    assert a.step(*batch) == b.step(*batch)
    assert a.steps_done == 4
    for name, x in a.parameters().items():
        assert np.array_equal(x, b.parameters()[name])


def test_parameters_are_views(checkpoint):
    model = la.load_model(checkpoint)
    before = model.forward(tokens(1, 8))
    model.parameters()["model.norm.weight"][...] = 0
    assert before.any() and not model.forward(tokens(1, 8)).any()


def test_diagnostics_of_the_last_forward(checkpoint):
    model = la.load_model(checkpoint)
    model.forward(tokens(2, 24))
    diagnosis = model.diagnose()
    weights = np.stack([model.attention_weights(layer) for layer in range(2)])
    assert weights.shape == (2, 2, 4, 24, 24)
    assert diagnosis.all.mass == pytest.approx(weights.sum(-1).mean(), rel=1e-6)
    assert diagnosis.heads[1][2].sink_mass == pytest.approx(weights[1, :, 2, 1:, 0].mean(), rel=1e-5, abs=1e-9)
    assert model.hidden_states(2).shape == (2, 24, 32)


def test_the_tool_reads_what_python_writes(lazy_tool, checkpoint, tmp_path):
    la.save_checkpoint(tmp_path, checkpoint)
    command = [lazy_tool, "generate", "--model", str(tmp_path), "--prompt", "Once", "--tokens", "5"]
    assert subprocess.run(command, capture_output=True, check=True).stdout.startswith(b"Once")


def test_python_reads_what_the_tool_writes(lazy_tool, tmp_path):
    out = tmp_path / "run"
    subprocess.run([lazy_tool, "train", "--data", "tales", "--steps", "2", "--out", out], capture_output=True, check=True)
    checkpoint = la.load_checkpoint(out)
    assert checkpoint.step == 2 and checkpoint.model == la.ModelConfig() and checkpoint.data_kind
    again = la.save_checkpoint(tmp_path / "copy", checkpoint)
    assert la.load_checkpoint(again).random == checkpoint.random


def test_refusals(checkpoint, tmp_path):
    with pytest.raises(FileNotFoundError, match="name a folder that `lazy train --out` wrote"):
        la.load_checkpoint(tmp_path)
    broken = dict(checkpoint.parameters)
    broken["model.norm.weight"] = np.zeros(3, np.float32)
    with pytest.raises(ValueError, match=r"'model.norm.weight' has shape \(3,\), expected \(32,\)"):
        la.save_checkpoint(tmp_path, replace(checkpoint, parameters=broken))
    del broken["model.norm.weight"]
    with pytest.raises(ValueError, match="'model.norm.weight' is missing"):
        la.save_checkpoint(tmp_path, replace(checkpoint, parameters=broken))
    with pytest.raises(ValueError, match=r"head_dim|heads"):
        la.make_model(tiny(heads=5))
    with pytest.raises(IndexError, match="token"):
        la.load_model(checkpoint).forward(np.full((1, 3), 999, np.int32))
