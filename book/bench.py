"""The speed tables: `python -m book.bench` measures, prints and stores them in results/bench.json.

Times on one machine are noisy, so what is compared is measured in turns, and a ratio is the median
over the turns of neighbours in time.
"""

import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bn_core import batch_norm
from bn_core.experiments import records

SHAPES = [(60, 100), (256, 1024), (4096, 512), (32, 64, 28, 28), (32, 64, 56, 56)]
REPEATS = 15
SECONDS = 0.05  # of calls to time together: one call can be shorter than the clock is fine
RESULT = Path("results/bench.json")

# What is compared with torch's function, in the order of the table's columns.
COLUMNS = ("bn_core", "bn_core compiled", "torch compiled", "composed", "nothing")

Normalization = Callable[[Tensor, Tensor, Tensor], Tensor]


def composed(x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    """Batch normalization as many write it: mean and variance, and autograd does the rest."""
    axes = [axis for axis in range(x.dim()) if axis != 1]
    shape = [1, -1, *[1] * (x.dim() - 2)]
    mu = x.mean(axes, keepdim=True)
    var = ((x - mu) ** 2).mean(axes, keepdim=True)
    return (x - mu) / torch.sqrt(var + 1e-5) * gamma.view(shape) + beta.view(shape)


def torchs(x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    """Torch's own, in training."""
    return F.batch_norm(x, None, None, gamma, beta, training=True)


class _Nothing(torch.autograd.Function):
    """An autograd function that computes nothing: what Python alone costs at every call."""

    @staticmethod
    def forward(x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
        return torch.empty_like(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, gamma, beta = ctx.saved_tensors
        return torch.empty_like(x), torch.empty_like(gamma), torch.empty_like(beta)


def nothing(x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    """The floor of an autograd function written in Python."""
    return _Nothing.apply(x, gamma, beta)  # type: ignore[no-any-return, no-untyped-call]


def forward_and_backward(function: Normalization, shape: tuple[int, ...]) -> Callable[[], None]:
    """One call of the function and of its gradient, ready to be timed."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=generator, requires_grad=True)
    gamma = torch.ones(shape[1], requires_grad=True)
    beta = torch.zeros(shape[1], requires_grad=True)
    dy = torch.randn(shape, generator=generator)

    def call() -> None:
        torch.autograd.grad(function(x, gamma, beta), (x, gamma, beta), dy)

    return call


def seconds(call: Callable[[], None], calls: int) -> float:
    """Seconds that one of `calls` calls in a row takes."""
    started = time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - started) / calls


def in_turns(calls: Mapping[str, Callable[[], None]]) -> dict[str, list[float]]:
    """Seconds a call, for each of the calls, `REPEATS` times in turns."""
    for call in calls.values():
        for _ in range(3):
            call()
    count = {name: max(1, int(SECONDS / seconds(call, 3))) for name, call in calls.items()}
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(REPEATS):
        for name, call in calls.items():
            times[name].append(seconds(call, count[name]))
    return times


def ratios(times: Mapping[str, list[float]], to: str) -> dict[str, float]:
    """Median over the turns of each time over that of the one named."""
    return {
        name: round(statistics.median(a / b for a, b in zip(taken, times[to], strict=True)), 2)
        for name, taken in times.items()
    }


def batch_norm_row(shape: tuple[int, ...]) -> dict[str, Any]:
    """Median times, and median ratios to torch's function, of one shape."""
    torch._dynamo.reset()  # each shape compiled for itself
    functions: dict[str, Normalization] = {
        "torch": torchs,
        "bn_core": batch_norm,
        "bn_core compiled": torch.compile(batch_norm, fullgraph=True, dynamic=False),
        "torch compiled": torch.compile(torchs, fullgraph=True, dynamic=False),
        "composed": composed,
        "nothing": nothing,
    }
    times = in_turns({name: forward_and_backward(f, shape) for name, f in functions.items()})
    return {
        "shape": list(shape),
        "microseconds": {n: round(1e6 * statistics.median(t), 1) for n, t in times.items()},
        "ratio_to_torch": ratios(times, "torch"),
    }


def main() -> int:
    """Measure, print and store the tables, on all cores."""
    torch.set_num_threads(os.cpu_count() or 1)
    print(f"{'batch_norm, times torch':<24}" + "".join(f"{name:>18}" for name in COLUMNS))
    rows = []
    for shape in SHAPES:
        row = batch_norm_row(shape)
        rows.append(row)
        print(
            f"{shape!s:<24}"
            + "".join(f"{row['ratio_to_torch'][name]:>17}x" for name in COLUMNS)
            + f"   (torch {row['microseconds']['torch']:.0f} us)",
            flush=True,
        )
    records.save(
        RESULT,
        {
            "experiment": "bench",
            "what": "batch_norm, forward and backward, float32, training",
            "threads": torch.get_num_threads(),
            "rows": rows,
            **records.environment(),
        },
    )
    print(f"{RESULT} written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
