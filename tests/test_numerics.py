"""Batch norm on hard numbers: against the exact result in float64, and against torch's errors."""

import pytest
import torch
from torch import nn

from bn_core import batch_statistics
from bn_core.layers import (
    BatchNorm1d,
    BatchNorm2d,
    BatchRenorm,
    GhostBatchNorm,
    GroupNorm,
    InstanceNorm,
    LayerNorm,
)

SHAPES = [(256, 3), (32, 3, 8)]
EPS = torch.finfo(torch.float32).eps


def results(layer, x, dy):
    x = x.clone().requires_grad_()
    y = layer(x)
    y.backward(dy.to(y.dtype))
    return {
        "y": y.detach(),
        "dx": x.grad,
        "dgamma": layer.weight.grad,
        "dbeta": layer.bias.grad,
        "running_mean": layer.running_mean,
        "running_var": layer.running_var,
    }


def three(x, dy, **options):
    """Results of ours and of torch's layer in x's type, and of torch's in float64."""
    d = x.shape[1]
    return (
        results(BatchNorm1d(d, dtype=x.dtype, **options), x, dy),
        results(nn.BatchNorm1d(d, dtype=x.dtype, **options), x, dy),
        results(nn.BatchNorm1d(d, dtype=torch.float64, **options), x.double(), dy),
    )


def error(found, exact):
    """Largest difference, in units of the largest exact value."""
    return ((found.double() - exact).abs().max() / exact.abs().max()).item()


def data(shape, mean, std):
    torch.manual_seed(0)
    x = (mean + std * torch.randn(shape, dtype=torch.float64)).float()
    return x, torch.randn(shape)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("ratio", [0, 1, 1e2, 1e4, 1e5, 1e6])
@pytest.mark.parametrize("std", [1e-3, 1.0, 1e3])
def test_a_mean_far_from_zero_costs_no_accuracy(shape, ratio, std):
    """Up to mean / std = 1e6, where neighbouring float32 numbers are a sixteenth of std apart."""
    ours, theirs, exact = three(*data(shape, ratio * std, std), eps=1e-5 * std**2)
    for name in ("y", "dx", "dgamma", "dbeta", "running_var"):
        assert error(ours[name], exact[name]) <= 16 * EPS, name
    size = exact["running_mean"].abs() + 0.1 * std
    assert ((ours["running_mean"] - exact["running_mean"]).abs() <= 4 * EPS * size).all()
    assert error(ours["y"], exact["y"]) <= error(theirs["y"], exact["y"]) + 4 * EPS


@pytest.mark.parametrize("mean", [0.0, 1e3, 1e6])
def test_the_relatives_bear_a_mean_far_from_zero_too(mean):
    x, _ = data((64, 6, 20), mean, 1.0)
    for layer in (
        GhostBatchNorm(6, 16),
        BatchRenorm(6, r_max=1.0, d_max=0.0),
        InstanceNorm(6),
        GroupNorm(2, 6),
        LayerNorm((6, 20)),
    ):
        exact = type(layer).forward(layer.double(), x.double()).detach()
        assert error(layer.float()(x), exact) <= 16 * EPS, layer


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_sums_do_not_stall(dtype):
    """In bfloat16 itself a sum of ones stops at 256, and of squares of 300 float16 overflows."""
    x = (300 + torch.randn(4096, 2)).to(dtype)
    mean, var = batch_statistics(x)
    torch.testing.assert_close(mean.double(), x.double().mean(0), rtol=1e-6, atol=0)
    torch.testing.assert_close(var.double(), x.double().var(0, correction=0), rtol=1e-5, atol=0)
    ours, theirs, exact = three(x, torch.randn(x.shape).to(dtype))
    for name in ("y", "dx"):
        limit = torch.finfo(dtype).eps + error(theirs[name], exact[name])
        assert error(ours[name], exact[name]) <= limit


@pytest.mark.parametrize("value", [0.0, 1.0, 0.1, -12345.678, 1e6, 1e-30])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_constant_channel_becomes_beta(shape, value):
    x = torch.full(shape, value)
    layer = BatchNorm1d(3)
    nn.init.constant_(layer.bias, 0.25)
    y = layer(x.requires_grad_())
    # what is left of the mean's rounding is divided by sqrt(eps), about 1 / 300
    torch.testing.assert_close(y, torch.full(shape, 0.25), rtol=0, atol=1e-6 + abs(value) * 1e-10)
    (y**2).sum().backward()
    assert x.grad.isfinite().all()
    assert x.grad.abs().max() <= 1e-2


def test_an_expanded_example_is_a_constant_channel():
    x = torch.randn(1, 3).expand(64, 3)
    torch.testing.assert_close(BatchNorm1d(3)(x), torch.zeros(64, 3), rtol=0, atol=1e-6)


def test_two_values_keep_their_signs_only():
    x = torch.tensor([[1.0, -5.0, 1e6], [3.0, 5.0, 2e6]])
    torch.testing.assert_close(
        BatchNorm1d(3)(x), torch.tensor([[-1.0] * 3, [1.0] * 3]), atol=1e-5, rtol=0
    )
    ours, _, exact = three(x, torch.randn(2, 3))
    assert error(ours["y"], exact["y"]) <= 4 * EPS


@pytest.mark.parametrize("scale", [1e-45, 1e-40, 1e-38, 1e-25, 1e-20])
def test_numbers_below_eps_are_lost_in_it_as_torchs_are(scale):
    torch.manual_seed(0)
    x = torch.randn(64, 3, dtype=torch.float64).mul(scale).float()
    ours, theirs, exact = three(x, torch.randn(64, 3))
    tiny = torch.finfo(torch.float32).smallest_normal
    for name in ("y", "dx", "running_mean", "running_var"):
        assert ours[name].isfinite().all()
        mistake = (ours[name].double() - exact[name]).abs().max()
        torchs = (theirs[name].double() - exact[name]).abs().max()
        assert mistake <= 2 * torchs + 4 * EPS * exact[name].abs().max() + tiny, name


@pytest.mark.parametrize("scale", [1e10, 1e15, 1e18])
def test_large_numbers_are_normalized(scale):
    x, dy = data((64, 3), scale, scale)
    ours, _, exact = three(x, dy)
    for name in ("y", "dgamma", "dbeta", "running_mean", "running_var"):
        assert error(ours[name], exact[name]) <= 16 * EPS, name
    assert ours["dx"].isfinite().all()


@pytest.mark.parametrize("scale", [1e20, 1e30, 3e38])
@pytest.mark.parametrize("training", [True, False])
def test_where_squares_overflow_nothing_worse_happens_than_in_torchs(scale, training):
    torch.manual_seed(0)
    x = (torch.rand(64, 3) - 0.5) * scale
    ours, theirs = BatchNorm1d(3).train(training), nn.BatchNorm1d(3).train(training)
    y, reference = ours(x), theirs(x)
    assert (y.isnan() <= reference.isnan()).all()
    assert (y.isinf() <= reference.isinf()).all()
    if not training:
        torch.testing.assert_close(y, reference)


HARD = [float("inf"), -float("inf"), float("nan")]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("places", [[(0, 0)], [(0, 0), (5, 0)], [(0, 0), (3, 1)]], ids=str)
@pytest.mark.parametrize("value", HARD)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16], ids=str)
def test_infinities_and_nans_spread_as_far_as_in_torchs(value, places, training, dtype):
    torch.manual_seed(0)
    x = torch.randn(8, 3).to(dtype)
    for place in places:
        x[place] = value
    dy = torch.randn(8, 3).to(dtype)
    found = []
    for cls in (BatchNorm1d, nn.BatchNorm1d):
        found.append(results(cls(3, dtype=dtype).train(training), x, dy))
    ours, theirs = found
    for name in ("y", "dx", "dgamma", "dbeta"):
        assert torch.equal(ours[name].isnan(), theirs[name].isnan()), name
        assert torch.equal(ours[name].isinf(), theirs[name].isinf()), name
    for name in ("running_mean", "running_var"):  # torch's say inf where ours say nan
        assert torch.equal(ours[name].isfinite(), theirs[name].isfinite()), name
    untouched = [channel for channel in range(3) if channel not in {c for _, c in places}]
    for name in theirs:
        assert ours[name][..., untouched].isfinite().all(), name


@pytest.mark.parametrize("value", HARD)
def test_a_nan_in_dy_spreads_as_far_as_in_torchs(value):
    x, dy = data((8, 3), 0, 1)
    dy[2, 1] = value
    ours, theirs, _ = three(x, dy)
    for name in theirs:
        assert torch.equal(ours[name].isfinite(), theirs[name].isfinite()), name


def test_evaluation_bears_a_mean_far_from_zero_as_well_as_torchs():
    x, dy = data((256, 3), 1e6, 1.0)
    found = []
    for cls, dtype in ((BatchNorm1d, x.dtype), (nn.BatchNorm1d, x.dtype), (nn.BatchNorm1d, None)):
        dtype = dtype or torch.float64
        layer = cls(3, dtype=dtype).eval()
        layer.running_mean.copy_(x.double().mean(0))
        found.append(results(layer, x.to(dtype), dy))
    ours, theirs, _ = found
    exact = (x.double() - ours["running_mean"].double()) / (1 + 1e-5) ** 0.5
    assert error(ours["y"], exact) <= min(16 * EPS, error(theirs["y"], exact) + EPS)


def test_running_statistics_of_a_thousand_batches_do_not_drift():
    torch.manual_seed(0)
    ours, theirs, exact = (
        BatchNorm1d(3),
        nn.BatchNorm1d(3),
        nn.BatchNorm1d(3, dtype=torch.float64),
    )
    for _ in range(1000):
        x = torch.randn(16, 3) * 2 + 100
        for layer in (ours, theirs, exact):
            layer(x.to(layer.weight.dtype))
    for name in ("running_mean", "running_var"):
        limit = 8 * EPS + 2 * error(getattr(theirs, name), getattr(exact, name))
        assert error(getattr(ours, name), getattr(exact, name)) <= limit


def test_the_gradient_is_right_where_strides_are_ambiguous():
    """Of shape (1, 2, 1, 3) and strides (1, 1, 2, 2) torch 2.13's own gradient is wrong."""
    dense = torch.randn(3, 1, 2, 1).double().permute(3, 2, 1, 0)
    dy = torch.randn(1, 2, 1, 3).double()
    assert dense.stride() == (1, 1, 2, 2)
    found = []
    for x in (dense, dense.contiguous()):
        leaf = x.clone(memory_format=torch.preserve_format).requires_grad_()
        BatchNorm2d(2).double()(leaf).backward(dy)
        found.append(leaf.grad)
    torch.testing.assert_close(*found)
