"""One training loop for every experiment of the book, for one network or for several at once.

`train` trains any module; `train_stack` trains the networks of a `bn_core.lab.stack.Stack`, each on
its own order of batches. Both are the same loop, and a network trained in a stack takes the steps
that it takes alone, but for rounding.

What is the same again: with equal seeds, on one machine, with one version of torch and one number
of threads, a run has the same bits each time, and a run that was interrupted and resumed has the
bits of one that was not. Another machine, device, version or number of threads, or other networks
in the stack, may sum in another order: there the numbers agree to rounding, and rounding grows over
many steps. On CUDA, add `torch.use_deterministic_algorithms(True)`.
"""

import itertools
import math
import operator
import os
import signal
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from bn_core.lab import checkpoint as checkpoints
from bn_core.lab.stack import Stack

# Losses stay on the device for that many steps at most: to look at one, the CPU has to wait for it.
LOOK_EVERY = 100


@dataclass
class Training:
    """What was measured while one network was trained.

    Attributes:
        steps: the steps at which `watch` was called, ascending.
        losses: mean training loss over the steps since the entry before; at step 0, NaN.
        measured: what `watch` returned at each of `steps`, a list for each name. Tensors and arrays
            become NumPy arrays, those of no axis numbers.
        diverged_at: the first step whose loss was not finite, or None. Nothing is measured from
            there on, and the network is of no use.
    """

    steps: list[int] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    measured: dict[str, list[Any]] = field(default_factory=dict)
    diverged_at: int | None = None


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during training; what was measured until then is in `trainings`.

    Attributes:
        trainings: one for each network.
    """

    def __init__(self, message: str, trainings: list[Training]) -> None:
        super().__init__(message, trainings)
        self.trainings = trainings

    def __str__(self) -> str:
        return str(self.args[0])


def train(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    optimizer: torch.optim.Optimizer,
    *,
    steps: int,
    batch_size: int = 60,
    generator: torch.Generator | None = None,
    watch: Callable[[int], Mapping[str, Any] | None] | None = None,
    watch_at: Collection[int] = (),
    schedule: Callable[[int], object] | None = None,
    report: Callable[[int], object] | None = None,
    progress: str | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_seconds: float = 60.0,
) -> Training:
    """Train a classifier with cross-entropy, one mini-batch a step.

    Everything happens on the device that the model and the examples are on.

    Ctrl-C ends training after the step it falls into, and at once when it comes twice. The
    exception, `Interrupted`, carries what was measured::

        try:
            training = train(model, ...)
        except Interrupted as stop:
            training = stop.trainings[0]

    With a `checkpoint`, the state is stored in that file every now and then, after Ctrl-C and at
    the end. The same call with the same file, the model and optimizer made anew as they were,
    continues from there, also after the process was killed. The file stays when training is done:
    the same call then returns what was measured without training again.

    Args:
        model: maps a batch of images to class scores (m, classes); put into training mode.
        images: training examples, (n, ...).
        labels: their classes, (n,), int64. As in `F.cross_entropy`, -100 is no class, and such an
            example does not count.
        optimizer: of the model's parameters, some of which are to be trained. It takes a step from
            the gradients alone, unlike LBFGS.
        steps: number of mini-batches to train on.
        batch_size: examples in a mini-batch, at most n. Each epoch is a new random order, and the
            examples that do not fill a last batch wait for the next epoch's order.
        generator: source of the orders; without one, torch's global generator.
        watch: called with the number of steps done, before the first step (0) and after, at each
            of `watch_at`. What it returns, values by name, is kept in the record; the same names
            each time. It may evaluate the model: training mode is set again afterwards.
        watch_at: the steps at which to call it, each in [0, steps]; not empty with `watch`.
        schedule: called before every step with its number, from 1. It may set the optimizer's
            learning rate or an attribute of a layer, by that number alone, so that a resumed
            training does the same.
        report: called with the number of steps done after every step, for a progress bar of one's
            own.
        progress: label of a progress bar on stderr, with the loss and the time left; None for none.
        checkpoint: file to store the state in; None for none.
        checkpoint_seconds: seconds between one time and the next; not negative, and 0 for every
            step.

    Returns:
        Steps, losses and what was measured at each of `watch_at`. When the loss is no longer
        finite, training stops within a hundred steps and `diverged_at` says where it was; what was
        measured before is kept.

    Raises:
        ValueError: an argument is out of range; images and labels do not fit together, or the
            model's scores and the labels; the optimizer is of another model; or all parameters are
            frozen. What the model itself raises, of images that it does not take, comes as it is,
            with a note of the step and the batch.
        TypeError: model is a Stack; an argument or what the model returns is of another type; or
            `watch` returned what cannot be kept.
        bn_core.lab.checkpoint.CheckpointError: the file is damaged, or of another run.
        Interrupted: Ctrl-C.
    """
    if isinstance(model, Stack):
        raise TypeError("train: model is a Stack of networks; use train_stack")

    def advance(batch: Tensor, targets: Tensor) -> Tensor:
        loss = _loss(model(batch[0]), targets[0])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach().view(1)

    def watch_one(step: int) -> list[Mapping[str, Any] | None]:
        assert watch is not None
        return [watch(step)]

    [training] = _Loop(
        function="train",
        model=model,
        images=images,
        labels=labels,
        optimizer=optimizer,
        advance=advance,
        generators=[torch.default_generator if generator is None else generator],
        steps=steps,
        batch_size=batch_size,
        watch=None if watch is None else watch_one,
        watch_at=watch_at,
        schedule=schedule,
        report=report,
        progress=progress,
        checkpoint=checkpoint,
        checkpoint_seconds=checkpoint_seconds,
    ).run()
    return training


def train_stack(
    stack: Stack,
    images: Tensor,
    labels: Tensor,
    optimizer: torch.optim.Optimizer,
    *,
    steps: int,
    generators: Sequence[torch.Generator],
    batch_size: int = 60,
    watch: Callable[[int], Sequence[Mapping[str, Any] | None]] | None = None,
    watch_at: Collection[int] = (),
    schedule: Callable[[int], object] | None = None,
    report: Callable[[int], object] | None = None,
    progress: str | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_seconds: float = 60.0,
) -> list[Training]:
    """Train the S networks of a stack at once, each as `train` would train it alone.

    Arguments that are not listed are those of `train`.

    Args:
        stack: the networks; put into training mode.
        images: training examples, (n, ...), the same for all.
        labels: their classes, (n,), int64, none negative.
        optimizer: of the stack's parameters. It must treat every number by itself, as SGD with
            momentum and Adam do.
        steps: number of mini-batches to train each network on.
        generators: source of the orders, one for each network.
        batch_size: examples in a network's mini-batch.
        watch: as for `train`, but returns a sequence: values by name for each network. The networks
            by themselves are `stack.unstack(s)`.
        watch_at: as for `train`.
        schedule: as for `train`; the layers are in `stack.network`.
        report: as for `train`.
        progress: as for `train`; the loss is the mean over the networks.
        checkpoint: as for `train`.
        checkpoint_seconds: as for `train`.

    Returns:
        What was measured, one for each network. A network that diverges does not disturb the
        others; training stops early only when all have diverged.

    Raises:
        ValueError: as `train`; or there are not S generators, or one serves two networks.
        TypeError: as `train`; or stack is not a Stack.
        bn_core.lab.checkpoint.CheckpointError: as `train`.
        Interrupted: Ctrl-C.
    """
    if not isinstance(stack, Stack):
        raise TypeError(f"train_stack: stack is a {type(stack).__name__}, not a Stack; use train")
    if not isinstance(generators, Sequence):
        raise TypeError(
            f"train_stack: generators is a {type(generators).__name__}; give a list, with a "
            "torch.Generator for each network"
        )
    if not len(generators) == len(set(generators)) == len(stack):
        raise ValueError(
            f"train_stack: there are {len(set(generators))} different generators for {len(stack)} "
            "networks; give each its own"
        )

    def advance(batch: Tensor, targets: Tensor) -> Tensor:
        losses = stack.backward(batch, targets)
        optimizer.step()
        return losses

    return _Loop(
        function="train_stack",
        model=stack,
        images=images,
        labels=labels,
        optimizer=optimizer,
        advance=advance,
        generators=generators,
        steps=steps,
        batch_size=batch_size,
        watch=watch,
        watch_at=watch_at,
        schedule=schedule,
        report=report,
        progress=progress,
        checkpoint=checkpoint,
        checkpoint_seconds=checkpoint_seconds,
    ).run()


@dataclass
class _Loop:
    """The loop, over S networks: S = 1 for `train`.

    `advance` takes one step with the batches (S, m, ...) and labels (S, m) and returns the losses
    (S,); `watch` returns S mappings. The rest is as for `train`.
    """

    function: str  # that was called, for messages
    model: nn.Module
    images: Tensor
    labels: Tensor
    optimizer: torch.optim.Optimizer
    advance: Callable[[Tensor, Tensor], Tensor]
    generators: Sequence[torch.Generator]
    steps: int
    batch_size: int
    watch: Callable[[int], Sequence[Mapping[str, Any] | None]] | None
    watch_at: Collection[int]
    schedule: Callable[[int], object] | None
    report: Callable[[int], object] | None
    progress: str | None
    checkpoint: str | os.PathLike[str] | None
    checkpoint_seconds: float

    def __post_init__(self) -> None:
        self._check()
        self._file = None if self.checkpoint is None else Path(self.checkpoint)
        self._orders = _Orders(len(self.images), self.batch_size, self.generators)
        self._done = 0  # steps
        self._trainings = [Training() for _ in self.generators]
        # Of each network, sum and number of the losses since the last stop.
        self._sums = [0.0] * len(self.generators)
        self._counts = [0] * len(self.generators)
        self._unseen: list[tuple[int, Tensor]] = []  # steps and losses, still on the device

    def run(self) -> list[Training]:
        run = {} if self._file is None else self._identity()
        resumed = self._file is not None and self._file.exists()
        if resumed:
            self._resume(run)
        bar = tqdm(
            total=self.steps,
            initial=self._done,
            desc=self.progress,
            disable=self.progress is None,
            unit="step",
            leave=False,
        )
        try:
            with bar, _ctrl_c_postponed() as asked_to_stop:
                self._run(run, resumed, bar, asked_to_stop)
        except KeyboardInterrupt:
            self._look()
            message = f"{self.function}: interrupted after step {self._done} of {self.steps}"
            raise Interrupted(message, self._trainings) from None
        return self._trainings

    def _run(
        self, run: Mapping[str, str], resumed: bool, bar: Any, asked_to_stop: Callable[[], bool]
    ) -> None:
        stored = shown = time.monotonic()
        self.model.train()
        if 0 in self._stops and not resumed:
            self._stop()
        while self._done < self.steps and not self._all_diverged() and not asked_to_stop():
            if self.schedule is not None:
                self.schedule(self._done + 1)
            images, labels = self._batches()
            try:
                losses = self.advance(images, labels)
            except Exception as e:
                e.add_note(
                    f"{self.function}: in step {self._done + 1}, with a batch of "
                    f"{tuple(images.shape[1:])}, {images.dtype}"
                )
                raise
            self._done += 1
            self._unseen.append((self._done, losses))
            if len(self._unseen) == LOOK_EVERY:
                self._look()
            if self._done in self._stops:
                self._stop()
            if self.report is not None:
                self.report(self._done)
            bar.update()
            now = time.monotonic()
            if self.progress is not None and now - shown > 0.5:
                shown = now
                self._look()
                bar.set_postfix_str(f"loss {self._mean_loss():.4f}")
            if now - stored >= self.checkpoint_seconds:
                self._store(run)
                stored = time.monotonic()
        self._look()
        self._store(run)

    def _batches(self) -> tuple[Tensor, Tensor]:
        index = self._orders.next().to(self.images.device)
        flat = index.flatten()
        # index_select copies whole rows: ten times faster here than images[index]
        images = self.images.index_select(0, flat).view(*index.shape, *self.images.shape[1:])
        return images, self.labels.index_select(0, flat).view(index.shape)

    def _look(self) -> None:
        """Fetch the losses that were not looked at yet, and see whose are no longer finite."""
        if not self._unseen:
            return
        steps, losses = zip(*self._unseen, strict=True)
        self._unseen = []
        for step, row in zip(steps, torch.stack(losses).tolist(), strict=True):
            for s, loss in enumerate(row):
                training = self._trainings[s]
                if training.diverged_at is None and not math.isfinite(loss):
                    training.diverged_at = step
                self._sums[s] += loss
                self._counts[s] += 1

    def _stop(self) -> None:
        """Record losses and measurements of the networks that have not diverged."""
        self._look()
        if self._all_diverged():
            return
        measured: Sequence[Mapping[str, Any] | None] = [None] * len(self._trainings)
        if self.watch is not None:
            measured = self.watch(self._done)
            self.model.train()
            self._check_measured(measured)
        for s, training in enumerate(self._trainings):
            if training.diverged_at is not None:
                continue
            for name, value in (measured[s] or {}).items():
                training.measured.setdefault(name, []).append(self._kept(name, value))
            training.steps.append(self._done)
            training.losses.append(self._sums[s] / self._counts[s] if self._counts[s] else math.nan)
            self._sums[s], self._counts[s] = 0.0, 0

    def _kept(self, name: str, value: Any) -> Any:
        """A value as the record keeps it: a copy that neither holds nor shares device memory."""
        kept, kind = value, type(value).__name__
        if isinstance(value, (Tensor, np.ndarray)):
            kind += f" of {value.dtype}"
        try:
            if isinstance(kept, Tensor):
                kept = kept.float() if kept.dtype == torch.bfloat16 else kept
                kept = kept.numpy(force=True)
            if isinstance(kept, (np.ndarray, np.generic)) and kept.ndim == 0:
                kept = kept.item()
            if kept is None or isinstance(kept, (bool, int, float, str)):
                return kept
            if isinstance(kept, np.ndarray) and kept.dtype.kind in "biufc":
                kept = kept.astype(kept.dtype.newbyteorder("="), order="C")
                torch.from_numpy(kept)  # as a checkpoint will have it
                return kept
        except (RuntimeError, TypeError):  # types and layouts that NumPy or torch does not know
            pass
        raise TypeError(
            f"{self.function}: watch returned a {kind} as {name!r}; it must be a number, a string, "
            "None, a dense tensor or a numeric array, of a type that both torch and NumPy have"
        )

    def _all_diverged(self) -> bool:
        return all(training.diverged_at is not None for training in self._trainings)

    def _mean_loss(self) -> float:
        """Mean over the networks that have not diverged, since the last stop, for the bar."""
        means = [
            total / count
            for total, count, training in zip(
                self._sums, self._counts, self._trainings, strict=True
            )
            if count and training.diverged_at is None
        ]
        return sum(means) / len(means) if means else math.nan

    def _identity(self) -> dict[str, str]:
        """What a checkpoint must have been written with, as text, taken before the first step."""
        settings = [
            {name: value for name, value in group.items() if name != "params"}
            for group in self.optimizer.param_groups
        ]
        return {
            "torch": str(torch.__version__),
            "model": checkpoints.without_addresses(str(self.model)),
            "initial state of the model (checksum)": checkpoints.digest(
                _state(self.model).values()
            ),
            "optimizer": type(self.optimizer).__name__,
            "its settings": checkpoints.without_addresses(str(settings)),
            "steps": str(self.steps),
            "batch_size": str(self.batch_size),
            "watch_at": _listed(sorted(self._stops)),
            "number of examples": str(len(self.images)),
            "examples (checksum)": checkpoints.digest([self.images, self.labels]),
            "state of the generators (checksum)": checkpoints.digest(
                generator.get_state() for generator in self.generators
            ),
        }

    def _store(self, run: Mapping[str, str]) -> None:
        if self._file is None:
            return
        self._look()
        trainings = [
            {
                **vars(training),
                "measured": _converted(training.measured, np.ndarray, torch.from_numpy),
            }
            for training in self._trainings
        ]
        state = {
            "done": self._done,
            "trainings": trainings,
            "sums": self._sums,
            "counts": self._counts,
            "model": _state(self.model),
            "optimizer": self.optimizer.state_dict(),
            "orders": self._orders.state(),
            "global generators": _global_generators(self.images.device),
        }
        checkpoints.write(self._file, run, state)

    def _resume(self, run: Mapping[str, str]) -> None:
        assert self._file is not None
        state = checkpoints.read(self._file, run)
        self._done = state["done"]
        self._sums, self._counts = state["sums"], state["counts"]
        for training, stored in zip(self._trainings, state["trainings"], strict=True):
            vars(training).update(stored)
            training.measured = _converted(training.measured, Tensor, Tensor.numpy)
        with torch.no_grad():
            for name, tensor in _state(self.model).items():
                tensor.copy_(state["model"][name])
        self.optimizer.load_state_dict(state["optimizer"])
        self._orders.load(state["orders"])
        _set_global_generators(self.images.device, state["global generators"])

    def _check(self) -> None:
        self._check_types()
        function, n = self.function, len(self.images)
        if self.labels.shape != (n,):
            raise ValueError(
                f"{function}: labels has shape {tuple(self.labels.shape)}; with {n} images it must "
                f"be ({n},)"
            )
        if n == 0:
            raise ValueError(f"{function}: there are no examples; give at least one")
        if self.labels.dtype != torch.int64:
            raise TypeError(
                f"{function}: labels has dtype {self.labels.dtype}; classes are int64. Use "
                "labels.long()"
            )
        if isinstance(self.model, Stack) and self.labels.min() < 0:
            raise ValueError(
                f"{function}: labels has {self.labels.min()}; each must be a class, in [0, classes)"
            )
        if self.steps < 0:
            raise ValueError(f"{function}: steps is {self.steps}; it must be at least 0")
        if not 1 <= self.batch_size <= n:
            raise ValueError(
                f"{function}: batch_size is {self.batch_size}; with {n} examples it must be in "
                f"[1, {n}]"
            )
        if self._stops and not 0 <= min(self._stops) <= max(self._stops) <= self.steps:
            raise ValueError(
                f"{function}: watch_at has steps from {min(self._stops)} to {max(self._stops)}; "
                f"they must be in [0, {self.steps}]"
            )
        if self.watch is not None and not self._stops:
            raise ValueError(
                f"{function}: watch_at is empty, so that watch would never be called; give the "
                f"steps to call it at, such as [{self.steps}]"
            )
        if not self.checkpoint_seconds >= 0:
            raise ValueError(
                f"{function}: checkpoint_seconds is {self.checkpoint_seconds}; it must be at "
                "least 0"
            )
        devices = {
            "images": self.images.device,
            "labels": self.labels.device,
            **{f"the model's {name}": tensor.device for name, tensor in _state(self.model).items()},
        }
        for name, device in devices.items():
            if device != self.images.device:
                raise ValueError(
                    f"{function}: images is on {self.images.device}, but {name} is on {device}; "
                    "move them to one device with .to(device)"
                )
        trained = {id(p) for group in self.optimizer.param_groups for p in group["params"]}
        if not trained & {id(parameter) for parameter in self.model.parameters()}:
            raise ValueError(
                f"{function}: the optimizer has none of the model's parameters; make it from the "
                "parameters() of the model that is to be trained"
            )
        if not any(parameter.requires_grad for parameter in self.model.parameters()):
            raise ValueError(
                f"{function}: all of the model's parameters are frozen; set requires_grad of those "
                "that are to be trained"
            )

    def _check_types(self) -> None:
        """Types of the arguments; whole numbers become ints."""
        wanted: list[tuple[str, Any, type, str]] = [
            ("model", self.model, nn.Module, "an nn.Module"),
            ("images", self.images, Tensor, "a tensor; use torch.as_tensor(images)"),
            ("labels", self.labels, Tensor, "a tensor; use torch.as_tensor(labels)"),
            ("optimizer", self.optimizer, torch.optim.Optimizer, "a torch.optim.Optimizer"),
        ]
        seeded = "a torch.Generator; use torch.Generator().manual_seed(seed)"
        wanted += [("generator", each, torch.Generator, seeded) for each in self.generators]
        for name, value, kind, what in wanted:
            if not isinstance(value, kind):
                raise TypeError(
                    f"{self.function}: {name} is a {type(value).__name__}; it must be {what}"
                )
        if isinstance(self.optimizer, torch.optim.LBFGS):
            raise TypeError(
                f"{self.function}: optimizer is LBFGS, which needs the loss again within a step; "
                "use one that does not, such as torch.optim.SGD"
            )
        try:
            self.steps, self.batch_size = map(operator.index, (self.steps, self.batch_size))
            self._stops = frozenset(map(operator.index, self.watch_at))
        except TypeError as e:
            raise TypeError(
                f"{self.function}: steps is {self.steps!r}, batch_size {self.batch_size!r} and "
                f"watch_at {self.watch_at!r}; they must be whole numbers, and watch_at a list"
            ) from e

    def _check_measured(self, measured: Sequence[Mapping[str, Any] | None]) -> None:
        is_sequence = isinstance(measured, Sequence) and not isinstance(measured, str)
        for values in measured if is_sequence else [measured]:
            if not is_sequence or not (values is None or isinstance(values, Mapping)):
                raise TypeError(
                    f"{self.function}: watch returned a {type(values).__name__}; it must return "
                    "values by name, a dictionary or None"
                    f"{', for each network in a list' if isinstance(self.model, Stack) else ''}"
                )
        if len(measured) != len(self._trainings):
            raise ValueError(
                f"{self.function}: watch returned {len(measured)} mappings; there are "
                f"{len(self._trainings)} networks, and each needs one"
            )
        for training, values in zip(self._trainings, measured, strict=True):
            names, before = list(values or {}), list(training.measured)
            if training.diverged_at is None and training.steps and set(names) != set(before):
                raise ValueError(
                    f"{self.function}: watch returned {names} at step {self._done}, but {before} "
                    "before; it must return the same names each time"
                )


class _Orders:
    """Random orders of n examples, one for each generator, in batches, epoch after epoch."""

    def __init__(self, n: int, batch_size: int, generators: Sequence[torch.Generator]) -> None:
        self._n = n
        self._batch_size = batch_size
        self._generators = generators
        self._before: list[Tensor] = []  # states of the generators before this epoch
        self._epoch: Tensor | None = None  # (S, n)
        self._position = 0

    def next(self) -> Tensor:
        """The next batch of each order, (S, batch_size) int64."""
        if self._epoch is None or self._position + self._batch_size > self._n:
            self._before = [generator.get_state() for generator in self._generators]
            self._draw()
            self._position = 0
        assert self._epoch is not None
        batch = self._epoch[:, self._position : self._position + self._batch_size]
        self._position += self._batch_size
        return batch

    def state(self) -> dict[str, Any]:
        """All that `load` needs: small, for the order itself is drawn again."""
        now = [generator.get_state() for generator in self._generators]
        return {"before": self._before, "now": now, "position": self._position}

    def load(self, state: dict[str, Any]) -> None:
        self._before, self._position = state["before"], state["position"]
        if self._before:
            self._set_generators(self._before)
            self._draw()
        self._set_generators(state["now"])

    def _draw(self) -> None:
        self._epoch = torch.stack(
            [
                torch.randperm(self._n, generator=generator, device=generator.device)
                for generator in self._generators
            ]
        )

    def _set_generators(self, states: Sequence[Tensor]) -> None:
        for generator, state in zip(self._generators, states, strict=True):
            generator.set_state(state)


def batches(n: int, batch_size: int, generator: torch.Generator | None = None) -> Iterator[Tensor]:
    """Index tensors of mini-batches for ever, in a new random order each epoch.

    Args:
        n: number of examples, at least 1.
        batch_size: examples in a mini-batch, at least 1 and at most n.
        generator: source of the orders.

    Returns:
        An iterator over (batch_size,) int64; within an epoch no index twice, the incomplete last
        batch left out.

    Raises:
        ValueError: batch_size is not in [1, n].
        TypeError: n or batch_size is not an integer.
    """
    n, batch_size = operator.index(n), operator.index(batch_size)
    if not 1 <= batch_size <= n:
        raise ValueError(
            f"batches: batch_size is {batch_size}; with {n} examples it must be in [1, {n}]"
            if n > 0
            else f"batches: n is {n}; it must be at least 1"
        )
    generator = torch.default_generator if generator is None else generator
    orders = _Orders(n, batch_size, [generator])
    return (orders.next()[0] for _ in itertools.count())


@torch.no_grad()
def predict(model: nn.Module, images: Tensor, batch_size: int = 10_000) -> Tensor:
    """Class scores in evaluation mode, each module's own mode restored afterwards.

    Args:
        model: maps (m, ...) to (m, classes).
        images: (n, ...).
        batch_size: examples that go through at once.

    Returns:
        (n, classes).

    Raises:
        ValueError: batch_size is below 1.
    """
    if batch_size < 1:
        raise ValueError(f"predict: batch_size is {batch_size}; it must be at least 1")
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
        scores: (n, classes), n at least 1. Of equal scores the first counts; and of those that are
            NaN, as after divergence, the first counts as the highest.
        labels: (n,), integers.

    Raises:
        ValueError: scores and labels have other shapes, or labels are no integers.
    """
    if scores.dim() != 2 or 0 in scores.shape or labels.shape != scores.shape[:1]:
        raise ValueError(
            f"accuracy: scores has shape {tuple(scores.shape)} and labels "
            f"{tuple(labels.shape)}; they must be (n, classes) and (n,), with n at least 1"
        )
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise ValueError(f"accuracy: labels has dtype {labels.dtype}; classes are integers")
    return (scores.argmax(1) == labels).float().mean().item()


def _loss(scores: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy of scores (m, classes) and labels (m,)."""
    try:
        return F.cross_entropy(scores, labels)
    except Exception as e:
        if not isinstance(scores, Tensor):
            raise TypeError(
                f"train: the model returns a {type(scores).__name__}; it must return a tensor of "
                "class scores"
            ) from e
        if scores.dim() != 2 or len(scores) != len(labels):
            raise ValueError(
                f"train: the model returns scores of shape {tuple(scores.shape)}; with a batch of "
                f"{len(labels)} they must be ({len(labels)}, classes)"
            ) from e
        if "is out of bounds" in str(e):
            raise ValueError(
                f"train: labels has values from {labels.min()} to {labels.max()} in one batch; "
                f"with {scores.shape[1]} scores for each image they must be in "
                f"[0, {scores.shape[1]})"
            ) from e
        raise


@contextmanager
def _ctrl_c_postponed() -> Iterator[Callable[[], bool]]:
    """Note the first Ctrl-C and raise it in the end, so that no step is left half done.

    Yields a function that says whether it came. A second one acts as always. So does the first
    outside the main thread, which gets no signals, and where someone else has decided what Ctrl-C
    does.
    """
    came = False

    def note(_signal: int, _frame: object) -> None:
        nonlocal came
        came = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield lambda: False
        return
    signal.signal(signal.SIGINT, note)
    try:
        yield lambda: came
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if came:
        raise KeyboardInterrupt


def _state(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers, those included that a state_dict leaves out."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def _global_generators(device: torch.device) -> dict[str, Tensor]:
    """States of the generators that layers such as `nn.Dropout` draw from."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        states["mps"] = torch.mps.get_rng_state()
    return states


def _set_global_generators(device: torch.device, states: Mapping[str, Tensor]) -> None:
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and device.type == "cuda":
        torch.cuda.set_rng_state(states["cuda"], device)
    elif "mps" in states and device.type == "mps":
        torch.mps.set_rng_state(states["mps"])


def _converted(
    measured: Mapping[str, list[Any]], kind: type, convert: Callable[[Any], Any]
) -> dict[str, list[Any]]:
    """The same lists, with the values of one kind converted."""
    return {
        name: [convert(value) if isinstance(value, kind) else value for value in values]
        for name, values in measured.items()
    }


def _listed(steps: Sequence[int]) -> str:
    """The first and last few of a list, and its checksum: enough to be compared."""
    if len(steps) <= 6:
        return str(list(steps))
    checksum = checkpoints.digest([torch.tensor(steps)])
    first, last = (", ".join(map(str, part)) for part in (steps[:3], steps[-2:]))
    return f"[{first}, ..., {last}] ({len(steps)} steps, checksum {checksum})"
