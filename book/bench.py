"""The speed table: `python -m book.bench` measures, prints and stores it in results/bench.json.

Times on one machine are noisy, so what is compared is measured in turns, and a row gives the median
of the ratios of neighbours in time.
"""

import statistics
import sys
import time
from collections.abc import Callable
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


def forward_and_backward(
    function: Callable[[Tensor, Tensor, Tensor], Tensor], shape: tuple[int, ...]
) -> Callable[[], None]:
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


def row(shape: tuple[int, ...]) -> dict[str, Any]:
    """Median times, and median ratios to torch, of one shape."""
    calls = {
        name: forward_and_backward(function, shape)
        for name, function in (("torch", torchs), ("bn_core", batch_norm), ("composed", composed))
    }
    for call in calls.values():
        call()
    count = {name: max(1, int(SECONDS / seconds(call, 3))) for name, call in calls.items()}
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(REPEATS):
        for name, call in calls.items():
            times[name].append(seconds(call, count[name]))
    return {
        "shape": list(shape),
        "microseconds": {n: round(1e6 * statistics.median(t), 1) for n, t in times.items()},
        "ratio_to_torch": {
            name: round(
                statistics.median(a / b for a, b in zip(taken, times["torch"], strict=True)), 2
            )
            for name, taken in times.items()
        },
    }


def main() -> int:
    """Measure, print and store the table."""
    print(f"{'shape':<20}{'torch us':>10}{'bn_core':>10}{'composed':>10}   (times torch's)")
    rows = []
    for shape in SHAPES:
        rows.append(row(shape))
        ratios = rows[-1]["ratio_to_torch"]
        print(
            f"{shape!s:<20}{rows[-1]['microseconds']['torch']:>10}"
            f"{ratios['bn_core']:>9}x{ratios['composed']:>9}x",
            flush=True,
        )
    records.save(
        RESULT,
        {
            "experiment": "bench",
            "what": "batch_norm, forward and backward, eager, float32, training",
            "threads": torch.get_num_threads(),
            "rows": rows,
            **records.environment(),
        },
    )
    print(f"{RESULT} written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
