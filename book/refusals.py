"""What the package refuses, as a table.

Each row is run by the tests, and by the API reference, which prints what was said.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

import bn_core
from bn_core import algorithms, layers, surgery, whitening


@dataclass(frozen=True)
class Refusal:
    """One piece of bad input.

    Attributes:
        code: an expression; `names` says what it may use.
        error: the exception it must raise.
        words: what the message must say of the input and of the way out.
    """

    code: str
    error: type[Exception]
    words: tuple[str, ...]


def names() -> Mapping[str, Any]:
    """What the expressions use, made anew for each."""
    public: dict[str, Any] = {
        name: getattr(module, name)
        for module in (algorithms, layers, whitening, surgery, bn_core)
        for name in dir(module)
        if not name.startswith("_")
    }
    return {
        **public,
        "torch": torch,
        "nn": nn,
        "nan": float("nan"),
        "x": torch.zeros(8, 4),  # a batch of 8 with 4 channels
        "one": torch.ones(4),
        "model": nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)),
        "Branching": _Branching,
    }


class _Branching(nn.Module):
    """A model whose path depends on its data, which cannot be traced."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.norm = nn.Linear(4, 4), nn.BatchNorm1d(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalize if the sum is positive."""
        y: torch.Tensor = self.linear(x)
        return self.norm(y) if y.sum() > 0 else y


ALGORITHMS = (
    Refusal("batch_norm(torch.zeros(64))", ValueError, ("(64,)", "x.unsqueeze(0)")),
    Refusal("batch_norm(torch.zeros(1, 64))", ValueError, ("(1, 64)", "batch_norm_inference")),
    Refusal("batch_norm(torch.zeros(1, 3, 1, 1))", ValueError, ("(1, 3, 1, 1)", "at least 2")),
    Refusal("batch_norm(x.long())", TypeError, ("torch.int64", "x.float()")),
    Refusal("batch_norm(x.to(torch.complex64))", TypeError, ("torch.complex64",)),
    Refusal("batch_norm(x, eps=0.0)", ValueError, ("eps is 0.0", "positive")),
    Refusal("batch_norm(x, eps=-1e-5)", ValueError, ("eps is -1e-05", "positive")),
    Refusal("batch_norm(x, eps=nan)", ValueError, ("eps is nan", "positive")),
    Refusal("batch_norm(x, gamma=torch.ones(3))", ValueError, ("gamma", "(3,)", "(4,)")),
    Refusal("batch_norm(x, beta=torch.ones(1, 4))", ValueError, ("beta", "(1, 4)", "(4,)")),
    Refusal("batch_norm(x, gamma=one.double())", TypeError, ("gamma", "torch.float64")),
    Refusal("batch_norm(x.double(), gamma=one)", TypeError, ("gamma", "torch.float32")),
    Refusal("batch_norm(x, gamma=one.to('meta'))", ValueError, ("gamma", "meta", "cpu")),
    Refusal("batch_norm_forward(x, one[:3], one)", ValueError, ("gamma", "(3,)")),
    Refusal("batch_norm_forward(x[:1], one, one)", ValueError, ("(1, 4)", "at least 2")),
    Refusal(
        "batch_norm_backward(x[:2], batch_norm_forward(x, one, one)[1])",
        ValueError,
        ("dy", "(2, 4)", "(8, 4)"),
    ),
    Refusal("batch_norm_inference(x, one[:3], one)", ValueError, ("mean", "(3,)", "(4,)")),
    Refusal("batch_norm_inference(x, one, one.double())", TypeError, ("var", "torch.float64")),
    Refusal("batch_norm_inference(x[0], one, one)", ValueError, ("(4,)", "x.unsqueeze(0)")),
    Refusal("batch_statistics(torch.zeros(64))", ValueError, ("(64,)", "x.unsqueeze(0)")),
    Refusal("population_variance(one, m=1)", ValueError, ("m is 1", "at least 2")),
    Refusal("normalize(x, axes=[])", ValueError, ("axes is []", "from -2 to 1")),
    Refusal("normalize(x, axes=[2])", ValueError, ("axes is [2]", "(8, 4)")),
    Refusal("normalize(x, axes=[1, -1])", ValueError, ("axes is [1, -1]", "different")),
    Refusal("normalize_rms(x.int(), axes=[1])", TypeError, ("torch.int32", "x.float()")),
)

LAYERS = (
    Refusal("BatchNorm1d(0)", ValueError, ("num_features is 0", "at least 1")),
    Refusal("BatchNorm1d(4, eps=0.0)", ValueError, ("eps is 0.0", "positive")),
    Refusal("BatchNorm1d(4, momentum=1.5)", ValueError, ("momentum is 1.5", "[0, 1]")),
    Refusal("BatchNorm1d(4)(torch.zeros(4))", ValueError, ("(4,)", "(m, d) or (m, d, l)")),
    Refusal("BatchNorm1d(4)(torch.zeros(8, 4, 2, 2))", ValueError, ("(8, 4, 2, 2)",)),
    Refusal("BatchNorm1d(5)(x)", ValueError, ("4 channels", "num_features = 5")),
    Refusal("BatchNorm1d(4)(x[:1])", ValueError, ("(1, 4)", "layer.eval()")),
    Refusal("BatchNorm1d(4)(x.double())", TypeError, ("torch.float64", "input.to(torch.float32)")),
    Refusal("BatchNorm1d(4)(x.long())", TypeError, ("torch.int64", "input.float()")),
    Refusal("BatchNorm2d(3)(torch.zeros(3, 8, 8))", ValueError, ("(3, 8, 8)", "(m, d, p, q)")),
    Refusal("BatchNorm3d(3)(torch.zeros(2, 3, 8, 8))", ValueError, ("(m, d, o, p, q)",)),
    Refusal(
        "BatchNorm1d(4, track_running_stats=False).inference_map()",
        ValueError,
        ("no running statistics", "track_running_stats=True"),
    ),
    Refusal("GhostBatchNorm(4, 0)", ValueError, ("ghost_batch_size is 0",)),
    Refusal("GhostBatchNorm(4, 7)(x)", ValueError, ("ghost_batch_size = 7", "divisor")),
    Refusal("BatchRenorm(4, r_max=0.5)", ValueError, ("r_max is 0.5", "at least 1")),
    Refusal("BatchRenorm(4, d_max=-1.0)", ValueError, ("d_max is -1.0", "at least 0")),
    Refusal("InstanceNorm(4)(x)", ValueError, ("(8, 4)", "(m, d, l)")),
    Refusal("InstanceNorm(4)(torch.zeros(8, 4, 1))", ValueError, ("1 position", "LayerNorm")),
    Refusal("GroupNorm(3, 4)", ValueError, ("num_channels is 4", "num_groups = 3")),
    Refusal("LayerNorm([])", ValueError, ("normalized_shape is []",)),
    Refusal("LayerNorm(3)(x)", ValueError, ("(8, 4)", "normalized_shape = (3,)")),
    Refusal("RMSNorm(4, eps=-1.0)", ValueError, ("eps is -1.0", "positive")),
)

WHITENING = (
    Refusal("center(x[:1])", ValueError, ("(1, 4)", "larger batch")),
    Refusal("batch_covariance(x[:0])", ValueError, ("(0, 4)", "not empty")),
    Refusal("whiten_zca(torch.eye(4)[:3], eps=0.0)", ValueError, ("m = 3", "rank 2", "eps > 0")),
    Refusal("whiten_zca(x, eps=-1.0)", ValueError, ("eps is -1.0", "not negative")),
    Refusal("whiten_zca(x + nan)", ValueError, ("32 of the 32 values", "not finite")),
    Refusal("whiten_zca(1e30 * torch.eye(4))", ValueError, ("overflows", "x.double()")),
    Refusal("whiten_cholesky(torch.zeros(64))", ValueError, ("(64,)", "x.unsqueeze(0)")),
)

SURGERY = (
    Refusal("population_statistics(model, [])", ValueError, ("no examples", "at least one")),
    Refusal("population_statistics(model, x)", TypeError, ("a tensor of shape (8, 4)", "[x]")),
    Refusal("population_statistics(model, iter([x]))", TypeError, ("only once", "list(batches)")),
    Refusal("population_statistics(model, [{'x': x}])", TypeError, ("batch 0 is a dict",)),
    Refusal("population_statistics(model, [x + nan])", ValueError, ("'1'", "batch 0")),
    Refusal("population_statistics(nn.Linear(4, 4), [x])", ValueError, ("no batch normaliz",)),
    Refusal(
        "recalibrate(nn.BatchNorm1d(4, track_running_stats=False), [x])",
        ValueError,
        ("no running statistics", "population_statistics"),
    ),
    Refusal("fold(Branching(), x)", ValueError, ("cannot trace", "Fold the parts")),
    Refusal("fold(model, None)", TypeError, ("example is a NoneType",)),
    Refusal("convert(nn.Linear(4, 4), from_torch)", ValueError, ("no batch normaliz", "kinds")),
    Refusal("convert(model, lambda old: 5)", TypeError, ("returned an int", "'1'")),
    Refusal("from_torch(nn.Linear(4, 4))", TypeError, ("Linear", "no counterpart")),
)


def meet(refusal: Refusal) -> str:
    """Give the package the bad input and return what it says; a lack of refusal is an error."""
    try:
        eval(refusal.code, dict(names()))
    except refusal.error as error:
        return str(error)
    raise AssertionError(f"{refusal.code} was not refused")


def every() -> Iterator[tuple[str, tuple[Refusal, ...]]]:
    """The rows, by the module that refuses them."""
    yield "algorithms", ALGORITHMS
    yield "layers", LAYERS
    yield "whitening", WHITENING
    yield "surgery", SURGERY
