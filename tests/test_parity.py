"""Every layer against torch's, on a few thousand drawn cases: shapes, types, strides, options.

The reference for a case is torch's layer in float64, fed the same numbers. An error is measured in
roundings: multiples of eps (of the type of the tensor that is compared) times what one rounding of
every term of its formula amounts to. Two of them pass, and the sum over all cases may be a tenth
more than that of torch's own layer in that type. torch's layers get the numbers in contiguous
tensors, as some of their gradients are wrong for other strides: torch 2.13's BatchNorm2d for x of
shape (1, 2, 1, 3) and strides (1, 1, 2, 2).
"""

from collections import Counter
from itertools import permutations

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import nn

from bn_core.layers import (
    BatchNorm1d,
    BatchNorm2d,
    BatchNorm3d,
    GroupNorm,
    InstanceNorm,
    LayerNorm,
    RMSNorm,
)

ROUNDINGS = 2

BATCH_NORMS = {
    2: (BatchNorm1d, nn.BatchNorm1d),
    3: (BatchNorm1d, nn.BatchNorm1d),
    4: (BatchNorm2d, nn.BatchNorm2d),
    5: (BatchNorm3d, nn.BatchNorm3d),
}
INSTANCE_NORMS = {3: nn.InstanceNorm1d, 4: nn.InstanceNorm2d, 5: nn.InstanceNorm3d}
HALF = (torch.float16, torch.bfloat16)
CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}

cases = Counter()
errors = Counter()  # sums of errors in roundings, by type and by whose they are

option = st.sampled_from


def thorough(examples):
    return settings(max_examples=examples, derandomize=True, deadline=None, database=None)


@st.composite
def tensors(draw, ranks):
    """A tensor of standard normal numbers, shifted and scaled by channel, in some memory layout."""
    rank = draw(option(ranks))
    sizes = option([1, 1, 2, 2, 3, 3, 4, 4, 5, 0])
    shape = [draw(sizes), draw(st.integers(1, 5)), *(draw(sizes) for _ in range(rank - 2))]
    dtype = draw(option([torch.float16, torch.bfloat16, torch.float32, torch.float64]))
    layout = draw(option(["contiguous", "channels last", "permuted", "sliced", "expanded"]))
    numbers = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    scale, shift = draw(option([(1, 0), (1, 2), (3, -50), (0.01, 0), (0.1, 5)]))

    def normal(shape):
        return torch.randn(shape, generator=numbers, dtype=torch.float64)

    def layed_out(x):
        if layout == "channels last":
            if rank in CHANNELS_LAST:
                return x.contiguous(memory_format=CHANNELS_LAST[rank])
            return x.movedim(1, -1).contiguous().movedim(-1, 1)
        if layout == "permuted":
            order = draw(option(list(permutations(range(rank)))))
            back = [order.index(axis) for axis in range(rank)]
            return x.permute(order).contiguous().permute(back)
        if layout == "sliced":
            axis = draw(st.integers(0, rank - 1))
            return x.repeat_interleave(2, axis)[(slice(None),) * axis + (slice(None, None, 2),)]
        if layout == "expanded":
            axis = draw(st.integers(0, rank - 1))
            return x.narrow(axis, 0, min(1, shape[axis])).expand(shape)
        return x

    channels = normal([1, shape[1], *(1,) * (rank - 2)])
    x = layed_out((normal(shape) * scale + shift * (1 + 0.1 * channels)).to(dtype))
    dy = normal(shape).to(dtype)
    return x, dy, normal


def run(layer, x, dy, leaf=True):
    """Outputs and gradients of a layer, by name."""
    x = x.detach().requires_grad_(leaf)
    y = layer(x)
    found = {"y": y.detach()}
    if y.requires_grad:
        y.backward(dy)
    for name, tensor in (("dx", x), *layer.named_parameters()):
        if tensor.grad is not None:
            found[name if name == "dx" else f"d{name}"] = tensor.grad
    return found | {name: buffer.clone() for name, buffer in layer.named_buffers()}


def refuses(layer, x):
    try:
        layer(x)
    except ValueError:
        return True
    return False


def formats(y):
    """What a caller may see of y's memory layout."""
    channels_last = CHANNELS_LAST.get(y.dim())
    return y.is_contiguous(), channels_last and y.is_contiguous(memory_format=channels_last)


def absolute_terms(x, dy, weight, bias, axes, eps, statistics=None, centred=True):
    """For each result, how far one rounding of every term of its formula can move it, over eps.

    x and dy are seen so that the statistics are taken over `axes`; weight and bias broadcast with
    them. With given statistics, mean and variance, these are constants, as in evaluation mode.
    """

    def mean(t):
        return t.mean(axes, keepdim=True)

    if statistics is not None:
        mu, var = statistics
        size = mu.abs()
    else:
        mu = mean(x) if centred else torch.zeros(()).double()
        size = mean(x.abs()) if centred else 0
        var = mean((x - mu).square())
    s = torch.sqrt(var + eps)
    x_hat = (x - mu).abs() / s
    of_x_hat = (x.abs() + size) / s
    slope = dy.abs() * weight.abs()
    if statistics is not None:
        dx = slope
    else:
        of_s = mean(x_hat * of_x_hat)
        of_x_hat = of_x_hat + x_hat * of_s
        dx = (1 + of_s) * (slope + mean(slope) + x_hat * mean(slope * x_hat))
        dx = dx + of_x_hat * mean(slope * x_hat) + x_hat * mean(slope * of_x_hat)
    return {
        "y": of_x_hat * weight.abs() + bias.abs(),
        "dx": dx / s,
        "dweight": dy.abs() * of_x_hat,
        "dbias": dy.abs(),
    }


def compare_empty(ours, theirs):
    """Nothing goes in, so nothing comes out, no parameter matters and no statistic changes."""
    torch.testing.assert_close(ours["y"], theirs["y"])
    for name, value in theirs.items():
        # torch's GroupNorm says nan for the gradient of weight where there are no positions
        torch.testing.assert_close(ours[name], torch.nan_to_num(value))


def compare(ours, theirs, exact, terms):
    assert ours.keys() == theirs.keys()
    for name, reference in exact.items():
        assert ours[name].dtype == theirs[name].dtype, name
        assert ours[name].shape == theirs[name].shape, name
        if reference.dtype == torch.long:
            assert ours[name] == theirs[name], name
            continue
        dtype = ours[name].dtype
        rounding = torch.finfo(dtype).eps * terms[name] + torch.finfo(dtype).smallest_normal
        error = ((ours[name].double() - reference).abs() / rounding).max().item()
        torchs = ((theirs[name].double() - reference).abs() / rounding).max().item()
        assert error <= ROUNDINGS, (name, error, torchs)
        errors[dtype, "ours"] += error
        # In mixed types torch's LayerNorm is off by thousands; that is not to count for ours.
        errors[dtype, "torch's"] += min(torchs, ROUNDINGS)


@thorough(1600)
@given(
    case=tensors(ranks=(2, 3, 4, 5)),
    affine=option([True, True, True, False]),
    bias=option([True, True, False]),
    track=option([True, True, True, False]),
    momentum=option([None, 0.0, 0.1, 0.3, 1.0]),
    eps=option([1e-5, 1e-3, 0.5]),
    training=option([True, True, False]),
    in_float32=st.booleans(),
    needs=st.tuples(option([True, True, False]), st.booleans(), st.booleans()),
    seen=st.integers(0, 5),
)
def test_batch_norm(case, affine, bias, track, momentum, eps, training, in_float32, needs, seen):
    cases["batch norm"] += 1
    x, dy, normal = case
    d = x.shape[1]
    our_class, torchs_class = BATCH_NORMS[x.dim()]
    options = {"eps": eps, "momentum": momentum, "affine": affine, "track_running_stats": track}
    options |= {"bias": bias}
    dtype = torch.float32 if in_float32 and x.dtype in HALF else x.dtype
    theirs = torchs_class(d, **options, dtype=dtype).train(training)
    with torch.no_grad():
        for tensor in theirs.parameters():
            tensor.copy_(normal(d))
        if track:
            theirs.running_mean.copy_(normal(d))
            theirs.running_var.copy_(normal(d).square() + 0.1)
            theirs.num_batches_tracked.fill_(seen)
    ours = our_class(d, **options, dtype=dtype).train(training)
    exact = torchs_class(d, **options, dtype=torch.float64).train(training)
    for layer in (ours, exact):
        layer.load_state_dict(theirs.state_dict())
    for layer in (ours, theirs, exact):
        for parameter, needed in zip(layer.parameters(), needs[1:], strict=False):
            parameter.requires_grad_(needed)
    if x.numel() == d and (training or not track):
        assert refuses(theirs, x)
        assert refuses(ours, x)
        return
    found = [run(ours, x, dy, needs[0]), run(theirs, x.contiguous(), dy, needs[0])]
    if x.numel() == 0:
        return compare_empty(*found)

    old = {name: buffer.clone() for name, buffer in exact.named_buffers()}
    wide = x.double().contiguous()
    along = (1, d, *(1,) * (x.dim() - 2))
    one, zero = torch.ones(along).double(), torch.zeros(along).double()
    weight = exact.weight.detach().view(along) if affine else one
    shift = exact.bias.detach().view(along) if affine and bias else zero
    axes = ours.axes(x)
    fixed = None
    if track and not training:
        fixed = old["running_mean"].view(along), old["running_var"].view(along)
    terms = absolute_terms(wide, dy.double(), weight, shift, axes, eps, fixed)
    for name in ("dweight", "dbias"):
        terms[name] = terms[name].sum(axes)
    if track:
        mean = wide.abs().mean(axes)
        terms["running_mean"] = old["running_mean"].abs() + mean
        terms["running_var"] = old["running_var"] + 2 * wide.var(axes, correction=0) + mean * 1e-3
    compare(*found, run(exact, wide, dy.double(), needs[0]), terms)
    assert formats(found[0]["y"]) == formats(theirs(x))


@thorough(600)
@given(
    case=tensors(ranks=(2, 3, 4, 5)),
    kind=option(["group", "instance", "layer", "rms"]),
    affine=st.booleans(),
    bias=st.booleans(),
    eps=option([1e-5, 1e-3, 0.5]),
    in_float32=st.booleans(),
    axes=st.integers(1, 4),
    group=st.integers(0, 4),
)
# torch says that in mixed types it does not use its fused RMSNorm
@pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")
def test_relatives_of_batch_norm(case, kind, affine, bias, eps, in_float32, axes, group):
    cases["relatives"] += 1
    x, dy, normal = case
    d = x.shape[1]
    dtype = torch.float32 if in_float32 and x.dtype in HALF else x.dtype
    axes = min(axes, x.dim() - 1)
    if kind in ("layer", "rms") and 0 in x.shape[x.dim() - axes :]:
        return  # no such layer
    if kind == "instance" and x.dim() == 2:
        kind = "group"
    if kind == "group":
        divisors = [g for g in range(1, d + 1) if d % g == 0]
        groups = divisors[group % len(divisors)]
        arguments = {"num_groups": groups, "num_channels": d, "affine": affine, "bias": bias}
        classes = GroupNorm, nn.GroupNorm
    elif kind == "instance":
        arguments = {"num_features": d, "affine": affine, "bias": bias}
        classes = InstanceNorm, INSTANCE_NORMS[x.dim()]
    else:
        arguments = {"normalized_shape": x.shape[x.dim() - axes :], "elementwise_affine": affine}
        classes = RMSNorm, nn.RMSNorm
        if kind == "layer":
            arguments |= {"bias": bias}
            classes = LayerNorm, nn.LayerNorm
    arguments |= {"eps": eps}
    ours, theirs = (cls(**arguments, dtype=dtype) for cls in classes)
    exact = classes[1](**arguments, dtype=torch.float64)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.copy_(normal(parameter.shape))
    for layer in (ours, exact):
        layer.load_state_dict(theirs.state_dict())
    if kind == "instance" and x.numel() == 0:
        assert ours(x).shape == x.shape  # torch's refuses some empty inputs
        return
    if refuses(theirs, x):
        assert refuses(ours, x)
        return

    found = [run(ours, x, dy), run(theirs, x.contiguous(), dy)]
    if x.numel() == 0:
        return compare_empty(*found)

    wide, wide_dy = x.double().contiguous(), dy.double()
    along = (d, *(1,) * (x.dim() - 2)) if kind in ("group", "instance") else ()

    def seen(tensor, default):
        """A parameter, or a tensor like x, seen so that the layer's axes fit."""
        tensor = default if tensor is None else tensor.detach().view(along or tensor.shape)
        tensor = tensor.expand(x.shape)
        return tensor.unflatten(1, (groups, d // groups)) if kind == "group" else tensor

    view = [seen(exact.weight, torch.ones(()).double())]
    view += [seen(getattr(exact, "bias", None), torch.zeros(()).double())]
    wide_view = seen(None, wide)
    layer_axes = ours.axes(wide_view)
    terms = absolute_terms(
        wide_view, seen(None, wide_dy), *view, layer_axes, eps, centred=kind != "rms"
    )
    rest = tuple(axis for axis in range(x.dim()) if axis != 1) if along else range(x.dim() - axes)
    terms = {name: term.reshape(x.shape) for name, term in terms.items()}
    for name in ("dweight", "dbias"):
        terms[name] = terms[name].sum(tuple(rest)) if len(rest) else terms[name]
    compare(*found, run(exact, wide, wide_dy), terms)
    # Of torch's, only GroupNorm of rank 4 keeps channels last, where it is sure; ours all keep it.
    if formats(x)[1] is not True or (kind == "group" and x.dim() == 4 and min(x.shape) > 1):
        assert formats(found[0]["y"]) == formats(theirs(x))


def test_at_least_two_thousand_cases_were_compared(record_property):
    if not cases:
        pytest.skip("counts what the tests before it did; run the whole file")
    for name, number in cases.items():
        record_property(name, number)
    print(f"{cases.total()} cases compared with torch: {dict(cases)}")
    assert cases.total() >= 2000


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
def test_over_all_cases_the_errors_are_hardly_larger_than_torchs(dtype):
    if not cases:
        pytest.skip("adds up what the tests before it found; run the whole file")
    assert errors[dtype, "ours"] <= 1.1 * errors[dtype, "torch's"]
