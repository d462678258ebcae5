"""The networks of the paper, and the ways to start them."""

import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Literal

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
            layer and its sigmoid: a class or function, for example `bn_core.BatchNorm1d`, not a
            module. With it the hidden linear layers have no bias: the normalization subtracts it
            again, and beta has its role (section 3.2). Without it there are no `norm` layers.
        init_std: standard deviation of the Gaussian that every weight is drawn from; positive and
            finite. Biases start at zero. The paper says "small random Gaussian values" and no more.
        generator: source of the weights. Equal generators give equal weights with and without
            normalization.

    Returns:
        A network from images (m, 28, 28) to class scores (m, 10).

    Raises:
        ValueError: init_std is not positive or not finite.

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


def sigmoid_network(
    depth: int,
    normalization: Callable[[int], nn.Module] | None = None,
    *,
    width: int = 100,
    init_std: float | Callable[[int, int], float] = 0.1,
    generator: torch.Generator | None = None,
) -> nn.Sequential:
    """Build a network like that of Figure 1 with any number of hidden layers, of any width.

    Its layers are named as in `figure1_network`, which `sigmoid_network(3)` equals weight for
    weight: `flatten`, `linear1`, `norm1`, `sigmoid1` and so on, and a last linear layer.

    Args:
        depth: number of hidden layers, at least 1.
        normalization: as for `figure1_network`.
        width: units in each hidden layer, at least 1.
        init_std: standard deviation of the Gaussian that a layer's weights are drawn from;
            positive and finite. One number for all layers, or a function of a layer's numbers of
            inputs and outputs, such as `xavier_std`. Biases start at zero.
        generator: source of the weights. Equal generators give equal weights, but for their scale,
            with any `init_std`.

    Returns:
        A network from images (m, 28, 28) to class scores (m, 10).

    Raises:
        ValueError: depth or width is below 1, or a standard deviation is out of range.

    Source: Ioffe & Szegedy (2015), section 4.1, for depth 3 and width 100.
    """
    for argument, value in (("depth", depth), ("width", width)):
        if value < 1:
            raise ValueError(f"sigmoid_network: {argument} is {value}; it must be at least 1")
    widths = (28 * 28, *[width] * depth, 10)
    layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    for i, (inputs, outputs) in enumerate(pairwise(widths), 1):
        std = init_std(inputs, outputs) if callable(init_std) else init_std
        if not std > 0:
            raise ValueError(
                f"sigmoid_network: init_std is {std} for {inputs} inputs and {outputs} outputs; "
                "it must be positive (say 0.1)"
            )
        hidden = i <= depth
        linear = nn.Linear(inputs, outputs, bias=normalization is None or not hidden)
        layers[f"linear{i}"] = _gaussian(linear, std, generator)
        if not hidden:
            continue
        if normalization is not None:
            layers[f"norm{i}"] = normalization(outputs)
        layers[f"sigmoid{i}"] = nn.Sigmoid()
    return nn.Sequential(layers)


def dense_network(
    widths: Sequence[int] = (784, 128, 10),
    normalization: Callable[[int], nn.Module] | None = None,
    *,
    activation: Callable[[], nn.Module] = nn.ReLU,
    init_std: float | Callable[[int, int], float] | None = None,
    generator: torch.Generator | None = None,
) -> nn.Sequential:
    """Build a fully connected network of any widths, with any nonlinearity.

    The layers have names: `flatten`, then `linear1`, `norm1`, `activation1` and so on for each
    hidden layer, and a last linear layer.

    Args:
        widths: numbers of inputs, of units in each hidden layer, and of outputs; at least two
            numbers, each at least 1.
        normalization: as for `figure1_network`.
        activation: called to make each nonlinearity: a class or function, not a module.
        init_std: standard deviation of the Gaussian that a layer's weights are drawn from;
            positive and finite. One number for all layers, or a function of a layer's numbers of
            inputs and outputs; by default `he_std`, made for ReLU. Biases start at zero.
        generator: source of the weights. Equal generators give equal weights, but for their scale,
            with any normalization, activation and `init_std`.

    Returns:
        A network from (m, ...), flattened to (m, widths[0]), to class scores (m, widths[-1]).

    Raises:
        ValueError: too few widths or one below 1, or a standard deviation is out of range.
    """
    if len(widths) < 2 or min(widths) < 1:
        raise ValueError(
            f"dense_network: widths is {tuple(widths)}; give at least two numbers, each at least "
            "1, say (784, 128, 10)"
        )
    rule = he_std if init_std is None else init_std
    layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    for i, (inputs, outputs) in enumerate(pairwise(widths), 1):
        std = rule(inputs, outputs) if callable(rule) else rule
        if not std > 0:
            raise ValueError(
                f"dense_network: init_std is {std} for {inputs} inputs and {outputs} outputs; it "
                "must be positive (say 0.1)"
            )
        hidden = i < len(widths) - 1
        linear = nn.Linear(inputs, outputs, bias=normalization is None or not hidden)
        layers[f"linear{i}"] = _gaussian(linear, std, generator)
        if not hidden:
            continue
        if normalization is not None:
            layers[f"norm{i}"] = normalization(outputs)
        layers[f"activation{i}"] = activation()
    return nn.Sequential(layers)


def he_std(inputs: int, outputs: int = 1) -> float:
    """The standard deviation of weights that keeps the mean square of a signal through ReLUs.

    A ReLU halves the mean square of what is symmetric about 0; weights of variance 2 / inputs make
    up for it, on average over the weights.

    Args:
        inputs: of the layer, at least 1.
        outputs: of the layer; they do not matter.

    Raises:
        ValueError: inputs is below 1.

    Source: He et al. (2015), section 2.2.
    """
    if inputs < 1:
        raise ValueError(f"he_std: inputs is {inputs}; it must be at least 1")
    return math.sqrt(2 / inputs)


def xavier_std(inputs: int, outputs: int, slope: float = 1.0) -> float:
    """The standard deviation of weights that keeps variances, forward and backward, on average.

    Keeping the variance of a signal asks for inputs * (slope * std)^2 = 1, keeping that of a
    gradient for outputs * (slope * std)^2 = 1. This is the value between: with the mean of the
    two numbers of units.

    Args:
        inputs: of the layer, at least 1.
        outputs: of the layer, at least 1.
        slope: of the nonlinearity at 0, positive: 1 for tanh, for which the rule was made, 1/4 for
            the sigmoid.

    Raises:
        ValueError: an argument is out of range.

    Source: Glorot & Bengio (2010), section 4.2, there as a uniform distribution of this variance.
    """
    for argument, value in (("inputs", inputs), ("outputs", outputs)):
        if value < 1:
            raise ValueError(f"xavier_std: {argument} is {value}; it must be at least 1")
    if not slope > 0:
        raise ValueError(f"xavier_std: slope is {slope}; it must be positive (1/4 for the sigmoid)")
    return math.sqrt(2 / (inputs + outputs)) / slope


@torch.no_grad()
def centre_on_half(network: nn.Sequential) -> nn.Sequential:
    """Set biases so that a layer fed by sigmoids is fed, in effect, by sigmoids minus 1/2.

    W (z - 1/2) is W z less half the sum of each row of W, so in every linear layer that comes after
    a sigmoid each bias becomes minus half the sum of its row. Where all those sigmoids are at their
    middle and give 1/2, pre-activations are 0.

    Args:
        network: its layers in the order in which they are called; changed in place. What follows a
            sigmoid is another, a linear layer, or `nn.Flatten` or `nn.Identity` before it.

    Returns:
        The same network.

    Raises:
        ValueError: a linear layer after a sigmoid has no bias to set, or another layer than those
            follows a sigmoid, or a layer holds layers. Nothing is changed.
    """
    after_sigmoid = False
    biases: list[tuple[Tensor, Tensor]] = []
    for name, layer in network.named_children():
        if next(layer.children(), None) is not None:
            raise ValueError(
                f"centre_on_half: {name} holds layers of its own; put them into the network itself"
            )
        if after_sigmoid and not isinstance(
            layer, (nn.Linear, nn.Sigmoid, nn.Flatten, nn.Identity)
        ):
            raise ValueError(
                f"centre_on_half: {name}, after a sigmoid, is a {type(layer).__name__}; only the "
                "biases of linear layers are set, with nothing in between"
            )
        if isinstance(layer, nn.Linear):
            if after_sigmoid:
                bias: Tensor | None = layer.bias
                if bias is None:
                    raise ValueError(
                        f"centre_on_half: {name} has no bias; build the network without "
                        "normalization, which centres by itself"
                    )
                biases.append((bias, -layer.weight.sum(1) / 2))
            after_sigmoid = False
        after_sigmoid = after_sigmoid or isinstance(layer, nn.Sigmoid)
    for bias, values in biases:
        bias.copy_(values)
    return network


def _gaussian(linear: nn.Linear, std: float, generator: torch.Generator | None) -> nn.Linear:
    if std == math.inf:
        raise ValueError(f"init_std is {std}; it must be finite (say 0.1)")
    nn.init.normal_(linear.weight, std=std, generator=generator)
    bias: Tensor | None = linear.bias
    if bias is not None:
        nn.init.zeros_(bias)
    return linear


def convolutional_network(
    normalization: Callable[[int], nn.Module] | None = None,
    *,
    place: Literal["before", "after"] = "before",
    activation: Callable[[], nn.Module] = nn.ReLU,
    channels: Sequence[int] = (8, 8, 16),
    generator: torch.Generator | None = None,
) -> nn.Sequential:
    """Build a small convolutional network: 28 x 28 pixels, some 3 x 3 convolutions, 10 outputs.

    Every convolution has stride 2 and padding 1, so it halves height and width, rounded up: three
    of them make maps of 14 x 14, 7 x 7 and 4 x 4. The layers have names: `image` (which adds the
    axis of channels), then `conv1`, `norm1`, `activation1` and so on, then `flatten` and `linear`.

    Args:
        normalization: called with a layer's number of feature maps to make its normalization: a
            class or function, for example `bn_core.BatchNorm2d`, not a module. Without it there are
            no `norm` layers.
        place: "before" puts it between the convolution and the nonlinearity, as section 3.2 does;
            that convolution has no bias, which would be subtracted again. "after" puts it behind
            the nonlinearity, and the convolution keeps its bias.
        activation: called to make each nonlinearity: a class or function, not a module.
        channels: feature maps of each convolution, from the first; at least one number.
        generator: source of the weights, Gaussian with variance 2 / (inputs of a unit) (He et al.
            2015). Biases start at zero. Equal generators give equal weights wherever the
            normalization stands, or without one.

    Returns:
        A network from images (m, 28, 28) to class scores (m, 10).

    Raises:
        ValueError: another place, or channels is empty or has a number below 1.

    Source: Ioffe & Szegedy (2015), section 3.2, for the order of the layers.
    """
    if place not in ("before", "after"):
        raise ValueError(
            f"convolutional_network: place is {place!r}; it must be 'before' or 'after'"
        )
    if not channels or min(channels) < 1:
        raise ValueError(
            f"convolutional_network: channels is {tuple(channels)}; give at least one number, each "
            "at least 1, say (8, 8, 16)"
        )
    layers: OrderedDict[str, nn.Module] = OrderedDict(image=nn.Unflatten(1, (1, 28)))
    maps, side = 1, 28
    for i, width in enumerate(channels, 1):
        bias = normalization is None or place == "after"
        conv = nn.Conv2d(maps, width, 3, stride=2, padding=1, bias=bias)
        layers[f"conv{i}"] = _scaled(conv, generator)
        if normalization is not None and place == "before":
            layers[f"norm{i}"] = normalization(width)
        layers[f"activation{i}"] = activation()
        if normalization is not None and place == "after":
            layers[f"norm{i}"] = normalization(width)
        maps, side = width, math.ceil(side / 2)
    layers["flatten"] = nn.Flatten()
    layers["linear"] = _scaled(nn.Linear(maps * side * side, 10), generator)
    return nn.Sequential(layers)


def _scaled(layer: nn.Conv2d | nn.Linear, generator: torch.Generator | None) -> nn.Module:
    """Weights of variance 2 / (inputs of a unit), bias zero."""
    inputs = layer.weight[0].numel()
    nn.init.normal_(layer.weight, std=math.sqrt(2 / inputs), generator=generator)
    bias: Tensor | None = layer.bias
    if bias is not None:
        nn.init.zeros_(bias)
    return layer
