"""The PyTorch operator, layer and model, against PyTorch's own autograd and against the C++ model."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed; pip install 'lazy-attention[torch]'")

import lazy_attention as la  # noqa: E402
from lazy_attention.torch import (  # noqa: E402
    LazyAttention,
    Transformer,
    checkpoint_of,
    lazy_attention,
    load_transformer,
    make_optimizer,
    parameter_groups,
    reference_attention,
    reference_weights,
)

NORMALIZERS = ["softmax", "softmax1", "sink", "sigmoid", "entmax15", "softpick", "elastic"]
LEARNED = ("q", "k", "v", "bias", "tau")


def tensors(p, dtype=torch.float64):
    p = {name: torch.from_numpy(x) for name, x in p.items()}
    return {name: x if name == "lengths" else x.to(dtype).requires_grad_() for name, x in p.items()}


def gradients(function, p, dout, **rule):
    out = function(**p, **rule)
    named = {name: x for name, x in p.items() if x.requires_grad}
    return out, dict(zip(named, torch.autograd.grad(out, list(named.values()), dout, allow_unused=True)))


def close(a, b, budget):
    return (a - b).abs().max() <= budget * b.abs().max().clamp_min(1e-30)


@pytest.mark.parametrize("implementation", ["tiled", "oracle", "reference"])
@pytest.mark.parametrize("Tq", [3, 5])
def test_gradcheck(problem, implementation, Tq):
    p = tensors(problem(B=2, Tq=Tq, Tk=5, H=2, Hkv=1, D=4, W=2))
    lengths = p.pop("lengths")
    weights = reference_weights(p["q"], p["k"], p["bias"], torch.full((2,), 1e-9, dtype=torch.float64), lengths=lengths)
    n = torch.arange(5 - Tq + 1, 6)
    assert (weights[0] + (p["tau"][:, None] / n)[..., None]).abs().min() > 1e-4  # off the kink

    def f(*learned):
        return lazy_attention(*learned, lengths=lengths, implementation=implementation)

    assert torch.autograd.gradcheck(f, tuple(p[name] for name in LEARNED))


@pytest.mark.parametrize("normalizer", NORMALIZERS)
@pytest.mark.parametrize("divisor", ["visible", "length"])
@pytest.mark.parametrize("Tq", [1, 4, 7])
def test_gradients_agree_with_autograd_of_the_reference(problem, normalizer, divisor, Tq):
    p = problem(Tq=Tq)
    p["sink"] = np.linspace(-1, 1, 4)
    p = tensors(p)
    dout = torch.randn(p["q"].shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    rule = {"normalizer": normalizer, "divisor": divisor}
    expected, theirs = gradients(reference_attention, p, dout, **rule)
    found, ours = gradients(lazy_attention, p, dout, **rule)
    assert close(found, expected, 1e-10)
    for name, gradient in theirs.items():
        if gradient is None:
            assert not ours[name].any()
        else:
            assert close(ours[name], gradient, 1e-9), name


def test_the_reference_has_the_oracle_s_weights(problem):
    p = problem(Tq=4)
    weights = la.attention_weights(p["q"], p["k"], p["bias"], p["tau"], lengths=p["lengths"], implementation="oracle")
    t = tensors(p)
    assert np.allclose(reference_weights(t["q"], t["k"], t["bias"], t["tau"], lengths=t["lengths"]).detach().numpy(), weights, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("W", [0, 3])
def test_emulated_kernels_take_the_path_of_the_gpu(problem, dtype, W):
    p = tensors(problem(dtype=np.float32, Tq=5, Tk=5, H=2, Hkv=1, D=32, W=W), torch.float32)
    for name in ("q", "k", "v"):
        p[name] = p[name].detach().to(dtype).requires_grad_()
    dout = torch.randn(p["q"].shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    found, ours = gradients(lazy_attention, p, dout, implementation="emulated")
    expected, theirs = gradients(reference_attention, p, dout)
    budget = {torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 2e-3}[dtype]
    assert found.dtype == dtype
    assert close(found.float(), expected.float(), budget)
    for name, gradient in theirs.items():
        if gradient is not None:  # an empty table is not read
            assert ours[name].dtype == gradient.dtype and close(ours[name].float(), gradient.float(), 3 * budget), name


def test_registered_as_pytorch_asks_for(problem):
    p = tensors(problem(Tq=4, Tk=4, H=2, Hkv=1, D=4))
    arguments = (p["q"], p["k"], p["v"], p["bias"], p["tau"], None, p["lengths"], "elastic", "visible", "tiled", "")
    torch.library.opcheck(torch.ops.lazy_attention.forward.default, arguments)


@pytest.mark.parametrize("dynamic", [False, True])
def test_under_torch_compile(dynamic):
    torch._dynamo.reset()
    torch.manual_seed(0)
    layer = LazyAttention(16, 2, window=4)
    compiled = torch.compile(layer, fullgraph=True, dynamic=dynamic, backend="aot_eager")
    for T in (5, 9):
        x = torch.randn(2, T, 16)
        mask = torch.arange(T) >= torch.tensor([[T], [T - 2]])
        expected, found = (f(x, key_padding_mask=mask) for f in (layer, compiled))
        assert torch.allclose(expected, found, atol=1e-6)
        grads = [torch.autograd.grad(y.square().sum(), layer.tau)[0] for y in (expected, found)]
        assert torch.allclose(*grads, atol=1e-6)


def test_sixteen_bits_and_autocast_are_computed_in_32(problem):
    p = tensors(problem(dtype=np.float32), torch.float32)
    for name in ("q", "k", "v"):
        p[name] = p[name].detach().bfloat16()
    out = lazy_attention(**p)
    assert out.dtype == torch.bfloat16
    p32 = {**p, **{name: p[name].float() for name in ("q", "k", "v")}}
    assert torch.equal(out, lazy_attention(**p32).bfloat16())

    layer = LazyAttention(16, 2, window=4)
    x = torch.randn(2, 6, 16)
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
    y.float().sum().backward()
    assert y.dtype == torch.bfloat16 and layer.tau.grad.dtype == torch.float32
    assert torch.allclose(y.float(), layer(x), atol=2e-2)


def test_strides_do_not_matter(problem):
    p = tensors(problem())
    expected = lazy_attention(**p)
    p["q"] = p["q"].detach().transpose(1, 2).contiguous().transpose(1, 2).requires_grad_()
    found = lazy_attention(**p)
    assert torch.equal(found, expected)
    found.sum().backward()  # an expanded gradient, every stride 0
    assert torch.equal(p["q"].grad, gradients(lazy_attention, p, torch.ones_like(found))[1]["q"])


def test_a_padding_mask_says_what_lengths_say(problem):
    p = tensors(problem())
    expected = lazy_attention(**p)
    mask = torch.arange(7) >= p.pop("lengths")[:, None]
    assert torch.equal(lazy_attention(**p, key_padding_mask=mask), expected)
    with pytest.raises(ValueError, match="padding stands before or between the keys"):
        lazy_attention(**p, key_padding_mask=mask.flip(1))
    with pytest.raises(TypeError, match="key_padding_mask is float32, expected bool"):
        lazy_attention(**p, key_padding_mask=mask.float())
    with pytest.raises(ValueError, match="give one of them"):
        lazy_attention(**p, key_padding_mask=mask, lengths=torch.tensor([7, 7]))


@pytest.mark.parametrize(
    "change, error, words",
    [
        ({"dropout": 0.1}, ValueError, "dropout is 0.1: it is not supported"),
        ({"q": torch.nn.utils.rnn.pack_sequence([torch.ones(2, 3)])}, TypeError, "q is a packed, nested or sparse sequence"),
        ({"q": torch.nested.nested_tensor([torch.ones(3, 4, 6)])}, TypeError, "q is a packed, nested or sparse sequence"),
        ({"k": torch.zeros(2, 7, 2, 6)}, TypeError, "k is float32, expected float64: that of q"),
        ({"bias": torch.zeros(4, 3, dtype=torch.bfloat16)}, TypeError, "bias is bfloat16, expected float64"),
        ({"tau": torch.zeros(3, dtype=torch.float64)}, ValueError, r"tau has shape \(3,\), expected \(4,\)"),
        ({"tau": None}, ValueError, "tau is missing"),
        ({"implementation": "triton"}, ValueError, "implementation is 'triton'; choose one of auto, tiled"),
        ({"implementation": "emulated"}, TypeError, "q is float64, expected one of float32, bfloat16, float16"),
        ({"implementation": "cuda"}, ValueError, "q is on cpu: 'cuda' computes on cuda"),
        ({"q": torch.zeros(2, 7, 4, 6, device="meta")}, ValueError, "q is on meta: there is no kernel for it"),
    ],
)
def test_refusals_name_what_is_wrong(problem, change, error, words):
    with pytest.raises(error, match=words):
        lazy_attention(**{**tensors(problem()), **change})


def test_a_rung_that_is_not_there_is_named(problem):
    p = tensors(problem(dtype=np.float32), torch.float32)
    with pytest.raises(ValueError, match="there is no rung v9; there are v0, v1"):
        lazy_attention(**p, implementation="emulated", rung="v9")


def test_the_layer_refuses():
    with pytest.raises(ValueError, match="dropout is 0.1"):
        LazyAttention(16, 2, dropout=0.1)
    with pytest.raises(ValueError, match=r"channels \(15\) must be a multiple of heads \(2\)"):
        LazyAttention(15, 2)
    with pytest.raises(ValueError, match=r"head_dim \(3 = 6 / 2\) must be even for RoPE"):
        LazyAttention(6, 2)
    with pytest.raises(ValueError, match=r"x is of shape \(2, 5, 8\), expected \[B, T, 16\]"):
        LazyAttention(16, 2)(torch.zeros(2, 5, 8))


def test_initial_values_of_the_layer():
    torch.manual_seed(0)
    layer = LazyAttention(256, 4, window=512)
    assert (layer.tau == -1).all()
    assert float(layer.distance_bias.detach().std()) == pytest.approx(1e-3, rel=0.1)
    assert float(layer.q_proj.weight.detach().std()) == pytest.approx(0.02, rel=0.02)


# ---- The model.

CONFIGS = {
    "lazy": {},
    "grouped": {"kv_heads": 2, "window": 5},
    "untied softmax with rope": {"tied": False, "attention": "softmax", "position": "rope"},
    "alibi and sink": {"attention": "sink", "position": "alibi"},
    "softpick without positions": {"attention": "softpick", "position": "none"},
}


def batch(seed, B=2, T=24):
    random = np.random.default_rng(seed)
    tokens, targets = (random.integers(0, 256, (B, T)).astype(np.int32) for _ in range(2))
    targets[0, :3] = -1
    return tokens, targets


@pytest.fixture(params=CONFIGS.values(), ids=CONFIGS.keys())
def checkpoint(request):
    sizes = la.ModelConfig(layers=2, channels=32, heads=4, inner=48, context=24, window=30)
    config = la.ModelConfig(**{**vars(sizes), **request.param})
    training = la.TrainingConfig(warmup=1, schedule_steps=10)
    model = la.make_model(config, training, seed=3)
    for parameter in model.parameters().values():  # away from the symmetric start
        parameter += np.random.default_rng(4).normal(size=parameter.shape).astype(np.float32) * 0.05
    for seed in range(2):
        model.step(*batch(seed))
    return la.checkpoint_of(model, la.Checkpoint.of(config, model.parameters(), training))


@pytest.mark.parametrize("implementation", ["reference", "auto"])
def test_the_model_is_that_of_the_tool(checkpoint, implementation):
    ours, theirs = la.load_model(checkpoint), load_transformer(checkpoint, implementation)
    tokens, targets = batch(7)
    logits = theirs(torch.from_numpy(tokens).long())
    assert np.abs(ours.forward(tokens) - logits.detach().numpy()).max() <= 1e-5

    for found, expected in zip(theirs.attention_weights(torch.from_numpy(tokens).long()), map(ours.attention_weights, range(2))):
        assert np.abs(found.numpy() - expected).max() <= 1e-5

    optimizer = make_optimizer(theirs, checkpoint)
    before = {name: x.copy() for name, x in ours.parameters().items()}
    loss, norm, rate = ours.step(tokens, targets)
    found = theirs.loss(torch.from_numpy(tokens).long(), torch.from_numpy(targets))
    found.backward()
    assert float(torch.nn.utils.clip_grad_norm_(theirs.parameters(), checkpoint.training.clip)) == pytest.approx(norm, rel=1e-4)
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()
    assert found.item() == pytest.approx(loss, abs=1e-5)
    for name, parameter in theirs.named_parameters():
        step = np.abs(ours.parameters()[name] - before[name]).max()
        assert np.abs(parameter.detach().numpy() - ours.parameters()[name]).max() <= 1e-4 * max(1, step), name


def test_and_the_way_back(checkpoint, tmp_path):
    model = load_transformer(checkpoint)
    optimizer = make_optimizer(model, checkpoint)
    tokens, targets = (torch.from_numpy(x).long() for x in batch(7))
    model.loss(tokens, targets).backward()
    optimizer.step()
    la.save_checkpoint(tmp_path, checkpoint_of(model, optimizer, like=checkpoint))
    back = la.load_checkpoint(tmp_path)
    assert back.step == checkpoint.step + 1 and back.random == checkpoint.random
    assert np.abs(la.load_model(back).forward(tokens.int().numpy()) - model(tokens).detach().numpy()).max() <= 1e-5
    for name, parameter in model.named_parameters():
        state = optimizer.state[parameter]
        assert np.array_equal(back.first_moment[name], state["exp_avg"].numpy())
        assert np.array_equal(back.second_moment[name], state["exp_avg_sq"].numpy())


def test_the_tool_goes_on_with_a_model_trained_in_pytorch(lazy_tool, tmp_path):
    import subprocess

    run = [lazy_tool, "train", "--data", "tales"]
    subprocess.run([*run, "--steps", "2", "--out", tmp_path / "run"], check=True, capture_output=True)
    checkpoint = la.load_checkpoint(tmp_path / "run")
    model = load_transformer(checkpoint)
    optimizer = make_optimizer(model, checkpoint)
    model.loss(*(torch.from_numpy(x).long() for x in batch(1))).backward()
    optimizer.step()
    la.save_checkpoint(tmp_path / "run", checkpoint_of(model, optimizer, like=checkpoint))
    subprocess.run([lazy_tool, "generate", "--model", tmp_path / "run", "--tokens", "3"], check=True, capture_output=True)
    subprocess.run([lazy_tool, "train", "--resume", tmp_path / "run", "--steps", "4"], check=True, capture_output=True)
    assert la.load_checkpoint(tmp_path / "run").step == 4


def test_weight_decay_is_that_of_the_parameter_table():
    config = la.ModelConfig(layers=1)
    model = Transformer(config)
    decays = {id(p) for p in parameter_groups(model, 0.1)[0]["params"]}
    for row in la.parameter_table(config):
        assert (id(model.get_parameter(row.name)) in decays) == row.decay, row.name
