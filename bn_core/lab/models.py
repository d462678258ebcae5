"""The networks of the paper."""

from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import Tensor, nn


def figure1_network(
    normalization: Callable[[int], nn.Module] | None = None,
    *,
    init_std: float = 0.1,
    generator: torch.Generator | None = None,
) -> nn.Sequential:
    """Build the network of Figure 1: 28 x 28 pixels, three layers of 100 sigmoid units, 10 outputs.

    The layers have names: `flatten`, then `linear1`, `norm1`, `sigmoid1` and so on to `sigmoid3`,
    then `linear4`. So `network.sigmoid3` is the last hidden nonlinearity, and what enters it is the
    quantity of Figure 1(b, c).

    Args:
        normalization: called with a layer's width to make the module between each hidden linear
            layer and its sigmoid, for example `bn_core.BatchNorm1d`. With it the hidden linear
            layers have no bias: the normalization subtracts it again, and beta has its role
            (section 3.2). Without it there are no `norm` layers.
        init_std: standard deviation of the Gaussian that every weight is drawn from; positive.
            Biases start at zero. The paper says "small random Gaussian values" and no more.
        generator: source of the weights. Equal generators give equal weights with and without
            normalization.

    Returns:
        A network from images (m, 28, 28) to class scores (m, 10).

    Raises:
        ValueError: init_std is not positive.

    Source: Ioffe & Szegedy (2015), section 4.1.
    """
    if not init_std > 0:
        raise ValueError(f"figure1_network: init_std is {init_std}; it must be positive (say 0.1)")
    widths = (28 * 28, 100, 100, 100, 10)
    hidden = len(widths) - 2
    layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    for i in range(1, hidden + 1):
        linear = nn.Linear(widths[i - 1], widths[i], bias=normalization is None)
        layers[f"linear{i}"] = _gaussian(linear, init_std, generator)
        if normalization is not None:
            layers[f"norm{i}"] = normalization(widths[i])
        layers[f"sigmoid{i}"] = nn.Sigmoid()
    layers[f"linear{hidden + 1}"] = _gaussian(nn.Linear(*widths[-2:]), init_std, generator)
    return nn.Sequential(layers)


def _gaussian(linear: nn.Linear, std: float, generator: torch.Generator | None) -> nn.Linear:
    nn.init.normal_(linear.weight, std=std, generator=generator)
    bias: Tensor | None = linear.bias
    if bias is not None:
        nn.init.zeros_(bias)
    return linear
