"""How deep a sigmoid network can be and still train, with and without batch normalization.

Networks like that of Figure 1 with 2 to 12 hidden layers of 100 sigmoid units (beyond 12 for batch
normalization), trained with plain stochastic gradient descent. Each arm and depth gets its own
learning rate out of one grid: one network with a seed that is used for nothing else is trained with
every rate of the grid, for as many steps as the recorded networks, on what is left of the training
digits after some were held out, and scored by its mean accuracy on those over the run. A network
*trains* if, after the last step, its accuracy on all test digits is at least the scale's target.

Beside that, what every hidden layer is like, at the start and during training: how much of it is
saturated, how far its inputs differ between examples and between units, what gradient arrives, and
which part of the gradient of its weights comes from differences between examples.

Two arms are interventions. "centred" is Xavier's initialization with biases that make up for the
sigmoids' mean of one half. "once" is the narrow network with a single batch normalization, in front
of its last sigmoid.

The depths, the grid of rates and the number of steps were chosen in a pilot of one seed above 99
and 2,000 steps. It showed the narrow network to train at depth 4 and not at 6, Xavier's at 6 and
not at 12, and both the centred one and the one with batch normalization at 12; the criteria were
written after it. The arm "once" and depths above 12 were in no pilot.
"""

import copy
import math
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn

from bn_core.experiments import records
from bn_core.experiments.claims import Claim, Effect
from bn_core.experiments.registry import choose_seeds
from bn_core.lab.data import ImageSet, load
from bn_core.lab.models import centre_on_half, sigmoid_network, xavier_std
from bn_core.lab.probes import arrivals, split_weight_gradient, steep_interval
from bn_core.lab.stack import Stack
from bn_core.lab.sweeps import Report, run_all
from bn_core.lab.training import accuracy, predict, train_stack
from bn_core.layers import BatchNorm1d

Measured = TypeVar("Measured")

NAME = "sigmoid_depth"
TITLE = "The depth at which sigmoid networks stop training (sections 1 and 4.2.2)"
WIDTH = 100
NARROW_STD = 0.1
"""The standard deviation of narrow initial weights."""

BATCH_SIZE = 60

TUNING_SEED = 99
"""Of the networks that learning rates are chosen with."""

RATES = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
_interval = steep_interval(nn.Sigmoid())
assert _interval is not None
EDGE = _interval[1]  # of the dead zone: 3.637


@dataclass(frozen=True)
class Arm:
    """A way to build and start a network.

    Attributes:
        name: short name.
        normalized: "all" hidden layers, the "last" one alone, or "none".
        xavier: whether weights have Xavier's scale for the sigmoid's slope of 1/4, not a standard
            deviation of `NARROW_STD`.
        centred: whether biases make up for the sigmoids' mean of 1/2.
    """

    name: str
    normalized: str = "none"
    xavier: bool = False
    centred: bool = False

    def network(self, depth: int, seed: int) -> nn.Sequential:
        """The network of a depth and seed."""
        network = sigmoid_network(
            depth,
            BatchNorm1d if self.normalized == "all" else None,
            width=WIDTH,
            init_std=partial(xavier_std, slope=0.25) if self.xavier else NARROW_STD,
            generator=torch.Generator().manual_seed(seed),
        )
        if self.normalized == "last":
            network = normalized_once(network)
        return centre_on_half(network) if self.centred else network


ARMS = (
    Arm("narrow"),
    Arm("xavier", xavier=True),
    Arm("bn", normalized="all"),
    Arm("bn-xavier", normalized="all", xavier=True),
    Arm("centred", xavier=True, centred=True),
    Arm("once", normalized="last"),
)


@dataclass(frozen=True)
class Scale:
    """The size of a run.

    Attributes:
        data: name of the image set.
        hold_out: training digits kept to choose learning rates by.
        examples: test digits that layers are looked at with, and accuracies before the last step.
        steps: of training.
        target: test accuracy from which on a network is said to train.
        rates: learning rates to choose from.
        depths: numbers of hidden layers, for each arm's name.
        seeds: how many, unless told otherwise.
    """

    data: str
    hold_out: int
    examples: int
    steps: int
    target: float
    rates: tuple[float, ...]
    depths: dict[str, tuple[int, ...]]
    seeds: int


SCALES = {
    "live": Scale(
        data="mnist-5k",
        hold_out=1_000,
        examples=1_000,
        steps=250,
        target=0.60,
        rates=(0.1, 0.3, 1.0, 3.0, 10.0),
        depths={"narrow": (2, 5, 8), "xavier": (2, 5, 8), "bn": (2, 5, 8)},
        seeds=3,
    ),
    "paper": Scale(
        data="mnist",
        hold_out=10_000,
        examples=2_000,
        steps=2_000,
        target=0.80,
        rates=RATES,
        depths={
            "narrow": (2, 3, 4, 5, 6, 8, 12),
            "xavier": (2, 4, 6, 8, 10, 12),
            "bn": (2, 4, 5, 6, 8, 10, 12, 24),
            "bn-xavier": (12,),
            "centred": (8, 10, 12),
            "once": (5, 6, 8, 10, 12),
        },
        seeds=5,
    ),
}


@dataclass(frozen=True)
class Tuned:
    """The learning rates tried for one arm and depth.

    Attributes:
        arm: its name.
        depth: number of hidden layers.
        rates: those tried, ascending.
        scores: of each rate, the mean accuracy on held-out training digits over the run; after
            divergence it counts as 0.
        finals: of each rate, the accuracy at the end of the run; 0 after divergence.
    """

    arm: str
    depth: int
    rates: tuple[float, ...]
    scores: list[float]
    finals: list[float]

    @property
    def best(self) -> float:
        """The rate of the highest score."""
        return self.rates[int(np.argmax(self.scores))]

    @property
    def at_edge(self) -> bool:
        """Whether the best rate is the lowest or the highest tried."""
        return self.best in (self.rates[0], self.rates[-1])


@dataclass(frozen=True)
class Layers:
    """The hidden layers of a network at one moment, from the first to the last in every list.

    A network with batch normalization is looked at in training mode: its statistics are those of
    the examples that it is shown.

    Attributes:
        step: of training.
        saturated: share of the pre-activations in the dead zone.
        spread: standard deviation over the examples of what enters a sigmoid, root mean square over
            the units.
        offset: mean over the examples of what enters a sigmoid, root mean square over the units.
        arriving: norm of the gradient of an example's loss with respect to what leaves the
            sigmoid, root mean square over the examples.
        gradient: norm of the gradient of the mean loss with respect to the linear layer's weights,
            over the norm of the weights.
        differing: the same of its part that comes from differences between examples, see
            `bn_core.lab.probes.split_weight_gradient`.
    """

    step: int
    saturated: list[float]
    spread: list[float]
    offset: list[float]
    arriving: list[float]
    gradient: list[float]
    differing: list[float]


@dataclass(frozen=True)
class Run:
    """One network while it is trained at the rate chosen for its arm and depth.

    Attributes:
        arm: name of its arm.
        depth: number of hidden layers.
        seed: of weights and batch order.
        lr: the learning rate.
        steps: (records,) at which the accuracy was noted.
        accuracy: (records,) in [0, 1], on the scale's examples; 0.0 where the run had diverged.
        final: accuracy after the last step, on all test digits; 0.0 if it had diverged.
        layers: its layers at a few moments, the first before training.
        diverged_at: step at which the loss was no longer finite, or None.
    """

    arm: str
    depth: int
    seed: int
    lr: float
    steps: list[int]
    accuracy: list[float]
    final: float
    layers: tuple[Layers, ...]
    diverged_at: int | None

    def steps_to(self, target: float) -> int | None:
        """First recorded step at which the accuracy was at least `target`, or None."""
        reached = (s for s, a in zip(self.steps, self.accuracy, strict=True) if a >= target)
        return next(reached, None)


@dataclass(frozen=True)
class Result:
    """All measurements of one scale.

    Attributes:
        scale: "live" or "paper".
        seeds: the seeds.
        arms: what was trained.
        tuned: one for each arm and depth.
        runs: one for each arm, depth and seed.
        provenance: what it was made with, see `bn_core.experiments.records.provenance`.
    """

    scale: str
    seeds: tuple[int, ...]
    arms: tuple[Arm, ...]
    tuned: tuple[Tuned, ...]
    runs: tuple[Run, ...]
    provenance: dict[str, Any]

    @property
    def target(self) -> float:
        """Accuracy from which on a network is said to train."""
        return SCALES[self.scale].target

    def depths(self, arm: str) -> list[int]:
        """Depths of an arm, ascending."""
        return sorted({run.depth for run in self.runs if run.arm == arm})

    def one(self, arm: str, depth: int, seed: int) -> Run:
        """One of `runs`."""
        return _only(r for r in self.runs if (r.arm, r.depth, r.seed) == (arm, depth, seed))

    def tuning(self, arm: str, depth: int) -> Tuned:
        """One of `tuned`."""
        return _only(t for t in self.tuned if (t.arm, t.depth) == (arm, depth))

    def stops_at(self, arm: str, seed: int, most: int = 12) -> int | None:
        """The least depth, up to `most`, at which the network of an arm and seed does not train.

        None if it trains at all of them.
        """
        tried = (depth for depth in self.depths(arm) if depth <= most)
        return next((d for d in tried if self.one(arm, d, seed).final < self.target), None)

    def deepest(self, arm: str, seed: int, most: int = 12) -> Effect:
        """The last depth, up to `most`, before the one at which training stops.

        "At least" that, if it does not stop; not known (NaN) if it does so at the least depth.
        """
        tried = [depth for depth in self.depths(arm) if depth <= most]
        stops = self.stops_at(arm, seed, most)
        if stops is None:
            return Effect(seed, tried[-1], "at least")
        before = [depth for depth in tried if depth < stops]
        return Effect(seed, before[-1] if before else math.nan)


def run(
    scale: str = "live",
    seeds: Sequence[int] | None = None,
    progress: bool = False,
    resume: Path | None = None,
) -> Result:
    """Choose a learning rate for every arm and depth, then train a network for every seed.

    Args:
        scale: "live" (embedded digits, seconds) or "paper" (full MNIST, minutes).
        seeds: by default 0, 1, 2 at live scale and 0 to 4 at paper scale; not `TUNING_SEED`.
        progress: show progress bars on stderr.
        resume: folder in which finished parts and checkpoints are kept and found again; None for
            none.

    Raises:
        ValueError: an unknown scale, no seed, or the one that rates are chosen with.
        bn_core.lab.data.DataError: the data are not to be had.
    """
    seeds = choose_seeds(NAME, scale, SCALES, seeds)
    if TUNING_SEED in seeds:
        raise ValueError(
            f"{NAME}.run: seeds has {TUNING_SEED}, which learning rates are chosen with; take "
            "another"
        )
    size = SCALES[scale]
    data = _digits(size.data)  # here first, so that a download or its failure happens once
    label = f"{NAME}, {scale} scale" if progress else None
    arms = tuple(arm for arm in ARMS if arm.name in size.depths)
    cells = [(arm, depth) for arm in arms for depth in size.depths[arm.name]]
    # The longest jobs first, so that at the end no core waits for another.
    order = sorted(range(len(cells)), key=lambda i: -cells[i][1])
    with records.provenance(data) as provenance:
        tuned = run_all(
            _tune,
            [(*cells[i], size) for i in order],
            steps=size.steps,
            progress=label,
            resume=resume,
        )
        by_cell = run_all(
            _train,
            [(*cells[i], t.best, seeds, size) for i, t in zip(order, tuned, strict=True)],
            steps=size.steps,
            progress=label,
            resume=resume,
        )
    back = np.argsort(order)
    return Result(
        scale=scale,
        seeds=seeds,
        arms=arms,
        tuned=tuple(tuned[i] for i in back),
        runs=tuple(run for i in back for run in by_cell[i]),
        provenance=provenance,
    )


def normalized_once(network: nn.Sequential) -> nn.Sequential:
    """A plain sigmoid network with one batch normalization, in front of its last sigmoid.

    Args:
        network: as `bn_core.lab.models.sigmoid_network` makes it without normalization. Its layers
            become the new network's.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict(network.named_children())
    last = max(int(name.removeprefix("sigmoid")) for name in layers if name.startswith("sigmoid"))
    sigmoid, end = layers.pop(f"sigmoid{last}"), layers.pop(f"linear{last + 1}")
    layers[f"norm{last}"] = BatchNorm1d(WIDTH)
    layers[f"sigmoid{last}"], layers[f"linear{last + 1}"] = sigmoid, end
    return nn.Sequential(layers)


class SGDByNetwork(torch.optim.SGD):
    """Plain stochastic gradient descent in which each network of a stack has its own rate.

    Args:
        stack: the networks.
        rates: learning rates, one for each network.
    """

    def __init__(self, stack: Stack, rates: Sequence[float]) -> None:
        super().__init__(stack.parameters(), lr=1.0)
        self.param_groups[0]["rates"] = tuple(rates)  # where a checkpoint looks for settings

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One step, each network's gradient multiplied by its rate."""
        for group in self.param_groups:
            rates = torch.tensor(group["rates"])
            for parameter in group["params"]:
                shape = (-1, *[1] * (parameter.dim() - 1))
                parameter.grad = parameter.grad * rates.view(shape)
        return super().step(closure)


def _tune(job: tuple[Arm, int, Scale], report: Report) -> Tuned:
    """Train one network with every learning rate."""
    arm, depth, size = job
    data = _digits(size.data).hold_out(size.hold_out)
    images, labels = data.test_images[: size.examples], data.test_labels[: size.examples]
    stack = Stack([arm.network(depth, TUNING_SEED) for _ in size.rates])
    networks = [stack.unstack(i) for i in range(len(size.rates))]
    record_at = range(size.steps // 10, size.steps + 1, size.steps // 10)
    trainings = train_stack(
        stack,
        data.train_images,
        data.train_labels,
        SGDByNetwork(stack, size.rates),
        steps=size.steps,
        batch_size=BATCH_SIZE,
        generators=[torch.Generator().manual_seed(TUNING_SEED) for _ in size.rates],
        watch=lambda _: [
            {"accuracy": accuracy(predict(network, images), labels)} for network in networks
        ],
        watch_at=record_at,
        report=report,
        checkpoint=report.checkpoint,
    )
    found = [t.measured.get("accuracy", []) for t in trainings]
    return Tuned(
        arm=arm.name,
        depth=depth,
        rates=size.rates,
        scores=[_short(sum(each) / len(record_at)) for each in found],
        finals=[_short(each[-1] if len(each) == len(record_at) else 0.0) for each in found],
    )


def _train(job: tuple[Arm, int, float, tuple[int, ...], Scale], report: Report) -> list[Run]:
    """Train one network for each seed."""
    arm, depth, lr, seeds, size = job
    data = _digits(size.data)
    images, labels = data.test_images[: size.examples], data.test_labels[: size.examples]
    stack = Stack([arm.network(depth, seed) for seed in seeds])
    networks = [stack.unstack(s) for s in range(len(seeds))]
    looks = layers_at(size.steps)

    def watch(step: int) -> list[Mapping[str, Any]]:
        measured: list[Mapping[str, Any]] = []
        for network in networks:
            # The same names each time, as the loop asks; not a number where nothing is measured.
            seen = dict.fromkeys(LAYER_VALUES, [math.nan] * depth)
            if step in looks:
                network.train()
                seen = look_at_layers(network, depth, images[:500], labels[:500])
            last = step == size.steps
            values = {name: np.array(row) for name, row in seen.items()} | {
                "accuracy": accuracy(predict(network, images), labels),
                "final": accuracy(predict(network, data.test_images), data.test_labels)
                if last
                else math.nan,
            }
            measured.append(values)
        return measured

    record_at = record_steps(size.steps)
    trainings = train_stack(
        stack,
        data.train_images,
        data.train_labels,
        torch.optim.SGD(stack.parameters(), lr=lr),
        steps=size.steps,
        batch_size=BATCH_SIZE,
        generators=[torch.Generator().manual_seed(seed) for seed in seeds],
        watch=watch,
        watch_at=record_at,
        report=report,
        checkpoint=report.checkpoint,
    )
    runs = []
    for seed, training in zip(seeds, trainings, strict=True):
        found = [round(float(a), 4) for a in training.measured["accuracy"]]
        runs.append(
            Run(
                arm=arm.name,
                depth=depth,
                seed=seed,
                lr=lr,
                steps=record_at,
                accuracy=found + [0.0] * (len(record_at) - len(found)),
                final=0.0 if training.diverged_at else round(training.measured["final"][-1], 4),
                layers=tuple(
                    Layers(
                        step=step,
                        **{
                            name: [_short(value) for value in training.measured[name][i]]
                            for name in LAYER_VALUES
                        },
                    )
                    for i, step in enumerate(training.steps)
                    if step in looks
                ),
                diverged_at=training.diverged_at,
            )
        )
    return runs


LAYER_VALUES = ("saturated", "spread", "offset", "arriving", "gradient", "differing")


def look_at_layers(
    network: nn.Module, depth: int, images: torch.Tensor, labels: torch.Tensor
) -> dict[str, list[float]]:
    """What the fields of `Layers` say, by name, in the mode that the network is in.

    In float64, since in a deep network examples may differ by less than float32 can tell.

    Args:
        network: as an `Arm` makes it.
        depth: its number of hidden layers.
        images: (m, 28, 28).
        labels: (m,).
    """
    numbers = range(1, depth + 1)
    names = [f"{kind}{k}" for k in numbers for kind in ("linear", "sigmoid")]
    seen = arrivals(copy.deepcopy(network).double(), names, images.double(), labels)
    found: dict[str, list[float]] = {name: [] for name in LAYER_VALUES}
    for k in numbers:
        linear, sigmoid = seen[f"linear{k}"], seen[f"sigmoid{k}"]
        x = sigmoid.input
        common, differing = split_weight_gradient(linear.input, linear.gradient)
        weight = network.get_parameter(f"linear{k}.weight").detach().double()
        found["saturated"].append(float((x.abs() > EDGE).double().mean()))
        found["spread"].append(float(x.var(0, correction=0).mean().sqrt()))
        found["offset"].append(float(x.mean(0).square().mean().sqrt()))
        # of the mean loss, so that an example's own is m times as long
        found["arriving"].append(float(sigmoid.gradient.norm() * len(images) ** 0.5))
        found["gradient"].append(float((common + differing).norm() / weight.norm()))
        found["differing"].append(float(differing.norm() / weight.norm()))
    return found


def record_steps(steps: int) -> list[int]:
    """Steps to note accuracies at: every 25 to 200, then every 100, and the last."""
    spaced = [*range(0, 200, 25), *range(200, steps, 100)]
    return [step for step in spaced if step < steps] + [steps]


def layers_at(steps: int) -> tuple[int, ...]:
    """Steps to look at layers at: the first, a quarter, and the last."""
    quarter = max(step for step in record_steps(steps) if step <= steps / 4)
    return tuple(sorted({0, quarter, steps}))


@lru_cache(maxsize=1)
def _digits(name: str) -> ImageSet:
    return load(name).binary()


def _short(value: Any) -> float:
    """To four digits: all that a record needs."""
    return float(f"{float(value):.4g}")


def _only(found: Iterator[Measured]) -> Measured:
    matches = list(found)
    if len(matches) != 1:
        raise KeyError(f"{NAME}: {len(matches)} measurements match; expected 1")
    return matches[0]


def _deeper(one: str, other: str) -> Callable[[Result, int], Effect]:
    """Deepest network of one arm that trains, minus that of another."""

    def measure(result: Result, seed: int) -> Effect:
        above, below = result.deepest(one, seed), result.deepest(other, seed)
        difference = above.value - below.value
        if above.bound and below.bound:
            return Effect(seed, math.nan)
        return Effect(seed, difference, above.bound or ("at most" if below.bound else ""))

    return measure


def _trains_where_other_stops(arm: str, other: str) -> Callable[[Result, int], Effect]:
    """Final accuracy of an arm at the depth at which another stops, minus the target, in points."""

    def measure(result: Result, seed: int) -> Effect:
        depth = result.stops_at(other, seed)
        if depth not in result.depths(arm):
            return Effect(seed, math.nan)
        return Effect(seed, 100 * (result.one(arm, depth, seed).final - result.target))

    return measure


def _trains_at(arm: str, depth: int) -> Callable[[Result, int], Effect]:
    def measure(result: Result, seed: int) -> Effect:
        if depth not in result.depths(arm):
            return Effect(seed, math.nan)
        return Effect(seed, 100 * (result.one(arm, depth, seed).final - result.target))

    return measure


def _depth_costs_little(result: Result, seed: int) -> Effect:
    depths = [depth for depth in result.depths("bn") if depth <= 12]
    shallow, deep = (result.one("bn", depth, seed) for depth in (depths[0], depths[-1]))
    few, many = shallow.steps_to(result.target), deep.steps_to(result.target)
    if few is None:
        return Effect(seed, math.nan)
    if many is None:
        return Effect(seed, few / deep.steps[-1], "at most")
    return Effect(seed, few / many)


def _any_scale(result: Result, seed: int) -> Effect:
    if "bn-xavier" not in {arm.name for arm in result.arms}:
        return Effect(seed, math.nan)
    narrow, wide = (result.one(arm, 12, seed).final for arm in ("bn", "bn-xavier"))
    return Effect(seed, 2 - 100 * abs(narrow - wide))


def _stops_unsaturated(result: Result, seed: int) -> Effect:
    depth = result.stops_at("narrow", seed)
    if depth is None:
        return Effect(seed, math.nan)
    looks = result.one("narrow", depth, seed).layers
    return Effect(seed, 1 - 100 * max(share for look in looks for share in look.saturated))


def _bn_more_saturated(result: Result, seed: int) -> Effect:
    depth = result.stops_at("narrow", seed)
    if depth not in result.depths("bn"):
        return Effect(seed, math.nan)
    normalized, plain = (
        float(np.mean(result.one(arm, depth, seed).layers[-1].saturated))
        for arm in ("bn", "narrow")
    )
    return Effect(seed, 100 * (normalized - plain))


def decades(values: Sequence[float]) -> float:
    """Powers of ten between the smallest and the largest of some positive values."""
    return math.log10(max(values) / min(values))


def _equally_small(result: Result, seed: int) -> Effect:
    depth = result.stops_at("narrow", seed)
    if depth is None or depth < 3:
        return Effect(seed, math.nan)
    start = result.one("narrow", depth, seed).layers[0]
    return Effect(seed, decades(start.gradient[1:]) - decades(start.differing[1:]))


def _grows_backward(result: Result, seed: int) -> Effect:
    start = result.one("bn", result.depths("bn")[-1], seed).layers[0]
    return Effect(seed, start.arriving[0] / start.arriving[-1])


TRAINS = "test accuracy at least 80 % (live: 60 %) after the last step"
CONDITIONS = (
    "hidden layers of 100, plain SGD at the best of the tried rates, 2,000 steps of 60 digits; "
    "live: 250 steps"
)
CLAIMS: tuple[Claim[Result], ...] = (
    Claim(
        id="sigmoid_depth.bn-deeper-than-narrow",
        statement="With batch normalization, deeper sigmoid networks train than without, from the "
        f"same narrow Gaussian weights ({CONDITIONS}).",
        source="ioffe2015, section 1",
        effect=f"largest depth up to 12 that trains ({TRAINS}) with batch normalization, minus "
        "that without",
        unit=" layers",
        threshold=0.0,
        measure=_deeper("bn", "narrow"),
    ),
    Claim(
        id="sigmoid_depth.bn-deeper-than-xavier",
        statement="With batch normalization and narrow Gaussian weights, deeper sigmoid networks "
        f"train than without, from Xavier's weights with the sigmoid's slope ({CONDITIONS}).",
        source="ioffe2015, section 1",
        effect=f"largest depth up to 12 that trains ({TRAINS}) with batch normalization, minus "
        "that from Xavier's weights",
        unit=" layers",
        threshold=0.0,
        measure=_deeper("bn", "xavier"),
    ),
    Claim(
        id="sigmoid_depth.xavier-deeper-than-narrow",
        statement="Without batch normalization, deeper sigmoid networks train from Xavier's "
        f"weights, with the sigmoid's slope, than from narrow ones ({CONDITIONS}).",
        source="this book",
        effect=f"largest depth up to 12 that trains ({TRAINS}) from Xavier's weights, minus that "
        "from narrow ones",
        unit=" layers",
        threshold=0.0,
        measure=_deeper("xavier", "narrow"),
    ),
    Claim(
        id="sigmoid_depth.bn-depth-costs-little",
        statement="With batch normalization, depth costs few steps: the deepest network takes less "
        f"than twice those of the shallowest (2 and 12 hidden layers, live 2 and 8; {CONDITIONS}).",
        source="this book",
        effect="steps to 80 % (live: 60 %) of the shallowest network / of the deepest",
        unit="",
        threshold=0.5,
        measure=_depth_costs_little,
    ),
    Claim(
        id="sigmoid_depth.bn-any-scale",
        statement="With batch normalization, the scale of the weights matters little: from narrow "
        "and from Xavier's weights 12 hidden layers end within 2 points of each other, each at "
        f"its best rate ({CONDITIONS}).",
        source="ioffe2015, section 3.3",
        effect="2 minus the distance of the two final test accuracies in points",
        unit=" points",
        threshold=0.0,
        measure=_any_scale,
    ),
    Claim(
        id="sigmoid_depth.stops-unsaturated",
        statement="Where the narrow network stops training, it is not saturated: no hidden layer "
        "has 1 % of its pre-activations in the dead zone (at the least depth that does not train; "
        f"at the start, after a quarter of the steps and at the end; {CONDITIONS}).",
        source="this book",
        effect="1 minus the highest share of a hidden layer in the dead zone, in percent",
        unit=" points",
        threshold=0.0,
        measure=_stops_unsaturated,
    ),
    Claim(
        id="sigmoid_depth.bn-more-saturated",
        statement="At the least depth at which the narrow network does not train, the one with "
        "batch normalization ends with more of its pre-activations in the dead zone (all hidden "
        f"layers together; {CONDITIONS}).",
        source="this book",
        effect="share in the dead zone at the end with batch normalization, minus without",
        unit=" points",
        threshold=0.0,
        measure=_bn_more_saturated,
    ),
    Claim(
        id="sigmoid_depth.equally-small",
        statement="Before training, the part of the weights' gradient that comes from differences "
        "between examples is about equally small in all hidden layers but the first, while the "
        "whole gradient differs by powers of ten (narrow weights, at the least depth that does "
        "not train).",
        source="this book",
        effect="powers of ten between the smallest and the largest layer, of the whole gradient "
        "over the weights, minus the same of the differing part",
        unit=" decades",
        threshold=1.0,
        measure=_equally_small,
    ),
    Claim(
        id="sigmoid_depth.centred-trains",
        statement="Biases that make up for the sigmoids' mean of one half let a network train at "
        f"the least depth at which Xavier's weights alone do not ({CONDITIONS}).",
        source="this book",
        effect="final test accuracy of the centred network there, minus 80 %",
        unit=" points",
        threshold=0.0,
        measure=_trains_where_other_stops("centred", "xavier"),
    ),
    Claim(
        id="sigmoid_depth.once-trains",
        statement="A single batch normalization, in front of the last sigmoid, lets the narrow "
        f"network train at the least depth at which it does not without ({CONDITIONS}).",
        source="this book",
        effect="final test accuracy with the one normalization there, minus 80 %",
        unit=" points",
        threshold=0.0,
        measure=_trains_where_other_stops("once", "narrow"),
    ),
    Claim(
        id="sigmoid_depth.bn-trains-24",
        statement="With batch normalization in every hidden layer, 24 hidden layers still train "
        f"({CONDITIONS}).",
        source="this book",
        effect="final test accuracy at depth 24, minus 80 %",
        unit=" points",
        threshold=0.0,
        measure=_trains_at("bn", 24),
    ),
    Claim(
        id="sigmoid_depth.bn-gradient-grows",
        statement="Before training, the gradient grows on its way back through the layers of a "
        "network with batch normalization (from the last sigmoid's output to the first's; 24 "
        "hidden layers, live 8; narrow weights).",
        source="yang2019, abstract",
        effect="gradient that arrives at the first sigmoid / at the last",
        unit="x",
        threshold=1.0,
        measure=_grows_backward,
    ),
)


def recorded(folder: Path) -> Result:
    """The recorded result in a folder such as the book's `results`."""
    return records.result(folder, NAME, Result)
