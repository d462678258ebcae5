"""The network of Figure 1."""

import pytest
import torch
from torch import nn

from bn_core import BatchNorm1d
from bn_core.lab.models import figure1_network


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
