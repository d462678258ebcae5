"""Internal covariate shift: how far inputs of layers move in training, and whether that hinders.

Sections 1 and 2 of the paper say that the inputs of a layer change in distribution as the layers in
front of it learn, that small changes amplify with depth, and that it would be an advantage for a
part of a network, F2, if the distribution of its inputs stayed as it is. Two experiments with the
network of Figure 1, without normalization:

The *course* of one training. At chosen steps, the network is compared with itself ten steps later:
the shift (`bn_core.lab.probes.shift`) of what enters each hidden sigmoid, and how much of it is
owed to the layers in front and how much to the layer's own weights.

The *fork*. Training is stopped on the way and goes on from there in four ways, on the same batches:
with `all` layers trained; with the first two, F1, `frozen`, so that the inputs of the others, F2,
stand still; with F1 moving to no purpose, `shuffled`: every unit of F1 takes the steps that the
gradient meant for another unit of its layer; and so for half of the steps, then `stopped`, with F1
frozen where it has got to.

The record showed that shuffled steps do not only move F1, they ruin it: within some hundred steps
some of its units give the same output for every digit. So there is a fifth way, which `go_on` knows
and `run` does not take: `returned` is shuffled, too, but every twenty steps F1 is set back to what
it was at the fork, so that it moves to no purpose and is not ruined. Its criterion, that the loss
is more than 2 % above that of `frozen` in every seed, is none of the `CLAIMS`: it was set after the
record was made, and after a pilot with seeds 100 to 102 had shown about 0.4 %.

The claims on depth are about ten steps. `by_length` measures the same shifts over other lengths,
over which the verdicts need not be the same.

Learning rate, initial standard deviation, fork and length were chosen in a pilot with seeds from
100 on, so that the network leaves chance soon and is on its way, but not done, at the fork.
"""

import copy
import itertools
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bn_core.experiments import records
from bn_core.experiments.claims import OWN, Claim, Effect
from bn_core.experiments.registry import choose_seeds
from bn_core.lab.data import ImageSet, load
from bn_core.lab.models import figure1_network
from bn_core.lab.probes import PERCENTILES, Array, entering, shift
from bn_core.lab.stack import Stack
from bn_core.lab.sweeps import Report, run_all
from bn_core.lab.training import Training, accuracy, predict, train_stack

NAME = "internal_shift"
TITLE = "How far the inputs of layers move in training, and whether that hinders"
BATCH_SIZE = 60
LR = 0.5
INIT_STD = 0.1
BLOCK = 10  # steps between the two networks that are compared
HIDDEN = 3  # hidden layers of the network
SIGMOIDS = ("sigmoid1", "sigmoid2", "sigmoid3")
F1_LAYERS = (1, 2)  # linear layers in front of the cut; F2 is linear3, its sigmoid and linear4
PROBED = 2_000  # test images that shifts are measured on, at most
CHANCE_LEFT = 0.5  # test accuracy from which on the network counts as learning
WAYS = ("all", "frozen", "shuffled", "stopped")
"""The ways to go on from the fork."""
RETURN_EVERY = 20  # steps, in the way "returned", which is not part of a run
_UNITS = 100  # of every hidden layer


@dataclass(frozen=True)
class Scale:
    """The size of a run.

    Attributes:
        data: name of the image set.
        steps: of the course.
        fork: step of the fork.
        after: steps after the fork, in each way.
        seeds: how many, unless told otherwise.
    """

    data: str
    steps: int
    fork: int
    after: int
    seeds: int


SCALES = {
    "live": Scale(data="mnist-5k", steps=1_000, fork=300, after=200, seeds=3),
    "paper": Scale(data="mnist", steps=10_000, fork=500, after=1_000, seeds=5),
}


@dataclass(frozen=True)
class Course:
    """What was measured while one network was trained.

    A shift is the mean over the units of a layer, in widths, over `BLOCK` steps; the lists of
    three are for what enters the hidden sigmoids, first to last.

    Attributes:
        seed: of weights and of batch order.
        steps: (records,) at which the blocks begin.
        accuracy: (records,) test accuracy in [0, 1].
        typical_unit: (3,) of each layer, the unit whose median moves most like the others': the
            middle one by the distance from its lowest to its highest median.
        typical: (3, records, 3) 15th, 50th, 85th percentile of what enters the typical unit.
        mean: (3, records, 3) the same, averaged over all units.
        total: (records, 3) shift with all layers ten steps on.
        front: (records, 3) shift with only the layers in front ten steps on; 0 for the first.
        own: (records, 3) shift with only the layer's own weights ten steps on.
        first: (records, 3) shift with only the first layer ten steps on.
    """

    seed: int
    steps: list[int]
    accuracy: list[float]
    typical_unit: list[int]
    typical: list[list[list[float]]]
    mean: list[list[list[float]]]
    total: list[list[float]]
    front: list[list[float]]
    own: list[list[float]]
    first: list[list[float]]

    def while_learning(self, part: str) -> Array:
        """Mean shift of each layer, (3,), over the records at which chance has been left.

        Args:
            part: "total", "front", "own" or "first".
        """
        learning = np.array(self.accuracy) >= CHANCE_LEFT
        if not learning.any():
            return np.full(HIDDEN, np.nan)
        found: Array = np.array(getattr(self, part))[learning].mean(0)
        return found


@dataclass(frozen=True)
class Branch:
    """One way to go on from the fork.

    Attributes:
        way: one of `WAYS`.
        seed: of weights and of batch order.
        steps: (records,) steps since the fork, from 0.
        loss: (records,) mean training loss since the record before; at 0, NaN.
        accuracy: (records,) test accuracy in [0, 1].
        shift: (records,) shift of the inputs of F2 since the fork, mean over its 100 inputs, in
            widths.
        pace: (records,) shift of the inputs of F2 since the record before; at 0, 0.
        apart: (records,) distance of the parameters of F2 from those they have at that step when
            all layers are trained, over the distance that those have gone since the fork; at 0, 0.
    """

    way: str
    seed: int
    steps: list[int]
    loss: list[float]
    accuracy: list[float]
    shift: list[float]
    pace: list[float]
    apart: list[float]


@dataclass(frozen=True)
class Result:
    """All runs of one scale.

    Attributes:
        scale: "live" or "paper".
        seeds: the seeds.
        courses: one for each seed.
        branches: one for each way and seed.
        seconds: wall time of the course and of the fork.
        provenance: what it was made with, see `bn_core.experiments.records.provenance`.
    """

    scale: str
    seeds: tuple[int, ...]
    courses: tuple[Course, ...]
    branches: tuple[Branch, ...]
    seconds: list[float]
    provenance: dict[str, Any]

    def course(self, seed: int) -> Course:
        """The course of one seed.

        Raises:
            KeyError: there is none.
        """
        for course in self.courses:
            if course.seed == seed:
                return course
        raise KeyError(f"internal_shift: there is no course with seed {seed}")

    def branch(self, way: str, seed: int) -> Branch:
        """The branch of one way and seed.

        Raises:
            KeyError: there is none.
        """
        for branch in self.branches:
            if (branch.way, branch.seed) == (way, seed):
                return branch
        raise KeyError(f"internal_shift: there is no branch {way!r} with seed {seed}")


def run(
    scale: str = "live",
    seeds: Sequence[int] | None = None,
    progress: bool = False,
    resume: Path | None = None,
) -> Result:
    """Train the course and the fork with every seed.

    Args:
        scale: "live" (embedded digits, seconds) or "paper" (full MNIST, minutes).
        seeds: by default 0, 1, 2 at live scale and 0 to 4 at paper scale.
        progress: show a progress bar on stderr.
        resume: folder in which finished parts are kept and found again; None for none.

    Raises:
        ValueError: an unknown scale, or no seed.
        bn_core.lab.data.DataError: the data are not to be had.
    """
    seeds = choose_seeds(NAME, scale, SCALES, seeds)
    size = SCALES[scale]
    data = _digits(size.data)  # here first, so that a download or its failure happens once
    with records.provenance(data) as provenance:
        (courses, first), (branches, second) = run_all(
            _run_part,
            [("course", seeds, size), ("fork", seeds, size)],
            steps=size.steps,
            progress=f"{NAME}, {scale} scale" if progress else None,
            resume=resume,
        )
    return Result(scale, seeds, tuple(courses), tuple(branches), [first, second], provenance)


def crossed(before: nn.Sequential, after: nn.Sequential, layers: Collection[int]) -> nn.Sequential:
    """A network with some linear layers of `after` and everything else of `before`.

    Args:
        before: a network of `bn_core.lab.models.figure1_network`.
        after: the same network at a later step.
        layers: numbers of the linear layers to take from `after`, from 1.
    """
    taken = {f"linear{number}" for number in layers}
    return nn.Sequential(
        OrderedDict(
            (name, after.get_submodule(name) if name in taken else module)
            for name, module in before.named_children()
        )
    )


def block_shifts(before: nn.Sequential, after: nn.Sequential, images: Tensor) -> dict[str, Array]:
    """Shift of what enters each hidden sigmoid between two states, and what it is owed to.

    Args:
        before: a network of `bn_core.lab.models.figure1_network`.
        after: the same network at a later step.
        images: (n, 28, 28), examples that the distributions are over.

    Returns:
        Means over the units of each of the three layers, by what is taken from `after`. In `total`
        all layers are, in `front` only those in front of the layer, in `own` only the layer itself,
        in `first` only the first layer.
    """
    start = entering(before, images, SIGMOIDS)

    def moved(layers: Collection[int], seen: Collection[int]) -> list[float]:
        names = [f"sigmoid{number}" for number in seen]
        now = entering(crossed(before, after, layers), images, names)
        return [float(shift(start[name], now[name]).mean()) for name in names]

    everything = range(1, HIDDEN + 1)
    first = moved([1], everything)
    found = {
        "total": moved(everything, everything),
        "front": [0.0, first[1], *moved([1, 2], [3])],
        "own": [first[0], *moved([2], [2]), *moved([3], [3])],
        "first": first,
    }
    return {name: np.array(values) for name, values in found.items()}


def shuffle_gradients(
    network: nn.Sequential, orders: Mapping[int, Tensor], *, share: float = 1.0
) -> None:
    """Give each unit of some layers of a stack the gradient of another unit of its layer.

    The sizes of the gradients stay, and so do the inputs that they are made of; the purpose goes.

    Args:
        network: of a stack: its parameters have a seed axis in front, and a gradient.
        orders: for the number of a linear layer (S, units), for each network a permutation.
        share: factor for these gradients; 0 lets the layers stand still.
    """
    for number, order in orders.items():
        for parameter in network.get_submodule(f"linear{number}").parameters():
            assert parameter.grad is not None
            rows = torch.arange(len(order))[:, None]
            parameter.grad = share * parameter.grad[rows, order]


def record_at(steps: int) -> list[int]:
    """Steps at which a block begins: some at the start, then one every twentieth of the course."""
    early = [0, 20, 50, 100, 150, 200, 300, 400]
    even = range(steps // 20, steps, steps // 20)
    return sorted({step for step in (*early, *even) if step + BLOCK <= steps})


def _run_part(job: tuple[str, tuple[int, ...], Scale], report: Report) -> tuple[list[Any], float]:
    part, seeds, size = job
    started = time.perf_counter()
    found: list[Any] = _course(seeds, size, report) if part == "course" else _fork(seeds, size)
    return found, round(time.perf_counter() - started, 1)


def _course(seeds: tuple[int, ...], size: Scale, report: Report) -> list[Course]:
    data = _digits(size.data)
    stack = _stack(seeds)
    networks = [stack.unstack(s) for s in range(len(seeds))]
    images = data.test_images[:PROBED]
    starts = set(record_at(size.steps))
    ends = {step + BLOCK for step in starts}
    kept: list[nn.Sequential] = []
    nothing = np.full(HIDDEN, np.nan)
    no_inputs = np.full((HIDDEN, len(PERCENTILES), _UNITS), np.nan)

    @torch.no_grad()
    def watch(step: int) -> list[Mapping[str, Any]]:
        shifts: list[dict[str, Array]] = [
            dict.fromkeys(("total", "front", "own", "first"), nothing) for _ in networks
        ]
        if step in ends:
            shifts = [
                block_shifts(before, _sequential(after), images)
                for before, after in zip(kept, networks, strict=True)
            ]
        kept[:] = [copy.deepcopy(_sequential(network)) for network in networks]
        measured: list[Mapping[str, Any]] = []
        for network, found in zip(networks, shifts, strict=True):
            share, inputs = np.nan, no_inputs
            if step in starts:
                share = accuracy(predict(network, data.test_images), data.test_labels)
                entered = entering(network, images, SIGMOIDS).values()
                inputs = np.stack([np.percentile(x, PERCENTILES, axis=0) for x in entered])
            measured.append({**found, "accuracy": share, "inputs": inputs})
        return measured

    trainings = train_stack(
        stack,
        data.train_images,
        data.train_labels,
        torch.optim.SGD(stack.parameters(), lr=LR),
        steps=size.steps,
        batch_size=BATCH_SIZE,
        generators=[torch.Generator().manual_seed(seed) for seed in seeds],
        watch=watch,
        watch_at=starts | ends,
        report=report,
    )
    return [_summary(seed, each, starts) for seed, each in zip(seeds, trainings, strict=True)]


def _summary(seed: int, training: Training, starts: Collection[int]) -> Course:
    at = [i for i, step in enumerate(training.steps) if step in starts]
    after = [training.steps.index(training.steps[i] + BLOCK) for i in at]
    inputs = np.stack(training.measured["inputs"])[at].transpose(1, 0, 2, 3)  # layers first
    wandered = np.ptp(inputs[:, :, 1], axis=1)  # (layers, units)
    typical = np.argsort(wandered, axis=1)[:, wandered.shape[1] // 2]
    shifts = {
        name: _rounded(np.stack(training.measured[name])[after], 6)
        for name in ("total", "front", "own", "first")
    }
    return Course(
        seed=seed,
        steps=[training.steps[i] for i in at],
        accuracy=_rounded(np.array(training.measured["accuracy"])[at]),
        typical_unit=[int(unit) for unit in typical],
        typical=_rounded([layer[:, :, unit] for layer, unit in zip(inputs, typical, strict=True)]),
        mean=_rounded(inputs.mean(3)),
        **shifts,
    )


def _fork(seeds: tuple[int, ...], size: Scale) -> list[Branch]:
    data = _digits(size.data)
    stack = at_fork(seeds, size, data)
    trainings = {way: go_on(stack, way, seeds, size, data) for way in WAYS}
    return [
        _branch(way, seed, trainings[way][s], trainings["all"][s])
        for way in WAYS
        for s, seed in enumerate(seeds)
    ]


def at_fork(seeds: Sequence[int], size: Scale, data: ImageSet) -> Stack:
    """Train the networks of some seeds up to the fork.

    Args:
        seeds: of weights and of batch order, one for each network.
        size: says how many steps that is.
        data: to train on.
    """
    stack = _stack(seeds)
    train_stack(
        stack,
        data.train_images,
        data.train_labels,
        torch.optim.SGD(stack.parameters(), lr=LR),
        steps=size.fork,
        batch_size=BATCH_SIZE,
        generators=[torch.Generator().manual_seed(seed) for seed in seeds],
    )
    return stack


def go_on(
    stack: Stack,
    way: str,
    seeds: Sequence[int],
    size: Scale,
    data: ImageSet,
    *,
    lr: float = LR,
) -> list[Training]:
    """Train a copy of a stack from the fork on, in one way, on batches that the seeds decide.

    Args:
        stack: networks at the fork; they stay as they are.
        way: one of `WAYS`, or "returned".
        seeds: one for each network.
        size: says for how many steps.
        data: to train and to measure on.
        lr: learning rate.

    Returns:
        For each network the training losses and, measured at steps 0, 1, 2 and ten times, evenly,
        the test `accuracy`, the `inputs` of F2 (images, 100) and its `parameters` in one row.

    Raises:
        ValueError: another way.
    """
    ways = (*WAYS, "returned")
    if way not in ways:
        raise ValueError(f"go_on: way is {way!r}; it must be one of {ways}")
    stack = copy.deepcopy(stack)
    if way == "frozen":
        for number in F1_LAYERS:
            stack.network.get_submodule(f"linear{number}").requires_grad_(False)
    trained = [parameter for parameter in stack.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=lr)
    if way in ("shuffled", "stopped", "returned"):
        orders = {
            number: torch.stack(
                [
                    torch.randperm(_UNITS, generator=torch.Generator().manual_seed(seed + number))
                    for seed in seeds
                ]
            )
            for number in F1_LAYERS
        }
        done = itertools.count()
        moving = size.after // 2 if way == "stopped" else size.after

        moved = [
            parameter
            for number in F1_LAYERS
            for parameter in stack.network.get_submodule(f"linear{number}").parameters()
        ]
        fork = [parameter.detach().clone() for parameter in moved]

        def before_step(*_: Any) -> None:
            step = next(done)
            if way == "returned" and step % RETURN_EVERY == 0:
                with torch.no_grad():
                    for parameter, there in zip(moved, fork, strict=True):
                        parameter.copy_(there)
            shuffle_gradients(_sequential(stack.network), orders, share=float(step < moving))

        optimizer.register_step_pre_hook(before_step)
    networks = [_sequential(stack.unstack(s)) for s in range(len(seeds))]
    images = data.test_images[:PROBED]

    @torch.no_grad()
    def watch(_step: int) -> list[Mapping[str, Any]]:
        return [
            {
                "accuracy": accuracy(predict(network, data.test_images), data.test_labels),
                "inputs": entering(network, images, ["linear3"])["linear3"],
                "parameters": _parameters_of_f2(network),
            }
            for network in networks
        ]

    return train_stack(
        stack,
        data.train_images,
        data.train_labels,
        optimizer,
        steps=size.after,
        batch_size=BATCH_SIZE,
        generators=[torch.Generator().manual_seed(10_000 + seed) for seed in seeds],
        watch=watch,
        watch_at={0, 1, 2, *range(0, size.after + 1, size.after // 10)},
    )


def by_length(
    stack: Stack, seeds: Sequence[int], data: ImageSet, lengths: Sequence[int]
) -> list[dict[str, Array]]:
    """Shifts between one state of each network and the same network some steps later.

    Args:
        stack: networks to start from; they stay as they are.
        seeds: of batch order, one for each network; the batches are those of `go_on`.
        data: to train and to measure on.
        lengths: numbers of steps, ascending, from 1.

    Returns:
        For each network what `block_shifts` returns, each as (lengths, 3).
    """
    trained = copy.deepcopy(stack)
    starts, networks = (
        [_sequential(each.unstack(s)) for s in range(len(seeds))] for each in (stack, trained)
    )
    images = data.test_images[:PROBED]

    @torch.no_grad()
    def watch(_step: int) -> list[Mapping[str, Any]]:
        pairs = zip(starts, networks, strict=True)
        return [block_shifts(before, after, images) for before, after in pairs]

    trainings = train_stack(
        trained,
        data.train_images,
        data.train_labels,
        torch.optim.SGD(trained.parameters(), lr=LR),
        steps=lengths[-1],
        batch_size=BATCH_SIZE,
        generators=[torch.Generator().manual_seed(10_000 + seed) for seed in seeds],
        watch=watch,
        watch_at=set(lengths),
    )
    return [
        {name: np.stack(found) for name, found in training.measured.items()}
        for training in trainings
    ]


def _branch(way: str, seed: int, training: Training, inside: Training) -> Branch:
    inputs = training.measured["inputs"]
    here, there = (np.stack(each.measured["parameters"]) for each in (training, inside))
    gone = np.linalg.norm(there - there[0], axis=1)
    distance = np.linalg.norm(here - there, axis=1)
    return Branch(
        way=way,
        seed=seed,
        steps=training.steps,
        loss=_rounded(training.losses),
        accuracy=_rounded(training.measured["accuracy"]),
        shift=_rounded([shift(inputs[0], now).mean() for now in inputs]),
        pace=_rounded([0.0, *(shift(a, b).mean() for a, b in itertools.pairwise(inputs))]),
        apart=np.divide(distance, gone, out=np.zeros_like(gone), where=gone > 0).tolist(),
    )


def _parameters_of_f2(network: nn.Sequential) -> Tensor:
    parts = (network.get_submodule(name) for name in ("linear3", "linear4"))
    return torch.cat([p.flatten() for part in parts for p in part.parameters()])


def _stack(seeds: Sequence[int]) -> Stack:
    return Stack(
        [
            figure1_network(init_std=INIT_STD, generator=torch.Generator().manual_seed(seed))
            for seed in seeds
        ]
    )


def _sequential(module: nn.Module) -> nn.Sequential:
    assert isinstance(module, nn.Sequential)
    return module


@lru_cache(maxsize=1)
def _digits(name: str) -> ImageSet:
    return load(name).binary()


def _rounded(values: Any, digits: int = 4) -> Any:
    return np.asarray(values, dtype=float).round(digits).tolist()


def _moved(result: Result, seed: int) -> Effect:
    """Shift of the inputs of F2 between the fork and the end, all layers trained."""
    return Effect(seed, result.branch("all", seed).shift[-1])


def _parts(over: tuple[str, int], under: tuple[str, int]) -> Callable[[Result, int], Effect]:
    """One part of one layer's shift over another, while learning; layers from 1."""

    def measure(result: Result, seed: int) -> Effect:
        course = result.course(seed)
        high, low = (course.while_learning(part)[layer - 1] for part, layer in (over, under))
        return Effect(seed, float(high / low))

    return measure


def _losses(over: str, under: str, record: int) -> Callable[[Result, int], Effect]:
    """Training loss of one way to go on over that of another, at one record."""

    def measure(result: Result, seed: int) -> Effect:
        high, low = (result.branch(way, seed).loss[record] for way in (over, under))
        return Effect(seed, high / low)

    return measure


AT_FIRST = 3  # the record that ends the first tenth of a branch: after those of steps 0, 1 and 2

CLAIMS: tuple[Claim[Result], ...] = (
    Claim(
        id="internal_shift.inputs-move",
        statement="While a network trains, the layers in front change the distribution of what "
        "enters a layer.",
        source="ioffe2015, section 2",
        effect="shift of the inputs of the third linear layer between the fork and the end",
        unit=" widths",
        threshold=0.1,
        measure=_moved,
    ),
    Claim(
        id="internal_shift.deeper-moves-more",
        statement="What enters a deeper sigmoid moves more over ten steps.",
        source="ioffe2015, section 1",
        effect="shift over ten steps at the third hidden sigmoid / at the first, mean over the "
        "records with test accuracy of 50 % or more",
        unit="x",
        threshold=1.0,
        measure=_parts(("total", 3), ("total", 1)),
    ),
    Claim(
        id="internal_shift.change-amplifies",
        statement="A small change of the first layer's weights, over ten steps, is amplified by "
        "the layers behind.",
        source="ioffe2015, section 1",
        effect="shift at the third hidden sigmoid / at the first, with ten steps of the first "
        "layer alone, mean over the same records",
        unit="x",
        threshold=1.0,
        measure=_parts(("first", 3), ("first", 1)),
    ),
    Claim(
        id="internal_shift.front-outweighs-own",
        statement="What enters the last hidden sigmoid is moved more over ten steps by the layers "
        "in front than by its own layer's weights.",
        source=OWN,
        effect="shift at the third hidden sigmoid, with ten steps of the first two layers alone / "
        "of the third alone, mean over the same records",
        unit="x",
        threshold=1.0,
        measure=_parts(("front", 3), ("own", 3)),
    ),
    Claim(
        id="internal_shift.still-is-better-at-first",
        statement="F₂ learns faster at first when its inputs stand still because F₁ is frozen.",
        source=OWN,
        effect="training loss with all layers trained / with F1 frozen, over the first tenth of "
        "the steps after the fork, but for two",
        unit="x",
        threshold=1.0,
        measure=_losses("all", "frozen", AT_FIRST),
    ),
    Claim(
        id="internal_shift.still-is-better",
        statement="F₂ gets further when its inputs stand still because F₁ is frozen.",
        source=OWN,
        effect="training loss with all layers trained / with F1 frozen, over the last tenth of "
        "the steps after the fork",
        unit="x",
        threshold=1.0,
        measure=_losses("all", "frozen", -1),
    ),
    Claim(
        id="internal_shift.purposeless-hurts",
        statement="Movement of its inputs to no purpose makes F₂ learn less than inputs that stand "
        "still.",
        source=OWN,
        effect="training loss with F1 moving to no purpose / with F1 frozen, over the last tenth "
        "of the steps after the fork",
        unit="x",
        threshold=1.0,
        measure=_losses("shuffled", "frozen", -1),
    ),
)


def recorded(folder: Path) -> Result:
    """The recorded result in a folder such as the book's `results`."""
    return records.result(folder, NAME, Result)
