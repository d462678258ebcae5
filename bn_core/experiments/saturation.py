"""How much gradient passes a stack of sigmoids, and which weights let it pass.

Three parts. *By depth*: networks of 1 to 12 hidden layers from four initializations; how much of
each example's gradient gets from the last hidden layer to the first. *By weight scale*: the same at
fixed depth for weights from far too small to far too large, at three widths, with the share of
pre-activations in the dead zone beside what a Gaussian would have there. *In training*: networks of
3 and 6 hidden layers, trained with plain stochastic gradient descent at learning rate 0.1, the
shared setting of `figure1`.

The grids of weight scales, depths and the number of training steps were chosen in a pilot with
seeds 100 and above, before any run recorded here. The dead zone is where the derivative is below a
tenth of its maximum, as everywhere in the book.
"""

import math
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
from bn_core.lab.probes import Passage, gaussian_share_beyond, passage, steep_interval
from bn_core.lab.stack import Stack
from bn_core.lab.sweeps import Report, run_all
from bn_core.lab.training import accuracy, predict, train_stack

Measured = TypeVar("Measured")

NAME = "saturation"
TITLE = "Gradient survival and saturation of sigmoid networks"
WIDTH = 100
LR = 0.1
BATCH_SIZE = 60
DEPTHS = tuple(range(1, 13))
STDS = (0.01, 0.03, 0.1, 0.2, 0.4, 0.7, 1.0, 1.5, 2.0, 3.0, 4.5, 7.0, 10.0, 15.0, 22.0, 33.0)
# Of the sweep over STDS: depth and width.
SHAPES = ((3, WIDTH), (6, WIDTH), (12, WIDTH), (6, 25), (6, 400))
TRAINED_DEPTHS = (3, 6)
_interval = steep_interval(nn.Sigmoid())
assert _interval is not None
EDGE = _interval[1]  # of the dead zone: 3.637


@dataclass(frozen=True)
class Init:
    """How the weights of a network are drawn.

    Attributes:
        name: short name.
        init_std: standard deviation of all weights; 0 for Xavier's rule.
        slope: that Xavier's rule is told; 0 for one standard deviation.
        centred: whether biases make up for the sigmoids' mean of 1/2.
    """

    name: str
    init_std: float = 0.0
    slope: float = 0.0
    centred: bool = False

    def network(self, depth: int, width: int, seed: int) -> nn.Sequential:
        """The network of a depth, width and seed."""
        rule = partial(xavier_std, slope=self.slope) if self.slope else self.init_std
        generator = torch.Generator().manual_seed(seed)
        network = sigmoid_network(depth, width=width, init_std=rule, generator=generator)
        return centre_on_half(network) if self.centred else network


INITS = (
    Init("narrow", init_std=0.1),
    Init("wide", init_std=1.0),
    Init("xavier", slope=0.25),
    Init("centred", slope=0.25, centred=True),
)
TRAINED = ("narrow", "wide", "xavier")
# Trained at paper scale only: no claim is about it, and it would be a fifth of the live training.
PAPER_ONLY = (("wide", 6),)


@dataclass(frozen=True)
class Scale:
    """The size of a run.

    Attributes:
        data: name of the image set.
        examples: test digits that gradients and shares are measured on.
        steps: of training.
        target: test accuracy that steps are counted to.
        seeds: how many, unless told otherwise.
    """

    data: str
    examples: int
    steps: int
    target: float
    seeds: int


SCALES = {
    "live": Scale(data="mnist-5k", examples=200, steps=1_600, target=0.70, seeds=3),
    "paper": Scale(data="mnist", examples=2_000, steps=8_000, target=0.90, seeds=5),
}


@dataclass(frozen=True)
class Start:
    """An untrained network of some depth.

    Attributes:
        init: name of its initialization.
        depth: number of hidden layers.
        seed: of its weights.
        survival: median over the examples of the part of the gradient that passes all sigmoids and
            the weights between them.
        path: geometric mean over the examples of the product of sigmoid derivatives, averaged over
            all paths: what the derivatives alone let pass.
        bound: on the survival of every example, see `product_bound`.
    """

    init: str
    depth: int
    seed: int
    survival: float
    path: float
    bound: float


@dataclass(frozen=True)
class Scaled:
    """An untrained network with weights of some standard deviation.

    Attributes:
        init_std: the standard deviation.
        depth: number of hidden layers.
        width: of each.
        seed: of the weights.
        survival: as in `Start`; over the examples whose gradient is not exactly 0 at its outset.
        rms: the same as a root of mean squares: norm of all examples' gradients that leave over
            norm of those that arrive.
        saturated: (layers,) share of the pre-activations in the dead zone.
        predicted: (layers,) the share that Gaussian pre-activations would have, from the norms of
            what the layer was given.
    """

    init_std: float
    depth: int
    width: int
    seed: int
    survival: float
    rms: float
    saturated: list[float]
    predicted: list[float]


@dataclass(frozen=True)
class Trained:
    """A network while it is trained.

    Attributes:
        init: name of its initialization.
        depth: number of hidden layers.
        seed: of weights and batch order.
        steps: (records,) steps at which everything below was measured.
        accuracy: (records,) test accuracy in [0, 1].
        saturated: (records, layers) share of the pre-activations in the dead zone.
        survival: (records,) as in `Start`.
        diverged_at: step at which the loss was no longer finite, or None.
    """

    init: str
    depth: int
    seed: int
    steps: list[int]
    accuracy: list[float]
    saturated: list[list[float]]
    survival: list[float]
    diverged_at: int | None

    def steps_to(self, target: float) -> int | None:
        """First recorded step at which the test accuracy was at least `target`, or None."""
        reached = (s for s, a in zip(self.steps, self.accuracy, strict=True) if a >= target)
        return next(reached, None)


@dataclass(frozen=True)
class Result:
    """All measurements of one scale.

    Attributes:
        scale: "live" or "paper".
        seeds: the seeds.
        inits: the initializations of `starts` and `trained`.
        starts: one for each initialization, depth and seed.
        scaled: one for each standard deviation, shape and seed.
        trained: one for each trained initialization, depth and seed; at live scale without
            `PAPER_ONLY`.
        provenance: what it was made with, see `bn_core.experiments.records.provenance`.
    """

    scale: str
    seeds: tuple[int, ...]
    inits: tuple[Init, ...]
    starts: tuple[Start, ...]
    scaled: tuple[Scaled, ...]
    trained: tuple[Trained, ...]
    provenance: dict[str, Any]

    def start(self, init: str, depth: int, seed: int) -> Start:
        """One of `starts`."""
        return _only(s for s in self.starts if (s.init, s.depth, s.seed) == (init, depth, seed))

    def sweep(self, depth: int, width: int, seed: int) -> list[Scaled]:
        """Those of `scaled` that have this shape and seed, by ascending standard deviation."""
        return [s for s in self.scaled if (s.depth, s.width, s.seed) == (depth, width, seed)]

    def training(self, init: str, depth: int, seed: int) -> Trained:
        """One of `trained`."""
        return _only(t for t in self.trained if (t.init, t.depth, t.seed) == (init, depth, seed))


def run(
    scale: str = "live",
    seeds: Sequence[int] | None = None,
    progress: bool = False,
    resume: Path | None = None,
) -> Result:
    """Measure networks before training, by depth and by weight scale, and train some.

    Args:
        scale: "live" (embedded digits, seconds) or "paper" (full MNIST, minutes).
        seeds: by default 0, 1, 2 at live scale and 0 to 4 at paper scale.
        progress: show progress bars on stderr.
        resume: folder in which finished parts and checkpoints are kept and found again; None for
            none.

    Raises:
        ValueError: an unknown scale, or no seed.
        bn_core.lab.data.DataError: the data are not to be had.
    """
    seeds = choose_seeds(NAME, scale, SCALES, seeds)
    size = SCALES[scale]
    data = _digits(size.data)  # here first, so that a download or its failure happens once
    label = f"{NAME}, {scale} scale" if progress else None
    with records.provenance(data) as provenance:
        measured = run_all(
            _measure, [(seed, size) for seed in seeds], steps=1, progress=label, resume=resume
        )
        by_arm = run_all(
            _train,
            [
                (init, depth, seeds, size)
                for init in TRAINED
                for depth in TRAINED_DEPTHS
                if scale == "paper" or (init, depth) not in PAPER_ONLY
            ],
            steps=size.steps,
            progress=label,
            resume=resume,
        )
    return Result(
        scale=scale,
        seeds=seeds,
        inits=INITS,
        starts=tuple(start for starts, _ in measured for start in starts),
        scaled=tuple(scaled for _, by_std in measured for scaled in by_std),
        trained=tuple(trained for arm in by_arm for trained in arm),
        provenance=provenance,
    )


def product_bound(network: nn.Sequential) -> float:
    """The most that any example's gradient can keep, from the last sigmoid to the first.

    A quarter for each of the L sigmoids, times the operator norms of the L - 1 weight matrices
    between them.

    Args:
        network: as `bn_core.lab.models.sigmoid_network` makes it.
    """
    matrices = [layer.weight.detach() for layer in network if isinstance(layer, nn.Linear)]
    between = matrices[1:-1]  # not the first, in front of all sigmoids, nor the last, behind them
    norms = [float(torch.linalg.matrix_norm(matrix, 2)) for matrix in between]
    return math.prod(norms) * 0.25 ** (len(between) + 1)


def _measure(job: tuple[int, Scale], _report: Report) -> tuple[list[Start], list[Scaled]]:
    """Everything about untrained networks of one seed."""
    seed, size = job
    data = _digits(size.data)
    images = data.test_images[: size.examples].double()
    labels = data.test_labels[: size.examples]
    starts = []
    for init in INITS:
        for depth in DEPTHS:
            network = init.network(depth, WIDTH, seed).double()
            passed = passage(network, images, labels, _sigmoids(depth))
            starts.append(
                Start(
                    init=init.name,
                    depth=depth,
                    seed=seed,
                    survival=_short(passed.survival.nanmedian()),
                    path=_short(passed.path_mean.log().mean().exp()),
                    bound=_short(product_bound(network)),
                )
            )
    scaled = []
    for depth, width in SHAPES:
        for std in STDS:
            network = Init("", init_std=std).network(depth, width, seed).double()
            passed = passage(network, images, labels, _sigmoids(depth))
            given = [images.flatten(1), *(x.sigmoid() for x in passed.inputs[:-1])]
            predicted = [gaussian_share_beyond(EDGE, std * z.norm(dim=1)).mean() for z in given]
            scaled.append(
                Scaled(
                    init_std=std,
                    depth=depth,
                    width=width,
                    seed=seed,
                    survival=_short(passed.survival.nanmedian()),
                    rms=_short(passed.left.norm() / passed.arriving.norm()),
                    saturated=_saturated(passed),
                    predicted=[_short(share) for share in predicted],
                )
            )
    return starts, scaled


def _train(job: tuple[str, int, tuple[int, ...], Scale], report: Report) -> list[Trained]:
    """Train one network for each seed."""
    name, depth, seeds, size = job
    data = _digits(size.data)
    images, labels = data.test_images[: size.examples], data.test_labels[: size.examples]
    init = next(each for each in INITS if each.name == name)
    stack = Stack([init.network(depth, WIDTH, seed) for seed in seeds])
    networks = [stack.unstack(s) for s in range(len(seeds))]

    def watch(_step: int) -> list[Mapping[str, Any]]:
        measured: list[Mapping[str, Any]] = []
        for network in networks:
            passed = passage(network, images, labels, _sigmoids(depth))
            measured.append(
                {
                    "accuracy": accuracy(predict(network, data.test_images), data.test_labels),
                    "saturated": np.array(_saturated(passed)),
                    "survival": _short(passed.survival.nanmedian()),
                }
            )
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
        watch_at=record_at(size.steps),
        report=report,
        checkpoint=report.checkpoint,
    )
    return [
        Trained(
            init=name,
            depth=depth,
            seed=seed,
            steps=training.steps,
            accuracy=[round(float(a), 4) for a in training.measured["accuracy"]],
            saturated=[row.tolist() for row in training.measured["saturated"]],
            survival=[float(s) for s in training.measured["survival"]],
            diverged_at=training.diverged_at,
        )
        for seed, training in zip(seeds, trainings, strict=True)
    ]


def record_at(steps: int) -> list[int]:
    """Steps to measure at: every 50 to 500, every 100 to 2,000, then every 250, and the last."""
    spaced = [*range(0, 500, 50), *range(500, 2_000, 100), *range(2_000, steps, 250)]
    return [step for step in spaced if step < steps] + [steps]


@lru_cache(maxsize=1)
def _digits(name: str) -> ImageSet:
    return load(name).binary()


def _sigmoids(depth: int) -> list[str]:
    return [f"sigmoid{i}" for i in range(1, depth + 1)]


def _saturated(passed: Passage) -> list[float]:
    return [_short((x.abs() > EDGE).double().mean()) for x in passed.inputs]


def _short(value: Any) -> float:
    """To four digits: all that a record needs."""
    return float(f"{float(value):.4g}")


def _only(found: Iterator[Measured]) -> Measured:
    matches = list(found)
    if len(matches) != 1:
        raise KeyError(f"{NAME}: {len(matches)} measurements match; expected 1")
    return matches[0]


def best_scale(sweep: Sequence[Scaled]) -> Scaled:
    """The network of a sweep in which the most gradient survives, by the median over examples."""
    return max(sweep, key=lambda each: -1.0 if math.isnan(each.survival) else each.survival)


def _start_ratio(
    first: tuple[str, int], second: tuple[str, int]
) -> Callable[[Result, int], Effect]:
    """Survival of one initialization and depth over that of another."""

    def measure(result: Result, seed: int) -> Effect:
        above, below = result.start(*first, seed), result.start(*second, seed)
        return Effect(seed, above.survival / below.survival)

    return measure


def _peak(result: Result, seed: int) -> Effect:
    sweep = result.sweep(6, WIDTH, seed)
    ends = [0.0 if math.isnan(s.survival) else s.survival for s in (sweep[0], sweep[-1])]
    highest = best_scale(sweep).survival
    return Effect(seed, highest / max(ends) if max(ends) > 0 else math.nan)


def _peak_clear(result: Result, seed: int) -> Effect:
    return Effect(
        seed, 50 - 100 * float(np.mean(best_scale(result.sweep(6, WIDTH, seed)).saturated))
    )


def _peak_moves(result: Result, seed: int) -> Effect:
    small, large = (best_scale(result.sweep(6, width, seed)) for width in (25, 400))
    return Effect(seed, large.init_std / small.init_std)


def _steps_ratio(slow: tuple[str, int], fast: tuple[str, int]) -> Callable[[Result, int], Effect]:
    """Steps of one network to the target over steps of another."""

    def measure(result: Result, seed: int) -> Effect:
        target = SCALES[result.scale].target
        slow_run, fast_run = (result.training(*which, seed) for which in (slow, fast))
        slow_steps, fast_steps = slow_run.steps_to(target), fast_run.steps_to(target)
        if slow_steps is None and fast_steps is None:
            return Effect(seed, math.nan)
        if slow_steps is None:
            return Effect(seed, slow_run.steps[-1] / (fast_steps or 1), "at least")
        if fast_steps is None:
            return Effect(seed, slow_steps / fast_run.steps[-1], "at most")
        return Effect(seed, slow_steps / fast_steps)

    return measure


def _share(trained: Trained, record: int) -> float:
    """Share in the dead zone at a record over all hidden layers, in percent."""
    return 100 * float(np.mean(trained.saturated[record]))


def _moved_in(result: Result, seed: int) -> Effect:
    trained = result.training("narrow", 3, seed)
    return Effect(seed, _share(trained, -1) - _share(trained, 0))


def _deeper_saturates(result: Result, seed: int) -> Effect:
    deep, shallow = (result.training("narrow", depth, seed) for depth in (6, 3))
    return Effect(seed, _share(deep, -1) - _share(shallow, -1))


def _waits_unsaturated(result: Result, seed: int) -> Effect:
    trained = result.training("narrow", 3, seed)
    waiting = [
        max(shares)
        for shares, reached in zip(trained.saturated, trained.accuracy, strict=True)
        if reached < 0.2
    ]
    return Effect(seed, 1 - 100 * max(waiting) if waiting else math.nan)


TO_TARGET = "to 70 % (live) or 90 % (paper) test accuracy"
CLAIMS: tuple[Claim[Result], ...] = (
    Claim(
        id="saturation.moves-in",
        statement="Training moves many pre-activations of a sigmoid network into the saturated "
        "regime (3 hidden layers taken together, narrow Gaussian weights, learning rate 0.1).",
        source="ioffe2015, section 1",
        effect="share of the pre-activations in the dead zone, end of training minus start",
        unit=" points",
        threshold=10.0,
        measure=_moved_in,
    ),
    Claim(
        id="saturation.deeper-saturates",
        statement="The deeper network ends with more of its pre-activations saturated (6 hidden "
        "layers against 3, narrow Gaussian weights, with which the deeper one does not learn at "
        "learning rate 0.1).",
        source="ioffe2015, section 1",
        effect="share of the pre-activations in the dead zone at the end of training, 6 hidden "
        "layers minus 3",
        unit=" points",
        threshold=0.0,
        measure=_deeper_saturates,
    ),
    Claim(
        id="saturation.deeper-is-slower",
        statement="The deeper network converges more slowly (6 hidden layers against 3, narrow "
        "Gaussian weights, learning rate 0.1).",
        source="ioffe2015, section 1",
        effect=f"steps with 6 hidden layers / steps with 3, {TO_TARGET}",
        unit="x",
        threshold=1.0,
        measure=_steps_ratio(("narrow", 6), ("narrow", 3)),
    ),
    Claim(
        id="saturation.saturated-is-slower",
        statement="A network that starts saturated converges more slowly (3 hidden layers, wide "
        "Gaussian weights against Xavier's with the sigmoid's slope, learning rate 0.1).",
        source="this book",
        effect=f"steps from wide weights / steps from Xavier's, {TO_TARGET}",
        unit="x",
        threshold=1.0,
        measure=_steps_ratio(("wide", 3), ("xavier", 3)),
    ),
    Claim(
        id="saturation.waits-unsaturated",
        statement="While the narrow network waits, with test accuracy below 20 %, hardly any of "
        "its pre-activations are saturated.",
        source="this book",
        effect="1 minus the highest share, in percent, of a hidden layer's pre-activations in the "
        "dead zone at a record with test accuracy below 20 %",
        unit=" points",
        threshold=0.0,
        measure=_waits_unsaturated,
    ),
    Claim(
        id="saturation.xavier-over-narrow",
        statement="At depth 12 more gradient survives from Xavier's weights, with the sigmoid's "
        "slope, than from narrow ones.",
        source="this book",
        effect="median survival from Xavier's weights / from narrow ones",
        unit="x",
        threshold=1.0,
        measure=_start_ratio(("xavier", 12), ("narrow", 12)),
    ),
    Claim(
        id="saturation.xavier-over-wide",
        statement="At depth 12 more gradient survives from Xavier's weights, with the sigmoid's "
        "slope, than from wide ones.",
        source="this book",
        effect="median survival from Xavier's weights / from wide ones",
        unit="x",
        threshold=1.0,
        measure=_start_ratio(("xavier", 12), ("wide", 12)),
    ),
    Claim(
        id="saturation.xavier-keeps",
        statement="From Xavier's weights, with the sigmoid's slope, the gradient keeps its size "
        "with depth: what survives 12 layers is at least half of what survives 6.",
        source="this book",
        effect="median survival at depth 12 / at depth 6",
        unit="",
        threshold=0.5,
        measure=_start_ratio(("xavier", 12), ("xavier", 6)),
    ),
    Claim(
        id="saturation.centred-keeps",
        statement="From the same weights, and biases that make up for the sigmoids' mean of one "
        "half, the gradient keeps its size: what survives 12 layers is at least half of what "
        "survives 6.",
        source="this book",
        effect="median survival at depth 12 / at depth 6",
        unit="",
        threshold=0.5,
        measure=_start_ratio(("centred", 12), ("centred", 6)),
    ),
    Claim(
        id="saturation.peaks",
        statement="Between weights that are too small and weights that are too large there is a "
        "scale at which the most gradient survives (6 hidden layers of 100, median example).",
        source="this book",
        effect="highest median survival over the scales / the higher of those at the two ends",
        unit="x",
        threshold=1.0,
        measure=_peak,
    ),
    Claim(
        id="saturation.peak-is-unsaturated",
        statement="At the scale of the weights at which the most gradient survives, fewer than "
        "half of the pre-activations are saturated (6 hidden layers of 100).",
        source="this book",
        effect="50 minus the share, in percent, in the dead zone at that scale",
        unit=" points",
        threshold=0.0,
        measure=_peak_clear,
    ),
    Claim(
        id="saturation.peak-moves",
        statement="In wider layers it takes larger weights for the most gradient to survive (6 "
        "hidden layers).",
        source="this book",
        effect="scale of the highest median survival in layers of 400 / in layers of 25",
        unit="x",
        threshold=1.0,
        measure=_peak_moves,
    ),
    Claim(
        id="saturation.xavier-fewer-steps-3",
        statement="With 3 hidden layers, Xavier's weights, with the sigmoid's slope, take fewer "
        "steps than narrow ones (learning rate 0.1).",
        source="this book",
        effect=f"steps from narrow weights / steps from Xavier's, {TO_TARGET}",
        unit="x",
        threshold=1.0,
        measure=_steps_ratio(("narrow", 3), ("xavier", 3)),
    ),
    Claim(
        id="saturation.xavier-fewer-steps-6",
        statement="With 6 hidden layers, Xavier's weights, with the sigmoid's slope, take fewer "
        "steps than narrow ones (learning rate 0.1).",
        source="this book",
        effect=f"steps from narrow weights / steps from Xavier's, {TO_TARGET}",
        unit="x",
        threshold=1.0,
        measure=_steps_ratio(("narrow", 6), ("xavier", 6)),
    ),
)


def recorded(folder: Path) -> Result:
    """The recorded result in a folder such as the book's `results`."""
    return records.result(folder, NAME, Result)
