"""One training loop for every experiment of the book."""

import math
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass
class Training:
    """What a run of `train` leaves behind, beside the trained model.

    Attributes:
        steps: the steps at which `watch` was called, ascending.
        losses: mean training loss over the steps since the entry before; at step 0, NaN.
        diverged_at: the step at which the loss was no longer finite, or None.
    """

    steps: list[int] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    diverged_at: int | None = None


def train(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    optimizer: torch.optim.Optimizer,
    *,
    steps: int,
    batch_size: int = 60,
    generator: torch.Generator | None = None,
    watch: Callable[[int], None] | None = None,
    watch_at: Collection[int] = (),
    report: Callable[[int], object] | None = None,
) -> Training:
    """Train a classifier with cross-entropy, one mini-batch a step.

    Args:
        model: maps a batch of images to class scores (m, classes); put into training mode.
        images: training examples, (n, ...).
        labels: their classes, (n,), int64.
        optimizer: of the model's parameters.
        steps: number of mini-batches to train on.
        batch_size: examples in a mini-batch, at most n. Each epoch is a new random order, and the
            examples that do not fill a last batch wait for the next epoch's order.
        generator: source of the orders.
        watch: called with the number of steps done, before the first step (0) and after, at each
            of `watch_at`. It may evaluate the model: training mode is set again afterwards.
        watch_at: the steps at which to call it, each in [0, steps].
        report: called with the number of steps done after every step, for a progress bar.

    Returns:
        Steps and losses at each of `watch_at`. When the loss is no longer finite, training stops
        there and `diverged_at` says where; what was measured before is kept.

    Raises:
        ValueError: batch_size or an entry of watch_at is out of range.
    """
    if not 1 <= batch_size <= len(images):
        raise ValueError(
            f"train: batch_size is {batch_size}; with {len(images)} examples it must be in "
            f"[1, {len(images)}]"
        )
    if watch_at and not 0 <= min(watch_at) <= max(watch_at) <= steps:
        raise ValueError(
            f"train: watch_at has steps from {min(watch_at)} to {max(watch_at)}; they must be in "
            f"[0, {steps}]"
        )
    stops = frozenset(watch_at)
    record = Training()
    losses: list[float] = []  # since the last stop

    def stop(step: int) -> None:
        record.steps.append(step)
        record.losses.append(sum(losses) / len(losses) if losses else math.nan)
        losses.clear()
        if watch is not None:
            watch(step)
            model.train()

    model.train()
    if 0 in stops:
        stop(0)
    order = batches(len(images), batch_size, generator)
    for step in range(1, steps + 1):
        index = next(order)
        # index_select copies whole rows: ten times faster here than images[index]
        batch = images.index_select(0, index)
        loss = F.cross_entropy(model(batch), labels.index_select(0, index))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if not math.isfinite(losses[-1]):
            record.diverged_at = step
            break
        if step in stops:
            stop(step)
        if report is not None:
            report(step)
    return record


def batches(n: int, batch_size: int, generator: torch.Generator | None = None) -> Iterator[Tensor]:
    """Yield index tensors of mini-batches for ever, in a new random order each epoch.

    Args:
        n: number of examples.
        batch_size: examples in a mini-batch, at most n.
        generator: source of the orders.

    Yields:
        (batch_size,) int64; within an epoch no index twice, the incomplete last batch left out.
    """
    while True:
        order = torch.randperm(n, generator=generator)
        yield from order[: n - n % batch_size].split(batch_size)


@torch.no_grad()
def predict(model: nn.Module, images: Tensor, batch_size: int = 10_000) -> Tensor:
    """Class scores in evaluation mode, each module's own mode restored afterwards.

    Args:
        model: maps (m, ...) to (m, classes).
        images: (n, ...).
        batch_size: examples that go through at once.

    Returns:
        (n, classes).
    """
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        return torch.cat([model(part) for part in images.split(batch_size)])
    finally:
        for module, mode in modes.items():
            module.training = mode


def accuracy(scores: Tensor, labels: Tensor) -> float:
    """Share of examples whose highest score is their class's, in [0, 1].

    Args:
        scores: (n, classes).
        labels: (n,), int64.
    """
    return (scores.argmax(1) == labels).float().mean().item()
