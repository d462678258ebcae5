"""The network of Figure 1, deeper ones and others."""

import math

import pytest
import torch
from torch import nn

from bn_core import BatchNorm1d, BatchNorm2d
from bn_core.lab.models import (
    centre_on_half,
    convolutional_network,
    dense_network,
    figure1_network,
    he_std,
    sigmoid_network,
    xavier_std,
)


def seeded(normalization=None, **options):
    return figure1_network(normalization, generator=torch.Generator().manual_seed(3), **options)


def test_layers_are_those_of_section_4_1():
    linears = [m for m in seeded().modules() if isinstance(m, nn.Linear)]
    assert [(m.in_features, m.out_features) for m in linears] == [
        (784, 100), (100, 100), (100, 100), (100, 10),
    ]  # fmt: skip
    assert sum(isinstance(m, nn.Sigmoid) for m in seeded().modules()) == 3
    assert seeded()(torch.zeros(2, 28, 28)).shape == (2, 10)


def test_normalization_stands_between_each_hidden_linear_layer_and_its_sigmoid():
    names = list(dict(seeded(BatchNorm1d).named_children()))
    hidden = [f"{kind}{i}" for i in (1, 2, 3) for kind in ("linear", "norm", "sigmoid")]
    assert names == ["flatten", *hidden, "linear4"]


def test_bias_is_dropped_in_front_of_normalization_only():
    with_bias = [name for name, m in seeded(BatchNorm1d).named_children()
                 if isinstance(m, nn.Linear) and m.bias is not None]  # fmt: skip
    assert with_bias == ["linear4"]
    assert all(m.bias is not None for m in seeded().modules() if isinstance(m, nn.Linear))


def test_equal_generators_give_equal_weights_with_and_without_normalization():
    for i in (1, 2, 3, 4):
        weights = (getattr(net, f"linear{i}").weight for net in (seeded(), seeded(BatchNorm1d)))
        torch.testing.assert_close(*weights)


@pytest.mark.parametrize("init_std", [0.01, 0.5])
def test_weights_have_the_standard_deviation_asked_for_and_biases_are_zero(init_std):
    net = seeded(init_std=init_std)
    assert net.linear1.weight.std().item() == pytest.approx(init_std, rel=0.02)
    assert not net.linear1.bias.any()


@pytest.mark.parametrize("init_std", [0.0, -1.0, float("nan")])
def test_standard_deviation_must_be_positive(init_std):
    with pytest.raises(ValueError, match=r"init_std is .* positive"):
        figure1_network(init_std=init_std)


def convolutional(normalization=None, **options):
    generator = torch.Generator().manual_seed(3)
    return convolutional_network(normalization, generator=generator, **options)


def test_convolutions_halve_height_and_width_rounded_up():
    x, sides = torch.zeros(2, 28, 28), []
    for name, layer in convolutional().named_children():
        x = layer(x)
        if name.startswith("conv"):
            sides.append(tuple(x.shape[1:]))
    assert sides == [(8, 14, 14), (8, 7, 7), (16, 4, 4)]
    assert x.shape == (2, 10)


@pytest.mark.parametrize(
    ("place", "order"),
    [("before", ["conv1", "norm1", "activation1"]), ("after", ["conv1", "activation1", "norm1"])],
)
def test_normalization_stands_on_the_side_of_the_nonlinearity_that_is_asked_for(place, order):
    net = convolutional(BatchNorm2d, place=place, channels=(5,))
    assert list(dict(net.named_children())) == ["image", *order, "flatten", "linear"]
    assert net.norm1.num_features == 5


def test_a_convolution_keeps_its_bias_unless_normalization_follows_at_once():
    kept = {
        "before": convolutional(BatchNorm2d).conv1.bias is not None,
        "after": convolutional(BatchNorm2d, place="after").conv1.bias is not None,
        "none": convolutional().conv1.bias is not None,
    }
    assert kept == {"before": False, "after": True, "none": True}


def test_equal_generators_give_equal_convolutions_wherever_the_normalization_stands():
    nets = (convolutional(), convolutional(BatchNorm2d), convolutional(BatchNorm2d, place="after"))
    for name in ("conv1", "conv2", "conv3", "linear"):
        weights = [getattr(net, name).weight for net in nets]
        assert all(torch.equal(weights[0], weight) for weight in weights)


def test_convolutions_start_with_variance_two_over_the_inputs_of_a_unit():
    weight = convolutional(channels=(64, 64)).conv2.weight
    assert weight.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.02)


def test_the_nonlinearity_is_the_one_asked_for():
    assert isinstance(convolutional(activation=nn.Sigmoid).activation3, nn.Sigmoid)


def test_impossible_convolutional_networks_are_refused():
    with pytest.raises(ValueError, match=r"place is 'behind'.*'before' or 'after'"):
        convolutional(place="behind")
    for channels in ((), (8, 0)):
        with pytest.raises(ValueError, match=r"channels is .* at least 1"):
            convolutional(channels=channels)


# Any depth


def deep(depth, normalization=None, **options):
    return sigmoid_network(
        depth, normalization, generator=torch.Generator().manual_seed(3), **options
    )


@pytest.mark.parametrize("normalization", [None, BatchNorm1d])
def test_at_depth_three_it_is_the_network_of_figure_1(normalization):
    ours, theirs = deep(3, normalization).state_dict(), seeded(normalization).state_dict()
    assert list(ours) == list(theirs)
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name])


@pytest.mark.parametrize("depth", [1, 5])
def test_depth_and_width_are_those_asked_for(depth):
    net = deep(depth, width=7)
    shapes = [tuple(m.weight.shape) for m in net.modules() if isinstance(m, nn.Linear)]
    assert shapes == [(7, 784), *[(7, 7)] * (depth - 1), (10, 7)]
    assert net(torch.zeros(2, 28, 28)).shape == (2, 10)


def test_a_rule_gives_each_layer_its_own_standard_deviation():
    rule, ones = deep(2, init_std=lambda i, o: i / o), deep(2, init_std=1.0)
    for name, factor in (("linear1", 7.84), ("linear2", 1.0), ("linear3", 10.0)):
        weights = [getattr(net, name).weight for net in (rule, ones)]
        torch.testing.assert_close(weights[0], factor * weights[1])


def test_xavier_has_the_variance_of_the_uniform_distribution_of_the_source():
    half_width = math.sqrt(6) / math.sqrt(784 + 100)  # Glorot & Bengio (2010), equation 16
    assert xavier_std(784, 100) == pytest.approx(half_width / math.sqrt(3))
    assert xavier_std(784, 100, slope=0.25) == pytest.approx(4 * xavier_std(784, 100))


def test_centring_makes_the_middle_of_the_sigmoids_the_middle_of_the_next_ones():
    net, centred = deep(3).double(), centre_on_half(deep(3).double())
    for i in (2, 3, 4):
        linear = getattr(centred, f"linear{i}")
        z = torch.rand(5, 100, dtype=torch.float64)
        torch.testing.assert_close(linear(z), (z - 0.5) @ linear.weight.T)
        torch.testing.assert_close(linear.weight, getattr(net, f"linear{i}").weight)
    assert not centred.linear1.bias.any()  # fed by pixels


def test_centring_needs_a_bias():
    with pytest.raises(ValueError, match="linear2 has no bias"):
        centre_on_half(deep(2, BatchNorm1d))


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([nn.Sigmoid(), nn.Conv2d(1, 1, 2)], "1, after a sigmoid, is a Conv2d"),
        (
            [nn.Sigmoid(), nn.BatchNorm1d(4), nn.Linear(4, 4)],
            "1, after a sigmoid, is a BatchNorm1d",
        ),
        ([nn.Sequential(nn.Sigmoid(), nn.Linear(4, 4))], "0 holds layers of its own"),
    ],
)
def test_centring_refuses_what_it_would_skip_and_changes_nothing(layers, message):
    network = nn.Sequential(nn.Sigmoid(), nn.Linear(4, 4), *layers)
    before = network[1].bias.clone()
    with pytest.raises(ValueError, match=message.replace("1,", "3,", 1).replace("0 h", "2 h")):
        centre_on_half(network)
    assert torch.equal(network[1].bias, before)


# Any widths and any nonlinearity


def dense(*args, **options):
    return dense_network(*args, generator=torch.Generator().manual_seed(3), **options)


@pytest.mark.parametrize("normalization", [None, BatchNorm1d])
def test_a_dense_network_of_the_right_widths_is_that_of_figure_1(normalization):
    ours = dense((784, 100, 100, 100, 10), normalization, activation=nn.Sigmoid, init_std=0.1)
    x = torch.rand(5, 28, 28)
    torch.testing.assert_close(ours(x), seeded(normalization)(x))


def test_layers_of_a_dense_network_have_the_names_that_are_said():
    names = [name for name, _ in dense((4, 3, 3, 2), BatchNorm1d).named_children()]
    assert names == [
        "flatten", "linear1", "norm1", "activation1", "linear2", "norm2", "activation2", "linear3",
    ]  # fmt: skip


def test_the_nonlinearity_of_a_dense_network_is_a_switch_and_leaves_the_weights_alone():
    relu, tanh = dense(), dense(activation=nn.Tanh)
    assert isinstance(relu.activation1, nn.ReLU)
    assert isinstance(tanh.activation1, nn.Tanh)
    torch.testing.assert_close(relu.state_dict(), tanh.state_dict())


def test_a_dense_network_starts_with_variance_two_over_the_inputs_unless_told_otherwise():
    assert dense().linear1.weight.std().item() == pytest.approx((2 / 784) ** 0.5, rel=0.01)
    ruled = dense((784, 300, 10), init_std=xavier_std)
    assert ruled.linear1.weight.std().item() == pytest.approx((2 / 1084) ** 0.5, rel=0.01)


def test_weights_of_variance_two_over_the_inputs_keep_the_mean_square_through_relus():
    net = dense((400, *[400] * 10, 1))
    x = torch.randn(200, 400, generator=torch.Generator().manual_seed(0))
    assert 0.5 < net[:-1](x).square().mean() / (x.relu().square().mean()) < 2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sigmoid_network(0), "depth is 0"),
        (lambda: sigmoid_network(2, width=0), "width is 0"),
        (lambda: sigmoid_network(2, init_std=lambda i, o: 0.0), "init_std is 0.0 for 784 inputs"),
        (lambda: dense_network((784,)), r"widths is \(784,\); give at least two"),
        (lambda: dense_network((784, 0, 10)), r"widths is \(784, 0, 10\)"),
        (lambda: figure1_network(init_std=math.inf), "init_std is inf; it must be finite"),
        (lambda: dense_network(init_std=math.inf), "init_std is inf; it must be finite"),
        (lambda: dense_network(init_std=0.0), "init_std is 0.0 for 784 inputs and 128 outputs"),
        (lambda: he_std(0), "inputs is 0"),
        (lambda: xavier_std(0, 10), "inputs is 0"),
        (lambda: xavier_std(10, 0), "outputs is 0"),
        (lambda: xavier_std(10, 10, slope=-1), "slope is -1"),
    ],
)
def test_what_is_out_of_range_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
