"""The speed tables: `python -m book.bench` measures, prints and stores them in results/bench.json.

Times on one machine are noisy, so what is compared is measured in turns, and a ratio is the median
over the turns of neighbours in time.
"""

import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bn_core import BatchNorm1d, batch_norm
from bn_core.experiments import records
from bn_core.lab.data import load
from bn_core.lab.models import figure1_network
from bn_core.lab.probes import Recorder
from bn_core.lab.stack import Stack
from bn_core.lab.training import accuracy, predict, train_stack

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


SEEDS = 8
BATCH = 60
STEPS = 25  # of training, timed together


class Composed1d(nn.Module):
    """`composed` as a layer."""

    mean: Tensor
    var: Tensor

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(num_features))
        self.beta = nn.Parameter(torch.zeros(num_features))
        self.register_buffer("mean", torch.zeros(num_features))
        self.register_buffer("var", torch.ones(num_features))

    def forward(self, x: Tensor) -> Tensor:
        """Normalize (m, d), and follow the statistics."""
        if not self.training:
            y: Tensor = (x - self.mean) / torch.sqrt(self.var + 1e-5) * self.gamma + self.beta
            return y
        with torch.no_grad():
            self.mean += 0.1 * (x.mean(0) - self.mean)
            self.var += 0.1 * (x.var(0) - self.var)
        return composed(x, self.gamma, self.beta)


def plain_loop(
    model: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, labels: Tensor, batch: int
) -> Callable[[int], None]:
    """The loop of a usual notebook: shuffled indices, one network."""

    def steps(number: int) -> None:
        model.train()
        order = torch.randperm(len(images))
        for i in range(number):
            index = order[i * batch : (i + 1) * batch]
            # index_select, as our loop does: images[index] would be much slower
            x, target = images.index_select(0, index), labels.index_select(0, index)
            loss = F.cross_entropy(model(x), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return steps


def bare_products(stack: int, batch: int, widths: Sequence[int]) -> Callable[[], None]:
    """The matrix products of one step of fully connected networks, forward and backward, no more.

    Args:
        stack: networks.
        batch: examples in the mini-batch of each.
        widths: units of each layer, from the inputs to the outputs.
    """
    inputs = [torch.randn(stack, batch, n) for n in widths[:-1]]
    weights = [torch.randn(stack, a, b) for a, b in zip(widths[1:], widths[:-1], strict=True)]
    gradients = [torch.randn(stack, batch, n) for n in widths[1:]]

    def step() -> None:
        for layer, (x, w, dy) in enumerate(zip(inputs, weights, gradients, strict=True)):
            torch.bmm(x, w.mT)
            torch.bmm(dy.mT, x)
            if layer:  # nobody asks for the gradient of the images
                torch.bmm(dy, w)

    return step


def seeds_row(norm: bool) -> dict[str, Any]:
    """A step per seed, `SEEDS` seeds at once, over a step of a plain loop; and the floor."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(4000, 28, 28, generator=generator)
    labels = torch.randint(10, (4000,), generator=generator)
    plain = figure1_network(nn.BatchNorm1d if norm else None)
    loop = plain_loop(plain, torch.optim.SGD(plain.parameters(), lr=0.1), images, labels, BATCH)
    stack = Stack([figure1_network(BatchNorm1d if norm else None) for _ in range(SEEDS)])
    optimizer = torch.optim.SGD(stack.parameters(), lr=0.1)
    orders = [torch.Generator().manual_seed(seed) for seed in range(SEEDS)]
    products = bare_products(SEEDS, BATCH, (784, 100, 100, 100, 10))

    def at_once() -> None:
        train_stack(
            stack, images, labels, optimizer, steps=STEPS, batch_size=BATCH, generators=orders
        )

    def floor() -> None:
        for _ in range(STEPS):
            products()

    times = in_turns({"plain loop": lambda: loop(STEPS), "stack": at_once, "products": floor})
    for name, of in (("plain loop", 1), ("stack", SEEDS), ("products", SEEDS)):
        times[name] = [t / STEPS / of for t in times[name]]
    to_stack = ratios(times, "stack")
    return {
        "what": f"step per seed, {SEEDS} seeds at once, {'with' if norm else 'without'} BN",
        "milliseconds": {n: round(1e3 * statistics.median(t), 3) for n, t in times.items()},
        "plain_loop_over_ours": to_stack["plain loop"],
        "ours_over_bare_products": round(1 / to_stack["products"], 2),
    }


def epoch_row() -> dict[str, Any]:
    """An epoch of 784-128-10 on 50,000 digits, batch 64, Adam, and the accuracy after it."""
    digits = load("mnist")
    images, labels = digits.train_images[:50_000], digits.train_labels[:50_000]
    steps = len(images) // 64

    def network(norm: Callable[[int], nn.Module], seed: int) -> nn.Sequential:
        torch.manual_seed(seed)
        layers = (nn.Flatten(), nn.Linear(784, 128), norm(128), nn.ReLU(), nn.Linear(128, 10))
        return nn.Sequential(*layers)

    products = bare_products(1, 64, (784, 128, 10))
    times: dict[str, list[float]] = {"plain loop": [], "ours": [], "products": []}
    scores: dict[str, list[float]] = {"plain loop": [], "ours": []}
    for seed in range(5):
        plain = network(Composed1d, seed)
        loop = plain_loop(plain, torch.optim.Adam(plain.parameters()), images, labels, 64)
        stack = Stack([network(BatchNorm1d, seed)])
        # One kernel for the whole update in place of a dozen operations.
        optimizer = torch.optim.Adam(stack.parameters(), fused=True)
        order = [torch.Generator().manual_seed(seed)]
        started = time.perf_counter()
        loop(steps)
        between = time.perf_counter()
        train_stack(stack, images, labels, optimizer, steps=steps, batch_size=64, generators=order)
        ended = time.perf_counter()
        for _ in range(steps):
            products()
        times["products"].append(time.perf_counter() - ended)
        times["plain loop"].append(between - started)
        times["ours"].append(ended - between)
        for name, model in (("plain loop", plain), ("ours", stack.unstack(0))):
            scores[name].append(accuracy(predict(model, digits.test_images), digits.test_labels))
    return {
        "what": "epoch of 784-128-10 with BN, batch 64, Adam, 50,000 digits",
        "seconds": {n: round(statistics.median(t), 2) for n, t in times.items()},
        "plain_loop_over_ours": ratios(times, "ours")["plain loop"],
        "ours_over_bare_products": ratios(times, "products")["ours"],
        "test_accuracy": {n: [round(a, 4) for a in score] for n, score in scores.items()},
    }


RECORD_EVERY = 50
RECORDS = 10  # in one run


def recorder_row() -> dict[str, Any]:
    """Steps of the Figure 1 network with a `Recorder` around them, over the same steps without."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(60 * BATCH, 28, 28, generator=generator)
    labels = torch.randint(10, (60 * BATCH,), generator=generator)
    model = figure1_network(nn.BatchNorm1d)
    loop = plain_loop(model, torch.optim.SGD(model.parameters(), lr=0.1), images, labels, BATCH)

    def alone() -> None:
        for _ in range(RECORDS):
            loop(RECORD_EVERY)

    def recorded() -> None:
        with Recorder(model, every=RECORD_EVERY):
            alone()

    times = in_turns({"alone": alone, "recorded": recorded})
    return {
        "what": f"step of the Figure 1 network with BN, every {RECORD_EVERY}th recorded",
        "milliseconds": {
            name: round(1e3 * statistics.median(taken) / RECORD_EVERY / RECORDS, 3)
            for name, taken in times.items()
        },
        "overhead": round(ratios(times, "alone")["recorded"] - 1, 2),
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
    training = [seeds_row(norm=False), seeds_row(norm=True)]
    for row in training:
        print(
            f"{row['what']}: plain loop / ours {row['plain_loop_over_ours']}x, "
            f"ours / bare products {row['ours_over_bare_products']}x   {row['milliseconds']} ms",
            flush=True,
        )
    epoch = epoch_row()
    print(
        f"{epoch['what']}: plain loop / ours {epoch['plain_loop_over_ours']}x   "
        f"{epoch['seconds']} s, test accuracy {epoch['test_accuracy']}",
        flush=True,
    )
    recorder = recorder_row()
    print(f"{recorder['what']}: overhead {100 * recorder['overhead']:.0f} %")
    records.save(
        RESULT,
        {
            "experiment": "bench",
            "training": training,
            "epoch": epoch,
            "recorder": recorder,
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
