"""Surgery on whole models against torch and brute force over all the data; its refusals."""

import copy
import re
import warnings

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import parametrizations
from torch.utils.data import DataLoader, TensorDataset

import bn_core
from bn_core import layers
from bn_core.lab.models import figure1_network
from bn_core.surgery import (
    convert,
    fold,
    from_torch,
    population_statistics,
    recalibrate,
    recalibrate_,
    to_torch,
)

BATCH_NORMS = (nn.modules.batchnorm._BatchNorm, layers.BatchNorm, layers.BatchRenorm)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


class Residual(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut, a 1 x 1 one where the shape changes."""

    def __init__(self, c_in, c_out, stride, norm):
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
        self.bn1 = norm(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False)
        self.bn2 = norm(c_out)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if stride != 1 or c_in != c_out:
            self.downsample = nn.Sequential(
                nn.Conv2d(c_in, c_out, 1, stride, bias=False), norm(c_out)
            )

    def forward(self, x):
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        y += x if self.downsample is None else self.downsample(x)
        return self.relu(y)


class ConvBnRelu(nn.Module):
    def __init__(self, c_in, c_out, norm, **options):
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, bias=False, **options)
        self.bn = norm(c_out)

    def forward(self, x):
        return F.relu(self.bn(self.conv(x)))


class Inception(nn.Module):
    """Four branches side by side: 1 x 1, 3 x 3, twice 3 x 3, and pooling."""

    def __init__(self, c_in, norm):
        super().__init__()
        self.one = ConvBnRelu(c_in, 2, norm, kernel_size=1)
        self.three = nn.Sequential(
            ConvBnRelu(c_in, 3, norm, kernel_size=1),
            ConvBnRelu(3, 4, norm, kernel_size=3, padding=1),
        )
        self.twice = nn.Sequential(
            ConvBnRelu(c_in, 2, norm, kernel_size=1),
            ConvBnRelu(2, 3, norm, kernel_size=3, padding=1),
            ConvBnRelu(3, 3, norm, kernel_size=3, padding=1),
        )
        self.pool = ConvBnRelu(c_in, 2, norm, kernel_size=1)

    def forward(self, x):
        pooled = F.max_pool2d(x, 3, stride=1, padding=1)
        return torch.cat([self.one(x), self.three(x), self.twice(x), self.pool(pooled)], 1)


def resnet(norm):
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1, bias=False),
        norm(4),
        nn.ReLU(),
        Residual(4, 4, 1, norm),
        Residual(4, 6, 2, norm),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 5),
    )


def inception(norm):
    return nn.Sequential(
        ConvBnRelu(3, 4, norm, kernel_size=3, stride=2),
        Inception(4, norm),
        Inception(11, norm),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(11, 5),
    )


def figure1(norm):
    return figure1_network({nn.BatchNorm2d: nn.BatchNorm1d}.get(norm, bn_core.BatchNorm1d))


# Builder, shape of one example, number of normalizations.
NETWORKS = {
    "figure 1": (figure1, (28, 28), 3),
    "resnet": (resnet, (3, 8, 8), 6),
    "inception": (inception, (3, 9, 9), 15),
}
networks = pytest.mark.parametrize("network", NETWORKS)
norms = pytest.mark.parametrize("norm", [nn.BatchNorm2d, layers.BatchNorm2d], ids=["torch", "ours"])


def randomized(model):
    """Give every normalization statistics, gamma and beta that matter, gamma of both signs."""
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, BATCH_NORMS):
                for name, tensor in (*module.named_parameters(), *module.named_buffers()):
                    if name in ("running_var", "running_std"):
                        tensor.uniform_(0.3, 3)
                    elif tensor.is_floating_point():
                        tensor.normal_()
    return model


def trained(model, shape, steps=5):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(steps):
        x = torch.randn(16, *shape) * 2 + 1
        loss = F.cross_entropy(model(x), torch.arange(16) % 5)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


def built(network, norm=nn.BatchNorm2d):
    builder, shape, _ = NETWORKS[network]
    torch.manual_seed(0)
    return builder(norm), shape


def batch_norms(model):
    return {name: m for name, m in model.named_modules() if isinstance(m, BATCH_NORMS)}


def condition(model):
    """All that a caller could see change: state, modes, classes, gradients wanted, hooks."""
    return (
        {name: tensor.clone() for name, tensor in model.state_dict().items()},
        {name: (id(m), type(m), m.training) for name, m in model.named_modules()},
        {name: (id(p), p.requires_grad) for name, p in model.named_parameters()},
        {name: (len(m._forward_hooks), len(m._forward_pre_hooks))
         for name, m in model.named_modules()},
    )  # fmt: skip


def assert_same_condition(model, before):
    after = condition(model)
    assert after[1:] == before[1:]
    assert after[0].keys() == before[0].keys()
    for name, tensor in before[0].items():
        assert torch.equal(after[0][name], tensor), name


def cut(x, sizes):
    """Cut a batch into batches of these sizes, the last one being what is left."""
    parts = []
    for size in sizes:
        parts.append(x[:size])
        x = x[size:]
    return [*parts, x]


@torch.no_grad()
def brute_force(model, x):
    """Population statistics from all the data in one batch, each layer set before the next."""
    model = copy.deepcopy(model).double().eval()
    x = x.double()
    result = {}
    order = []
    for name, norm in batch_norms(model).items():
        norm.register_forward_hook(lambda *_, name=name: order.append(name))
    model(x)
    for name in tuple(order):
        norm = model.get_submodule(name)
        seen = []
        hook = norm.register_forward_hook(lambda _m, inputs, _y, seen=seen: seen.append(inputs[0]))
        model(x)
        hook.remove()
        values = seen[0].transpose(0, 1).flatten(1)
        norm.running_mean = values.mean(1)
        norm.running_var = values.var(1, correction=0)
        result[name] = (norm.running_mean, norm.running_var, values.shape[1])
    return result


# Population statistics


@norms
@networks
def test_population_statistics_are_those_of_all_the_data_in_one_batch(network, norm):
    model, shape = built(network, norm)
    model = randomized(model).double()
    x = torch.randn(23, *shape).double() * 2 + 1
    found = population_statistics(model, cut(x, [1, 7, 2, 5]))
    expected = brute_force(model, x)
    assert list(found) == list(expected)
    for name, (mean, var, m) in expected.items():
        torch.testing.assert_close(found[name].mean, mean, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(found[name].var, var, rtol=1e-10, atol=1e-12)
        assert found[name].m == m
        assert found[name].mean.dtype == found[name].var.dtype == torch.float64


SMALL = nn.Sequential(
    nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 2), bn_core.BatchNorm1d(2)
).double()


@settings(deadline=None, max_examples=50)
@given(sizes=st.lists(st.integers(0, 6), max_size=6), seed=st.integers(0, 99))
def test_how_the_data_are_cut_and_ordered_does_not_matter(sizes, seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(20, 3, generator=generator).double() * 3 + 5
    shuffled = x[torch.randperm(20, generator=generator)]
    whole = population_statistics(SMALL, [x])
    parts = population_statistics(SMALL, cut(shuffled, sizes))
    for name, statistics in whole.items():
        torch.testing.assert_close(parts[name], statistics, rtol=1e-10, atol=1e-12)


def test_a_large_mean_beside_a_small_spread_does_not_cancel():
    x = torch.randn(1000, 2).double() + 1e8
    found = population_statistics(nn.Sequential(nn.BatchNorm1d(2)).double(), x.split(7))
    torch.testing.assert_close(found["0"].var, x.var(0, correction=0), rtol=1e-6, atol=0)


def test_average_of_batch_variances_misses_the_variance_of_the_batch_means():
    x = torch.tensor([[0.0], [2.0], [10.0], [12.0]]).double()
    batches = list(x.split(2))
    found = population_statistics(nn.Sequential(nn.BatchNorm1d(1)).double(), batches)
    within = torch.stack([batch.var(0, correction=0) for batch in batches]).mean(0)
    between = torch.stack([batch.mean(0) for batch in batches]).var(0, correction=0)
    assert within == 1
    assert between == 25
    assert found["0"].var == 26


def test_a_later_layer_sees_what_earlier_layers_do_with_their_population_statistics():
    x = torch.randn(64, 3).double()
    model = nn.Sequential(nn.BatchNorm1d(3), nn.BatchNorm1d(3)).double()
    found = population_statistics(model, x.split(5))
    var = x.var(0, correction=0)
    torch.testing.assert_close(found["1"].mean, torch.zeros(3).double())
    torch.testing.assert_close(found["1"].var, var / (var + 1e-5))


def test_old_running_statistics_do_not_matter_even_if_they_are_not_numbers():
    x = torch.randn(20, 3).double()
    spoilt = copy.deepcopy(SMALL)
    spoilt[1].running_mean.fill_(torch.nan)
    spoilt[4].running_var.fill_(torch.inf)
    expected = population_statistics(SMALL, [x])
    for name, statistics in population_statistics(spoilt, [x]).items():
        torch.testing.assert_close(statistics, expected[name])


def test_layers_without_running_statistics_have_population_statistics_too():
    x = torch.randn(20, 3).double()
    untracked = nn.Sequential(
        nn.Linear(3, 4),
        nn.BatchNorm1d(4, track_running_stats=False),
        nn.Tanh(),
        nn.Linear(4, 2),
        bn_core.BatchNorm1d(2, affine=False, track_running_stats=False),
    ).double()
    untracked.load_state_dict(SMALL.state_dict(), strict=False)
    expected = population_statistics(SMALL, [x])
    for name, statistics in population_statistics(untracked, x.split(1)).items():
        torch.testing.assert_close(statistics, expected[name])


def test_labels_beside_the_inputs_are_left_alone_and_a_shuffling_loader_will_do():
    x = torch.randn(20, 3).double()
    loader = DataLoader(TensorDataset(x, torch.arange(20)), batch_size=6, shuffle=True)
    expected = population_statistics(SMALL, [x])
    for name, statistics in population_statistics(SMALL, loader).items():
        torch.testing.assert_close(statistics, expected[name])


def test_dropout_is_off_while_statistics_are_collected():
    x = torch.randn(20, 3).double()
    model = nn.Sequential(nn.Dropout(0.5), nn.BatchNorm1d(3)).double()
    torch.testing.assert_close(population_statistics(model, [x])["1"].mean, x.mean(0))


def test_a_network_of_float32_accumulates_in_float64():
    x = torch.rand(512, 1) + 1000
    found = population_statistics(nn.Sequential(nn.BatchNorm1d(1)), x.split(1))
    torch.testing.assert_close(found["0"].mean, x.double().mean(0), rtol=1e-12, atol=0)
    torch.testing.assert_close(found["0"].var, x.double().var(0, correction=0), rtol=1e-8, atol=0)


def test_a_model_that_is_a_normalization_itself_has_the_empty_name():
    x = torch.randn(20, 3)
    assert list(population_statistics(nn.BatchNorm1d(3), [x])) == [""]
    torch.testing.assert_close(recalibrate(nn.BatchNorm1d(3), [x]).running_mean, x.mean(0))


# Recalibration


@norms
@networks
def test_recalibrated_network_normalizes_the_data_to_beta_and_gamma(network, norm):
    model, shape = built(network, norm)
    model = randomized(model).double()
    x = torch.randn(23, *shape).double() + 1
    ready = recalibrate(model, cut(x, [10, 3])).eval()
    checked = []

    def check(norm, _inputs, y):
        y = y.transpose(0, 1).flatten(1)
        torch.testing.assert_close(y.mean(1), norm.bias.detach())
        torch.testing.assert_close(
            y.var(1, correction=0),
            norm.weight.detach() ** 2 * norm.running_var / (norm.running_var + norm.eps),
        )
        checked.append(norm)

    for norm in batch_norms(ready).values():
        norm.register_forward_hook(check)
    with torch.no_grad():
        ready(x)
    assert len(checked) == NETWORKS[network][2]


def test_recalibration_agrees_with_torchs_update_bn_for_one_layer_and_equal_batches():
    x = torch.randn(40, 3).double() * 2 + 1
    batches = list(x.split(10))
    theirs = nn.Sequential(nn.BatchNorm1d(3)).double()
    torch.optim.swa_utils.update_bn(batches, theirs)
    ours = recalibrate(theirs, batches)
    torch.testing.assert_close(ours[0].running_mean, theirs[0].running_mean)
    assert ours[0].num_batches_tracked == theirs[0].num_batches_tracked == 4
    # update_bn averages the batches' unbiased variances; ours is the variance of the whole.
    torch.testing.assert_close(ours[0].running_var, x.var(0, correction=0))


def test_recalibrating_batch_renorm_sets_its_running_standard_deviation():
    x = torch.randn(40, 3).double() * 2 + 1
    model = recalibrate(nn.Sequential(layers.BatchRenorm(3)).double(), x.split(9)).eval()
    torch.testing.assert_close(model[0].running_std, (x.var(0, correction=0) + model[0].eps).sqrt())
    expected = nn.BatchNorm1d(3).double()(x)
    torch.testing.assert_close(model(x), expected)


def test_recalibrating_ghost_batch_norm_makes_evaluation_batch_norm_of_all_the_data():
    x = torch.randn(40, 3).double() * 2 + 1
    model = recalibrate(nn.Sequential(layers.GhostBatchNorm(3, 4)).double(), x.split(9)).eval()
    torch.testing.assert_close(model(x), nn.BatchNorm1d(3).double()(x))


def test_recalibrating_in_place_changes_buffers_alone_and_returns_the_model():
    model = copy.deepcopy(SMALL)
    model[4].eval()
    before = condition(model)
    x = torch.randn(20, 3).double()
    assert recalibrate_(model, [x]) is model
    assert condition(model)[1:] == before[1:]
    changed = {k for k, v in model.state_dict().items() if not torch.equal(v, before[0][k])}
    assert changed == {
        f"{layer}.{buffer}"
        for layer in "14"
        for buffer in ("running_mean", "running_var", "num_batches_tracked")
    }
    torch.testing.assert_close(dict(model.state_dict()), dict(recalibrate(SMALL, [x]).state_dict()))


def test_recalibrating_twice_changes_nothing_more():
    model, shape = built("resnet")
    batches = torch.randn(12, *shape).split(5)
    once = recalibrate(model, batches)
    before = condition(once)
    recalibrate_(once, batches)
    assert_same_condition(once, before)


def test_recalibration_in_place_that_fails_on_the_last_batch_has_changed_nothing():
    model = copy.deepcopy(SMALL)
    before = condition(model)
    x = torch.randn(20, 3).double()
    x[-1, 0] = torch.nan
    with pytest.raises(ValueError, match=r"layer '1' has NaN or infinite values in batch 3"):
        recalibrate_(model, x.split(6))
    assert_same_condition(model, before)


def test_a_layer_that_does_not_run_is_named_and_keeps_its_statistics():
    class Auxiliary(nn.Module):
        def __init__(self):
            super().__init__()
            self.main, self.head = nn.BatchNorm1d(3), nn.BatchNorm1d(3)

        def forward(self, x):
            return (self.main(x), self.head(x)) if self.training else self.main(x)

    model = randomized(Auxiliary())
    x = torch.randn(20, 3)
    assert list(population_statistics(model, [x])) == ["main"]
    with pytest.warns(UserWarning, match=r"layers \['head'\] do not run") as caught:
        ready = recalibrate(model, [x])
    assert caught[0].filename == __file__
    assert torch.equal(ready.head.running_mean, model.head.running_mean)
    torch.testing.assert_close(ready.main.running_mean, x.mean(0))


# Folding


def assert_folds(model, x, names, tolerance=1e-5):
    """Everything in names is gone, and in evaluation mode the outputs are the same."""
    before = condition(model)
    result = fold(model, x[:2])
    assert_same_condition(model, before)
    assert set(result.folded) == set(names)
    with torch.no_grad():
        expected = copy.deepcopy(model).eval()(x)
        actual = result.model(x)
    scale = max(1.0, float(expected.abs().max()))
    assert (actual - expected).abs().max() <= tolerance * scale
    assert not any(module.training for module in result.model.modules())
    return result


@norms
@networks
def test_folded_network_has_no_batch_norm_left_and_agrees_in_evaluation(network, norm):
    model, shape = built(network, norm)
    names = batch_norms(model)
    assert len(names) == NETWORKS[network][2]
    x = torch.randn(10, *shape)
    for stage in (randomized, lambda model: trained(model, shape)):
        model = stage(model)
        result = assert_folds(model, x, names)
        assert result.kept == {}
        assert not batch_norms(result.model)
        assert type(result.model) is type(model)
        assert fold(result.model, x).folded == {}


def test_folded_names_say_what_went_where():
    model, shape = built("figure 1")
    assert fold(model, torch.randn(1, *shape)).folded == {
        "norm1": "linear1",
        "norm2": "linear2",
        "norm3": "linear3",
    }


def test_the_tree_stays_and_the_normalization_is_an_identity_in_it():
    model, shape = built("figure 1")
    folded = fold(model, torch.randn(1, *shape)).model
    assert list(dict(folded.named_children())) == list(dict(model.named_children()))
    assert type(folded.norm1) is nn.Identity
    assert set(folded.state_dict()) == {
        f"linear{i}.{p}" for i in "1234" for p in ("weight", "bias")
    }


def test_folding_equals_the_closed_form_for_one_weight():
    model = nn.Sequential(nn.Linear(1, 1), nn.BatchNorm1d(1, eps=1.0)).double()
    with torch.no_grad():
        for tensor, value in (
            (model[0].weight, 3), (model[0].bias, 5), (model[1].running_mean, 7),
            (model[1].running_var, 3), (model[1].weight, 4), (model[1].bias, 11),
        ):  # fmt: skip
            tensor.fill_(value)
    linear = fold(model, torch.ones(1, 1).double()).model[0]
    assert linear.weight == 4 * 3 / 2
    assert linear.bias == 4 * (5 - 7) / 2 + 11


DIMS = {1: (nn.Conv1d, nn.ConvTranspose1d), 2: (nn.Conv2d, nn.ConvTranspose2d),
        3: (nn.Conv3d, nn.ConvTranspose3d)}  # fmt: skip


@st.composite
def pairs(draw):
    """A convolution or linear layer, a normalization after it, and an input."""
    torch.manual_seed(draw(st.integers(0, 999)))
    dims = draw(st.integers(0, 3))
    bias = draw(st.booleans())
    if dims == 0:
        layer, shape, channels = nn.Linear(5, 4, bias=bias), (5,), 4
    else:
        groups = draw(st.sampled_from([1, 2, 3]))
        channels = groups * draw(st.integers(1, 2))
        c_in = groups * draw(st.integers(1, 2))
        transposed = draw(st.booleans())
        stride = draw(st.integers(1, 2))
        options = {
            "kernel_size": draw(st.integers(1, 3)),
            "stride": stride,
            "padding": draw(st.integers(0, 1)),
            "dilation": draw(st.integers(1, 2)),
            "groups": groups,
            "bias": bias,
        }
        if transposed:
            options["output_padding"] = draw(st.integers(0, stride - 1))
            options["padding"] = 0
        else:
            options["padding_mode"] = draw(st.sampled_from(["zeros", "circular", "replicate"]))
        layer = DIMS[dims][transposed](c_in, channels, **options)
        shape = (c_in, *(6,) * dims)
    ranked = max(dims, 1)
    norm = draw(
        st.sampled_from(
            [
                getattr(nn, f"BatchNorm{ranked}d"),
                getattr(layers, f"BatchNorm{ranked}d"),
                nn.SyncBatchNorm,
                lambda d, **options: layers.GhostBatchNorm(d, 2, **options),
                layers.BatchRenorm,
            ]
        )
    )(channels, affine=draw(st.booleans()), eps=draw(st.sampled_from([1e-5, 0.1])))
    return randomized(nn.Sequential(layer, norm)), torch.randn(3, *shape)


@settings(deadline=None, max_examples=100)
@given(pairs())
def test_every_layer_takes_in_the_normalization_after_it(pair):
    model, x = pair
    result = assert_folds(model, x, ["1"])
    assert type(result.model[0]) is type(model[0])
    assert not batch_norms(result.model)
    double = copy.deepcopy(model).double()
    assert_folds(double, x.double(), ["1"], tolerance=1e-13)


def test_two_normalizations_in_a_row_go_into_the_same_layer():
    model = randomized(
        nn.Sequential(nn.Linear(3, 3), nn.Identity(), nn.BatchNorm1d(3), bn_core.BatchNorm1d(3))
    )
    assert assert_folds(model, torch.randn(8, 3), ["2", "3"]).folded == {"2": "0", "3": "0"}


@pytest.mark.parametrize("norm", [nn.BatchNorm1d, bn_core.BatchNorm1d], ids=["torch", "ours"])
def test_the_numbers_of_a_folded_layer_are_rounded_once(norm):
    model = randomized(nn.Sequential(nn.Linear(20, 50), norm(50)))
    x = torch.randn(1, 20)
    folded = fold(model, x).model[0]
    exact = fold(copy.deepcopy(model).double(), x.double()).model[0]
    assert torch.equal(folded.weight, exact.weight.float())
    assert torch.equal(folded.bias, exact.bias.float())


def test_frozen_stays_frozen_and_dtype_and_layout_stay():
    model = nn.Sequential(nn.Conv2d(2, 4, 3, bias=False), nn.BatchNorm2d(4)).bfloat16()
    model.requires_grad_(False).to(memory_format=torch.channels_last)
    folded = fold(model, torch.randn(1, 2, 5, 5).bfloat16()).model[0]
    assert not folded.weight.requires_grad
    assert not folded.bias.requires_grad
    assert folded.weight.dtype == folded.bias.dtype == torch.bfloat16
    assert folded.weight.is_contiguous(memory_format=torch.channels_last)
    trainable = fold(nn.Sequential(nn.Linear(2, 2, bias=False), nn.BatchNorm1d(2)),
                     torch.zeros(1, 2)).model[0]  # fmt: skip
    assert trainable.weight.requires_grad
    assert trainable.bias.requires_grad


def test_a_layer_with_two_names_is_replaced_under_both():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.bn = nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3)
            self.also = self.bn

        def forward(self, x):
            return self.also(self.conv(x))

    result = assert_folds(randomized(Twice()), torch.randn(4, 2, 3, 3), ["bn"])
    assert result.model.bn is result.model.also
    assert not batch_norms(result.model)


class Model(nn.Module):
    """A module made of parts and a function of itself and x."""

    def __init__(self, forward, **parts):
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)
        self.compute = forward

    def forward(self, x):
        return self.compute(self, x)


def conv(c_in=3, c_out=3, **options):
    return nn.Conv2d(c_in, c_out, 3, padding=1, **options)


def tied():
    first, second = nn.Linear(3, 3), nn.Linear(3, 3)
    second.weight = first.weight
    return nn.Sequential(first, nn.BatchNorm1d(3), second)


def hooked(at):
    model = nn.Sequential(nn.Linear(3, 3), nn.Identity(), nn.BatchNorm1d(3))
    model[at].register_forward_hook(lambda _module, _inputs, y: y * 2)
    return model


def legacy_weight_norm():
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore", FutureWarning)
        return nn.Sequential(nn.utils.weight_norm(nn.Linear(3, 3)), nn.BatchNorm1d(3))


class Scaled(nn.Conv2d):
    def forward(self, input):
        return super().forward(input) * 2 + 1


class Clipped(nn.BatchNorm2d):
    def forward(self, input):
        return super().forward(input).clamp(-1, 1)


IMAGES, ROWS = (3, 5, 5), (3,)
KEPT = {
    "first": (
        nn.Sequential(nn.BatchNorm2d(3), conv()),
        IMAGES, {"0": "follows the model's input, not a Linear or a convolution"},
    ),
    "itself": (nn.BatchNorm2d(3), IMAGES, {"": "follows the model's input"}),
    "after relu": (
        nn.Sequential(conv(), nn.ReLU(), nn.BatchNorm2d(3)),
        IMAGES, {"2": r"follows layer '1' \(ReLU\), not a Linear or a convolution"},
    ),
    "after dropout": (
        nn.Sequential(conv(), nn.Dropout(), nn.BatchNorm2d(3)), IMAGES, {"2": "'1' .Dropout."},
    ),
    "after add": (
        Model(lambda m, x: m.bn(m.conv(x) + x), conv=conv(), bn=nn.BatchNorm2d(3)),
        IMAGES, {"bn": "follows the function add"},
    ),
    "after add in place": (
        Model(lambda m, x: m.bn(m.conv(x).add_(x)), conv=conv(), bn=nn.BatchNorm2d(3)),
        IMAGES, {"bn": "follows the method add_"},
    ),
    "after cat": (
        Model(lambda m, x: m.bn(torch.cat([m.conv(x), x], 1)), conv=conv(), bn=nn.BatchNorm2d(6)),
        IMAGES, {"bn": "follows the function cat"},
    ),
    "used twice": (
        Model(lambda m, x: m.bn(y := m.conv(x)) + y, conv=conv(), bn=nn.BatchNorm2d(3)),
        IMAGES, {"bn": "follows layer 'conv', whose output also goes to the function add"},
    ),
    "returned too": (
        Model(lambda m, x: m.bn(y := m.conv(x)) + 0 * y.sum(), conv=conv(), bn=nn.BatchNorm2d(3)),
        IMAGES, {"bn": "also goes to the method sum"},
    ),
    "used twice behind an identity": (
        Model(lambda m, x: m.bn(y := m.same(m.conv(x))) + y, conv=conv(), same=nn.Identity(),
              bn=nn.BatchNorm2d(3)),
        IMAGES, {"bn": r"follows layer 'same' \(Identity\)"},
    ),
    "two normalizations of one": (
        Model(lambda m, x: m.a(y := m.conv(x)) + m.b(y), conv=conv(), a=nn.BatchNorm2d(3),
              b=layers.BatchNorm2d(3)),
        IMAGES, {"a": r"also goes to layer 'b' \(BatchNorm2d\)", "b": "also goes to layer 'a'"},
    ),
    "layer runs twice": (
        Model(lambda m, x: m.bn(m.conv(m.conv(x))), conv=conv(), bn=nn.BatchNorm2d(3)),
        IMAGES, {"bn": "follows layer 'conv', which runs more than once"},
    ),
    "normalization runs twice": (
        Model(lambda m, x: m.bn(m.b(m.bn(m.a(x)))), a=conv(), b=conv(), bn=nn.BatchNorm2d(3)),
        IMAGES, {"bn": "runs more than once"},
    ),
    "never runs": (
        Model(lambda m, x: m.conv(x), conv=conv(), bn=nn.BatchNorm2d(3)),
        IMAGES, {"bn": "does not run"},
    ),
    "untracked": (
        nn.Sequential(conv(), nn.BatchNorm2d(3, track_running_stats=False)),
        IMAGES, {"1": "keeps no running statistics"},
    ),
    "ours untracked": (
        nn.Sequential(conv(), layers.BatchNorm2d(3, track_running_stats=False)),
        IMAGES, {"1": "keeps no running statistics"},
    ),
    "tied": (tied(), ROWS, {"1": "follows layer '0', which shares its weight with layer '2'"}),
    "read elsewhere": (
        Model(lambda m, x: m.bn(m.linear(x)) @ m.linear.weight, linear=nn.Linear(3, 3),
              bn=nn.BatchNorm1d(3)),
        ROWS, {"bn": "shares its weight with a forward that reads it"},
    ),
    "gamma read elsewhere": (
        Model(lambda m, x: m.bn(m.linear(x)) * m.bn.weight, linear=nn.Linear(3, 3),
              bn=nn.BatchNorm1d(3)),
        ROWS, {"bn": "shares its weight with a forward that reads it"},
    ),
    "running mean read elsewhere": (
        Model(lambda m, x: m.bn(m.linear(x)) - m.bn.running_mean, linear=nn.Linear(3, 3),
              bn=nn.BatchNorm1d(3)),
        ROWS, {"bn": "shares its running_mean with a forward that reads it"},
    ),
    "hooked": (hooked(0), ROWS, {"2": "follows layer '0', which has forward hooks"}),
    "hooked between": (hooked(1), ROWS, {"2": r"follows layer '1' \(Identity\)"}),
    "hooked after": (hooked(2), ROWS, {"2": "has forward hooks"}),
    "weight norm": (
        nn.Sequential(parametrizations.weight_norm(nn.Linear(3, 3)), nn.BatchNorm1d(3)),
        ROWS, {"1": "follows layer '0', a ParametrizedLinear"},
    ),
    "spectral norm": (
        nn.Sequential(parametrizations.spectral_norm(conv()), nn.BatchNorm2d(3)),
        IMAGES, {"1": "follows layer '0', a ParametrizedConv2d"},
    ),
    "legacy weight norm": (legacy_weight_norm(), ROWS, {"1": "which has forward hooks"}),
    "own convolution": (
        nn.Sequential(Scaled(3, 3, 1), nn.BatchNorm2d(3)),
        IMAGES, {"1": "follows layer '0', a Scaled"},
    ),
    "own normalization": (
        nn.Sequential(conv(), Clipped(3)), IMAGES, {"1": "is a Clipped, with a forward of its own"},
    ),
    "axis of the same length": (
        nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)),
        (3, 3), {"1": r"follows layer '0', but its input has shape \(2, 3, 3\)"},
    ),
    "axis of another length": (
        nn.Sequential(nn.Linear(3, 6), layers.BatchNorm1d(4)), (4, 3), {"1": "axis 1 is not"},
    ),
    "functional": (
        Model(lambda m, x: F.batch_norm(m.linear(x), torch.zeros(3), torch.ones(3)),
              linear=nn.Linear(3, 3)),
        ROWS, {"batch_norm (function)": "is a function call, not a module"},
    ),
    "inside a closed module": (
        nn.Sequential(nn.TransformerEncoderLayer(4, 1, 8, batch_first=True)),
        (3, 4), {"0.norm1": "runs inside a module that torch.fx does not look into"},
    ),
}  # fmt: skip
KEPT["inside a closed module"][0][0].norm1 = nn.BatchNorm1d(3)


@pytest.mark.parametrize("case", KEPT)
def test_what_cannot_be_folded_stays_and_says_why(case):
    model, shape, reasons = KEPT[case]
    result = assert_folds(randomized(model), torch.randn(4, *shape), [])
    assert set(result.kept) == set(reasons)
    for name, words in reasons.items():
        assert re.search(words, result.kept[name]), result.kept[name]
    assert set(batch_norms(result.model)) == {n for n in reasons if "function" not in n}


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("num_features", lambda bn: bn.num_features),
        ("eps", lambda bn: bn.eps),
        ("running_mean", lambda bn: bn.running_mean.abs()),
        ("momentum", lambda bn: hasattr(bn, "momentum")),
    ],
)
def test_a_normalization_of_which_the_forward_reads_something_stays(name, read):
    def forward(model, x):
        model.seen = [read(model.bn), read(model.bn2)]
        return model.bn3(model.c(model.bn2(model.b(model.bn(model.a(x))))))

    norms = {"bn": nn.BatchNorm1d(3), "bn2": layers.BatchNorm1d(3), "bn3": nn.BatchNorm1d(3)}
    linear = {k: nn.Linear(3, 3) for k in "abc"}
    result = assert_folds(randomized(Model(forward, **linear, **norms)), torch.randn(8, 3), ["bn3"])
    assert result.kept == dict.fromkeys(["bn", "bn2"], f"has its {name} read by the forward pass")


def test_asking_for_what_a_normalization_has_not_is_no_reason_to_keep_it():
    model = Model(lambda m, x: m.bn(m.linear(x)) if getattr(m.bn, "off", None) is None else x,
                  linear=nn.Linear(3, 3), bn=nn.BatchNorm1d(3))  # fmt: skip
    result = assert_folds(randomized(model), torch.randn(8, 3), ["bn"])
    assert type(result.model.bn) is nn.Identity


@pytest.mark.filterwarnings("default")  # what the compiler warns of is not ours
def test_a_compiled_model_is_folded_as_it_was_before():
    model = randomized(nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))).eval()
    x = torch.randn(8, 3)
    whole, part = (torch.compile(model, backend="eager") for _ in range(2))
    whole(x)
    assert_folds(whole, x, ["1"])
    assert_folds(nn.Sequential(part, nn.BatchNorm1d(3)), x, ["0.1", "1"])


def test_an_output_that_the_model_returns_as_well_stays_what_it_was():
    model = Model(lambda m, x: (m.bn(y := m.conv(x)), y), conv=conv(), bn=nn.BatchNorm2d(3))
    result = fold(model, torch.zeros(1, *IMAGES))
    assert result.kept == {
        "bn": "follows layer 'conv', whose output also goes to the model's output"
    }


def test_numbers_too_large_for_the_layers_type_are_not_folded():
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)).half()
    nn.init.constant_(model[1].weight, 6e4)
    model[1].running_var.fill_(1e-4)
    result = fold(model, torch.zeros(1, 3).half())
    assert result.kept == {
        "1": "has a map that is not finite in torch.float16, the type of the layer before"
    }


def test_unbatched_feature_maps_are_not_taken_for_channels():
    # (channels, length) without a batch: the normalization takes the length for channels.
    model = randomized(nn.Sequential(nn.Conv1d(2, 4, 1), nn.BatchNorm1d(4))).eval()
    x = torch.randn(2, 4)
    result = fold(model, [x])
    assert "axis 1 is not the axis of that layer's outputs" in result.kept["1"]
    torch.testing.assert_close(result.model(x), model(x))


def test_a_part_that_cannot_be_traced_does_no_harm_if_nothing_is_to_be_folded_in_it():
    choosy = Model(lambda m, x: m.linear(x) if x.sum() > 0 else x, linear=nn.Linear(3, 3))
    model = randomized(nn.Sequential(choosy, nn.Linear(3, 3), layers.BatchNorm1d(3), choosy))
    assert assert_folds(model, torch.randn(8, 3), ["2"]).kept == {}


def test_our_other_layers_are_no_obstacle():
    model = nn.Sequential(
        conv(), layers.BatchNorm2d(3), layers.GroupNorm(1, 3), conv(), layers.BatchNorm2d(3),
        layers.InstanceNorm(3), layers.LayerNorm(5), layers.RMSNorm(5),
    )  # fmt: skip
    model = randomized(model).double()
    assert_folds(model, torch.randn(4, *IMAGES).double(), ["1", "4"])
    inside = nn.Sequential(nn.Sequential(layers.GroupNorm(1, 3), conv()), layers.BatchNorm2d(3))
    assert_folds(randomized(inside), torch.randn(4, *IMAGES), ["1"])


def test_a_default_argument_of_forward_has_its_default():
    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.bn = nn.Linear(3, 3), nn.BatchNorm1d(3)

        def forward(self, x, mask=None):
            y = self.linear(x)
            return self.bn(y if mask is None else y * mask)

    assert_folds(randomized(Masked()), torch.randn(8, 3), ["bn"])


# Conversion


@networks
def test_there_and_back_again_changes_no_output_and_no_state(network):
    model, shape = built(network)
    model = randomized(model)
    next(iter(batch_norms(model).values())).eval()
    before = condition(model)
    x = torch.randn(6, *shape)
    ours = convert(model, from_torch)
    assert_same_condition(model, before)
    assert all(isinstance(m, layers.BatchNorm) for m in batch_norms(ours).values())
    back = convert(ours, to_torch)
    for one in (ours, back):
        assert {k: m.training for k, m in one.named_modules()} == {
            k: m.training for k, m in model.named_modules()
        }
        torch.testing.assert_close(dict(one.state_dict()), dict(model.state_dict()), rtol=0, atol=0)
        torch.testing.assert_close(copy.deepcopy(one)(x), copy.deepcopy(model)(x))
        torch.testing.assert_close(copy.deepcopy(one).eval()(x), copy.deepcopy(model).eval()(x))
    assert {k: type(m) for k, m in back.named_modules()} == {
        k: type(m) for k, m in model.named_modules()
    }


TWINS = [
    (nn.BatchNorm1d(4, eps=0.1, momentum=None), (8, 4)),
    (nn.BatchNorm2d(4, affine=False), (3, 4, 2, 2)),
    (nn.BatchNorm3d(4, track_running_stats=False), (3, 4, 2, 2, 2)),
    (nn.BatchNorm1d(4).double().requires_grad_(False).eval(), (8, 4)),
    (nn.GroupNorm(2, 4), (3, 4, 5)),
    (nn.LayerNorm((4, 5), eps=0.1), (3, 4, 5)),
    (nn.LayerNorm(5, bias=False), (3, 4, 5)),
    (nn.RMSNorm(5), (3, 4, 5)),
]


@pytest.mark.parametrize(("theirs", "shape"), TWINS, ids=lambda value: str(value))
def test_twins_have_the_same_arguments_state_mode_and_outputs(theirs, shape):
    randomized(theirs)
    ours = from_torch(theirs)
    back = to_torch(ours)
    assert type(ours).__module__ == "bn_core.layers"
    assert type(back) is type(theirs)
    assert from_torch(ours) is ours
    assert to_torch(theirs) is theirs
    for twin in (ours, back):
        assert twin.training == theirs.training
        torch.testing.assert_close(dict(twin.state_dict()), dict(theirs.state_dict()))
        assert {k: p.requires_grad for k, p in twin.named_parameters()} == {
            k: p.requires_grad for k, p in theirs.named_parameters()
        }
    assert repr(back) == repr(theirs)
    x = torch.randn(shape).to(next((p.dtype for p in theirs.parameters()), torch.float32))
    torch.testing.assert_close(ours(x), copy.deepcopy(theirs)(x))
    for name, tensor in (*ours.named_parameters(), *ours.named_buffers()):
        assert tensor.data_ptr() != getattr(theirs, name).data_ptr()


@pytest.mark.parametrize(
    ("factory", "kind"), [(from_torch, nn.BatchNorm1d), (to_torch, layers.BatchNorm1d)]
)
def test_converted_layers_share_what_they_shared(factory, kind):
    model = Model(lambda m, x: m.b(m.a(x)) * m.gamma, a=kind(3), b=kind(3))
    model.b.weight = model.a.weight
    model.b.running_mean = model.a.running_mean
    model.gamma = model.a.weight
    model.b.weight.requires_grad_(False)
    randomized(model)
    made = convert(model, factory)
    assert made.a.weight is made.b.weight is made.gamma
    assert made.a.weight is not model.a.weight
    assert not made.a.weight.requires_grad
    assert made.a.running_mean is made.b.running_mean
    assert len(list(made.parameters())) == len(list(model.parameters()))
    x = torch.randn(8, 3)
    torch.testing.assert_close(made(x), model(x))
    torch.testing.assert_close(dict(made.state_dict()), dict(model.state_dict()))


def test_a_buffer_that_is_not_saved_stays_so():
    layer = nn.BatchNorm1d(3)
    layer.register_buffer("extra", torch.ones(1), persistent=False)
    for twin in (from_torch(layer), convert(layer, from_torch)):
        assert "extra" not in twin.state_dict()
        torch.testing.assert_close(twin.extra, torch.ones(1))


@pytest.mark.parametrize("norm", [nn.BatchNorm1d, layers.BatchNorm1d])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_layer_without_tensors_has_the_type_of_its_surroundings(norm, dtype):
    x = torch.randn(8, 3).to(dtype)
    bare = nn.Sequential(norm(3, affine=False, track_running_stats=False))
    found = population_statistics(bare, x.split(3))["0"]
    torch.testing.assert_close(found.mean, x.double().mean(0))
    torch.testing.assert_close(found.var, x.double().var(0, correction=0))
    model = nn.Sequential(nn.Linear(3, 3), *bare).to(dtype)
    for factory in (lambda old: nn.GroupNorm(1, old.num_features), from_torch):
        assert convert(model, factory)(x).dtype == dtype


def test_an_error_of_the_factory_comes_with_the_name_of_the_layer():
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3, eps=0))
    with pytest.raises(ValueError, match="BatchNorm1d: eps is 0") as caught:
        convert(model, from_torch)
    assert caught.value.__notes__ == ["convert: the factory was given layer '1'"]


def test_a_factory_makes_what_it_likes_of_the_old_layer():
    model, shape = built("resnet")
    model.double()
    model[1].eval()
    grouped = convert(model, lambda old: layers.GroupNorm(2, old.num_features))
    assert not batch_norms(grouped)
    assert sum(isinstance(m, layers.GroupNorm) for m in grouped.modules()) == 6
    assert not grouped[1].training
    assert grouped[3].bn1.training
    assert grouped(torch.randn(2, *shape).double()).dtype == torch.float64


def test_the_factory_may_leave_layers_and_wrap_them():
    model, shape = built("figure 1")
    before = condition(model)
    wrapped = convert(
        model,
        lambda old: None if old is None or old.eps == 0 else nn.Sequential(old, nn.Dropout(0.1)),
    )
    assert_same_condition(model, before)
    assert type(wrapped.norm1) is nn.Sequential
    assert wrapped.norm1[0] is not model.norm1
    assert wrapped(torch.randn(4, *shape)).shape == (4, 10)
    same = convert(model, lambda old: None)
    assert {k: type(m) for k, m in same.named_modules()} == {
        k: type(m) for k, m in model.named_modules()
    }


def test_a_shared_layer_is_made_once_and_put_into_both_places():
    norm = nn.BatchNorm1d(3)
    model = nn.Sequential(norm, nn.ReLU(), norm)
    calls = []
    made = convert(model, lambda old: calls.append(old) or from_torch(old))
    assert len(calls) == 1
    assert made[0] is made[2]
    assert calls[0] is not norm


def test_a_model_that_is_a_normalization_itself_becomes_its_replacement():
    assert type(convert(nn.BatchNorm1d(3), from_torch)) is layers.BatchNorm1d


def test_other_kinds_are_replaced_on_demand():
    model = nn.Sequential(nn.LayerNorm(3), nn.BatchNorm1d(3))
    made = convert(model, from_torch, kinds=nn.LayerNorm)
    assert [type(m) for m in made] == [layers.LayerNorm, nn.BatchNorm1d]
    made = convert(model, from_torch, kinds=(nn.LayerNorm, nn.BatchNorm1d))
    assert [type(m) for m in made] == [layers.LayerNorm, layers.BatchNorm1d]


# The whole of Algorithm 2


@networks
def test_trained_then_recalibrated_then_folded_is_the_inference_network(network):
    model, shape = built(network)
    trained(model, shape)
    x = torch.randn(30, *shape)
    ready = recalibrate(model, x.split(8))
    assert_folds(ready, x, batch_norms(model))


# Refusals


def loader(*sizes):
    return [torch.zeros(size, 3) for size in sizes]


class Shrinking:
    """Gives one batch less each time."""

    def __init__(self, number):
        self.number = number

    def __iter__(self):
        self.number -= 1
        return iter(loader(*[2] * self.number))


def moody(x_to_norm):
    return Model(x_to_norm, a=nn.BatchNorm1d(3), b=nn.BatchNorm1d(3))


def plain_list():
    model = Model(lambda m, x: m.norms[0](m.linear(x)), linear=nn.Linear(3, 3),
                  bn=nn.BatchNorm1d(3))  # fmt: skip
    model.norms = [model.bn]
    return model


def scripted():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return torch.jit.script(nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)))


BN = nn.Sequential(nn.BatchNorm1d(3))
UNTRACKED = nn.Sequential(nn.BatchNorm1d(3, track_running_stats=False))
BAD = [
    (lambda: population_statistics(BN, (x for x in loader(4))), TypeError,
     r"population_statistics: batches is a generator.*only once.*list\(batches\)"),
    (lambda: recalibrate_(BN, iter(loader(4))), TypeError,
     "recalibrate_: batches is a list_iterator"),
    (lambda: population_statistics(BN, torch.zeros(4, 3)), TypeError,
     r"batches is a tensor of shape \(4, 3\).*pass \[x\]"),
    (lambda: population_statistics(BN, 5), TypeError, "batches is an int; it must be an iterable"),
    (lambda: population_statistics(BN, [{"x": torch.zeros(4, 3)}]), TypeError,
     "batch 0 is a dict; it must be a tensor, or a tuple or list"),
    (lambda: population_statistics(BN, [torch.zeros(4, 3), (1, 2)]), TypeError,
     "batch 1 is a tuple that starts with an int"),
    (lambda: population_statistics(BN, []), ValueError, "batches has no examples"),
    (lambda: population_statistics(BN, loader(0, 0)), ValueError, "batches has no examples"),
    (lambda: population_statistics(nn.Linear(3, 3), loader(4)), ValueError,
     "Linear has no batch normalization"),
    (lambda: population_statistics(nn.Sequential(BN[0], BN[0]), loader(4)), ValueError,
     "layer '0' runs 2 times in one forward pass.*layer of its own"),
    (lambda: population_statistics(
        moody(lambda m, x: m.a(m.b(x)) if len(x) > 4 else m.b(m.a(x))), loader(4, 5)), ValueError,
     r"batch 1 ran the layers \['b', 'a'\], earlier batches ran \['a', 'b'\]"),
    (lambda: population_statistics(
        moody(lambda m, x: m.b(y) if (y := m.a(x)).mean() > 1 else y),
        [torch.full((4, 3), 5.0)]), ValueError,
     "batch 0 does not run layer 'b' any more"),
    (lambda: population_statistics(BN, Shrinking(5)), ValueError,
     "gave 8 examples the first time and 6 the next"),
    (lambda: population_statistics(BN, [torch.full((4, 3), torch.inf)]), ValueError,
     "what enters layer '0' has NaN or infinite values in batch 0"),
    (lambda: population_statistics(nn.Sequential(nn.LazyBatchNorm1d()), loader(4)), ValueError,
     "0.weight of Sequential has no shape yet; run the model on one batch first"),
    (lambda: recalibrate(UNTRACKED, loader(4)), ValueError,
     r"recalibrate: the layers \['0'\] keep no running statistics"),
    (lambda: recalibrate(nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)).half(),
                         [torch.eye(3).half() * 6e4]), ValueError,
     "do not fit into torch.float16, the type of its running_var"),
    (lambda: fold(Model(lambda m, x: m.bn(x) if x.sum() > 0 else x, bn=BN[0]), loader(4)),
     ValueError, r"fold: torch.fx cannot trace Model \(TraceError: .*control flow.*Fold the parts"),
    (lambda: fold(plain_list(), loader(4)), ValueError,
     "calls layer 'bn' through a reference that is not a submodule.*nn.ModuleList"),
    (lambda: fold(BN, None), TypeError, "fold: example is a NoneType; it must be a tensor"),
    (lambda: fold(nn.Sequential(nn.LazyLinear(3), BN[0]), loader(4)), ValueError,
     "0.weight of Sequential has no shape yet"),
    (lambda: convert(nn.Linear(3, 3), from_torch), ValueError,
     "convert: Linear has no batch normalization among its modules; pass the classes"),
    (lambda: convert(BN, from_torch, kinds=nn.LayerNorm), ValueError,
     "Sequential has no layer of kinds <class 'torch.nn.modules.normalization.LayerNorm'>"),
    (lambda: fold(Model(lambda m, x: bn_core.batch_norm(m.bn(x)), bn=nn.BatchNorm1d(3)), loader(4)),
     ValueError, "cannot trace Model.*nor call what does, such as a function of bn_core"),
    (lambda: fold(scripted(), loader(4)), ValueError,
     "layer '1' is a BatchNorm1d made by torch.jit.*fold the model that was scripted"),
    (lambda: fold(nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)).to("meta"), loader(4)),
     ValueError, "fold: 0.weight of Sequential is on the meta device and has no values"),
    (lambda: population_statistics(nn.BatchNorm1d(3).to("meta"), loader(4)), ValueError,
     "weight of BatchNorm1d is on the meta device"),
    (lambda: convert(BN, None), TypeError, "convert: factory is a NoneType; it must be a function"),
    (lambda: convert(BN, nn.Identity()), TypeError,
     r"convert: factory is an Identity; it must be.*lambda old: nn.Identity\(\)"),
    (lambda: convert(BN, from_torch, kinds=[nn.LayerNorm]), TypeError,
     r"convert: kinds is \[<class.*; it must be a class of modules, or a tuple"),
    (lambda: convert(BN, from_torch, kinds="LayerNorm"), TypeError, "kinds is 'LayerNorm'"),
    (lambda: convert(BN, lambda old: 5), TypeError,
     "convert: factory returned an int for layer '0'; it must return a module, or None"),
    (lambda: from_torch(nn.SyncBatchNorm(3)), TypeError,
     "from_torch: a SyncBatchNorm has no counterpart in bn_core"),
    (lambda: to_torch(layers.BatchRenorm(3)), TypeError,
     "to_torch: a BatchRenorm has no counterpart in torch.nn"),
    (lambda: from_torch(Clipped(3)), TypeError, "from_torch: a Clipped has no counterpart"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "kind", "words"), BAD, ids=[words for *_, words in BAD])
def test_bad_input_is_named_with_what_would_do(call, kind, words):
    with pytest.raises(kind, match=words):
        call()
