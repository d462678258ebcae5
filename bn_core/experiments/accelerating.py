"""Section 4.2 in miniature: which part of "14 times fewer steps" is batch normalization?

The paper's protocol on a small convolutional network and Fashion-MNIST. A baseline without batch
normalization is trained at the rate that is best for it. Then come the paper's variants: the same
with five times the rate, with batch normalization at the same, five and thirty times the rate, and
with sigmoids. Each is asked for the steps that it takes to the *baseline's* best test accuracy, and
for its own best.

Two stages. First the network without batch normalization is trained at every rate of a grid, and
the rate with the highest accuracy on held-out training images at the end becomes the baseline's.
Then everything else is trained, rates in multiples of that one; batch normalization at the rates of
the grid, too, so that each network can be compared at each rate.

Everything has stochastic gradient descent with momentum 0.9, mini-batches of 32 as in the paper,
and a rate that decays exponentially. Of the paper's seven modifications four have no counterpart
here: there is no Dropout, weight decay, local response normalization or distortion of images to
take away. A fifth is made in every network: each epoch has a new random order. The other two are
the higher rate and the faster decay; the arms that end in "-decay" have both.

The grid of rates was chosen after looking at seed 100, trained without batch normalization for
1,200 steps at a constant rate of 0.01, 0.03 and 0.1, before any run recorded here. The number of
steps and the size of the decay were not tried out. The rate that was chosen is the highest of the
grid; above it only five and thirty times as much were trained. At live scale the rate is fixed:
with seeds 100 to 102 it was the lowest whose held-out accuracy was within a point of the best (of
0.06, 0.12, 0.2 and 0.3; the best was 0.12). The test images take no part in choosing the baseline's
rate. They do choose the fastest rate, in favour of the network without batch normalization.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from bn_core.experiments import records
from bn_core.experiments.claims import Claim, Effect
from bn_core.experiments.registry import choose_seeds
from bn_core.lab.data import ImageSet, load
from bn_core.lab.models import convolutional_network
from bn_core.lab.stack import Stack
from bn_core.lab.sweeps import Report, run_all
from bn_core.lab.training import accuracy, predict, train_stack
from bn_core.layers import BatchNorm2d

NAME = "accelerating"
TITLE = "Steps to the baseline's best accuracy, and best accuracy (Figure 3)"
BATCH_SIZE = 32  # section 4.2
MOMENTUM = 0.9
CHANCE = 0.1  # of ten classes
LAST_SHARE = 1 / 30
"""The share of the learning rate that is left at the end of training."""

FASTER = 6  # section 4.2.1: how many times faster the rate decays in BN-x5 and BN-x30
CHANNELS = {3: (8, 8, 16), 6: (8, 8, 16, 16, 16, 16)}
"""Feature maps by the number of convolutions."""


@dataclass(frozen=True)
class Arm:
    """One network at one setting.

    Attributes:
        batch_norm: with batch normalization, between each convolution and its nonlinearity.
        lr: learning rate at the first step.
        activation: "ReLU" or "Sigmoid".
        convolutions: how many, a key of `CHANNELS`.
        decay: how many times faster than the baseline's the rate decays.
    """

    batch_norm: bool
    lr: float
    activation: str = "ReLU"
    convolutions: int = 3
    decay: int = 1


def protocol(rate: float) -> dict[str, Arm]:
    """The arms by the names of the paper, where it has them.

    Args:
        rate: the baseline's learning rate, positive.
    """
    five, thirty = _times(rate, 5), _times(rate, 30)
    return {
        "Baseline": Arm(False, rate),
        "Baseline-x5": Arm(False, five),
        "BN-Baseline": Arm(True, rate),
        "BN-x5": Arm(True, five),
        "BN-x30": Arm(True, thirty),
        "BN-x5-Sigmoid": Arm(True, five, "Sigmoid"),
        "Sigmoid": Arm(False, rate, "Sigmoid"),
        "Sigmoid-x5": Arm(False, five, "Sigmoid"),
        "Baseline-decay": Arm(False, rate, decay=FASTER),
        "BN-x5-decay": Arm(True, five, decay=FASTER),
        "BN-x30-decay": Arm(True, thirty, decay=FASTER),
        "Deep-BN-x5-Sigmoid": Arm(True, five, "Sigmoid", convolutions=6),
        "Deep-Sigmoid": Arm(False, rate, "Sigmoid", convolutions=6),
    }


@dataclass(frozen=True)
class Scale:
    """The size of a run.

    Attributes:
        data: name of the image set.
        hold_out: number of training images kept to choose the baseline's rate.
        steps: of training.
        records: as many evaluations as there would be at the spacing of the beginning.
        rates: to choose the baseline's from; at paper scale the network with batch normalization
            is trained at them, too.
        seeds: how many, unless told otherwise.
    """

    data: str
    hold_out: int
    steps: int
    records: int
    rates: tuple[float, ...]
    seeds: int


SCALES = {
    "live": Scale("mnist-5k", hold_out=500, steps=240, records=40, rates=(0.06,), seeds=3),
    "paper": Scale(
        "fashion-mnist",
        hold_out=10_000,
        steps=4_000,
        records=80,
        rates=(0.0025, 0.005, 0.01, 0.02, 0.04),
        seeds=5,
    ),
}


@dataclass(frozen=True)
class Run:
    """What was measured while one network was trained.

    Attributes:
        arm: the network and its setting.
        seed: of weights and batch order.
        steps: (records,) steps at which the accuracy was measured.
        accuracy: (records,) test accuracy in [0, 1], in inference mode, of all test images.
        held_out: accuracy on the held-out training images at the end; chance after divergence.
        diverged_at: step at which the loss was no longer finite, or None.
        seconds: wall time of the arm's networks, divided by their number.
    """

    arm: Arm
    seed: int
    steps: list[int]
    accuracy: list[float]
    held_out: float
    diverged_at: int | None
    seconds: float

    @property
    def best(self) -> float:
        """Highest test accuracy of all records, so a maximum over many noisy values."""
        return max(self.accuracy, default=CHANCE)

    @property
    def final(self) -> float:
        """Test accuracy at the end; chance after divergence."""
        return self.accuracy[-1] if self.diverged_at is None else CHANCE

    def steps_to(self, target: float) -> int | None:
        """First recorded step at which the test accuracy was at least `target`, or None."""
        reached = (s for s, a in zip(self.steps, self.accuracy, strict=True) if a >= target)
        return next(reached, None)


@dataclass(frozen=True)
class Result:
    """All runs of one scale.

    Attributes:
        scale: "live" or "paper".
        seeds: the seeds.
        rate: the baseline's learning rate.
        runs: one for each arm and seed.
        provenance: what it was made with, see `bn_core.experiments.records.provenance`.
    """

    scale: str
    seeds: tuple[int, ...]
    rate: float
    runs: tuple[Run, ...]
    provenance: dict[str, Any]

    def of(self, arm: Arm | str) -> list[Run]:
        """The runs of one arm, or of a name of `protocol`, in the order of the seeds."""
        wanted = protocol(self.rate)[arm] if isinstance(arm, str) else arm
        return [run for run in self.runs if run.arm == wanted]

    def one(self, arm: Arm | str, seed: int) -> Run:
        """The run of one arm and seed.

        Raises:
            KeyError: there is none.
        """
        for run in self.of(arm):
            if run.seed == seed:
                return run
        raise KeyError(f"accelerating: there is no run of arm {arm!r} with seed {seed}")

    def target(self, seed: int) -> float:
        """The best test accuracy of the baseline with this seed."""
        return self.one("Baseline", seed).best

    def steps(self, arm: Arm | str, seed: int) -> int | None:
        """Steps to the baseline's best accuracy, or None."""
        return self.one(arm, seed).steps_to(self.target(seed))

    def rates(self, batch_norm: bool) -> list[float]:
        """Rates of the runs with ReLU, three convolutions and the baseline's decay, ascending."""
        return sorted({r.arm.lr for r in self.runs if r.arm == Arm(batch_norm, r.arm.lr)})

    def held_out(self) -> dict[float, float]:
        """Mean held-out accuracy over the seeds without batch normalization, for each rate."""
        return {
            lr: float(np.mean([run.held_out for run in self.of(Arm(False, lr))]))
            for lr in self.rates(False)
        }

    def fastest(self, batch_norm: bool) -> Arm:
        """The arm of `rates` with the fewest steps to the target on average.

        A seed that never gets there counts as twice the length of training.
        """

        def mean_steps(arm: Arm) -> float:
            never = 2 * SCALES[self.scale].steps
            return float(np.mean([self.steps(arm, seed) or never for seed in self.seeds]))

        return min((Arm(batch_norm, lr) for lr in self.rates(batch_norm)), key=mean_steps)


def run(
    scale: str = "live",
    seeds: Sequence[int] | None = None,
    progress: bool = False,
    resume: Path | None = None,
) -> Result:
    """Find the baseline's rate, then train every arm with every seed.

    Args:
        scale: "live" (embedded digits, seconds) or "paper" (Fashion-MNIST, 4,000 steps).
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
    _, test = _images(size.data, size.hold_out)  # here first, so that its failure happens once
    label = f"{NAME}, {scale} scale" if progress else None

    def train(arms: Sequence[Arm]) -> list[Run]:
        by_arm = run_all(
            _run_arm,
            [(arm, seeds, size) for arm in arms],
            steps=size.steps,
            progress=label,
            resume=resume,
        )
        return [run for by_seed in by_arm for run in by_seed]

    with records.provenance(test) as provenance:
        plain = [Arm(False, lr) for lr in size.rates]
        runs = train(plain)
        rate = best_rate(runs)
        left = dict.fromkeys(  # without repetitions, those that take long first
            [
                *(Arm(True, lr) for lr in size.rates if scale == "paper"),  # for the map alone
                *sorted(protocol(rate).values(), key=lambda arm: not arm.batch_norm),
                *([Arm(False, _times(rate, 30))] if scale == "paper" else []),
            ]
        )
        runs += train([arm for arm in left if arm not in plain])
    return Result(scale, seeds, rate, tuple(runs), provenance)


def best_rate(runs: Sequence[Run]) -> float:
    """The rate of the highest held-out accuracy, on average over the seeds.

    Args:
        runs: that differ in rate and seed; at least one.
    """
    by_rate: dict[float, list[float]] = {}
    for each in runs:
        by_rate.setdefault(each.arm.lr, []).append(each.held_out)
    return max(by_rate, key=lambda lr: float(np.mean(by_rate[lr])))


def decayed(rate: float, step: int, steps: int, faster: float = 1) -> float:
    """The learning rate of one step: exponential decay.

    Args:
        rate: of the first step.
        step: from 1.
        steps: of training.
        faster: how many times faster than to `LAST_SHARE` of the rate after `steps` steps.
    """
    return float(rate * LAST_SHARE ** (faster * (step - 1) / steps))


def record_at(size: Scale) -> list[int]:
    """Steps to measure at: spaced by 1 / `records` of the training, and later more widely.

    The spacing doubles after 15 % and again after half of the training.
    """
    unit = size.steps / size.records
    at, places = 0.0, []
    while at < size.records:
        share = at / size.records
        at += 1 if share < 0.15 else 2 if share < 0.5 else 4
        places.append(min(round(at * unit), size.steps))
    return places


def network(arm: Arm, seed: int) -> nn.Sequential:
    """The untrained network of an arm and seed."""
    return convolutional_network(
        BatchNorm2d if arm.batch_norm else None,
        activation={"ReLU": nn.ReLU, "Sigmoid": nn.Sigmoid}[arm.activation],
        channels=CHANNELS[arm.convolutions],
        generator=torch.Generator().manual_seed(seed),
    )


def _run_arm(job: tuple[Arm, tuple[int, ...], Scale], report: Report) -> list[Run]:
    """Train one network for each seed and watch them. Arms of a seed share weights and orders."""
    arm, seeds, size = job
    started = time.perf_counter()
    split, test = _images(size.data, size.hold_out)
    stack = Stack([network(arm, seed) for seed in seeds])
    networks = [stack.unstack(s) for s in range(len(seeds))]
    optimizer = torch.optim.SGD(stack.parameters(), lr=arm.lr, momentum=MOMENTUM)

    def set_rate(step: int) -> None:
        optimizer.param_groups[0]["lr"] = decayed(arm.lr, step, size.steps, arm.decay)

    def scored(each: nn.Module, images: ImageSet) -> float:
        # A thousand at a time: their feature maps fit into the processor's cache.
        return accuracy(predict(each, images.test_images, 1_000), images.test_labels)

    def watch(step: int) -> list[dict[str, float]]:
        last = step == size.steps
        return [
            {
                "accuracy": scored(each, test),
                "held_out": scored(each, split) if last else math.nan,
            }
            for each in networks
        ]

    trainings = train_stack(
        stack,
        split.train_images,
        split.train_labels,
        optimizer,
        steps=size.steps,
        batch_size=BATCH_SIZE,
        generators=[torch.Generator().manual_seed(seed) for seed in seeds],
        schedule=set_rate,
        watch=watch,
        watch_at=record_at(size),
        report=report,
        checkpoint=report.checkpoint,
    )
    seconds = round((time.perf_counter() - started) / len(seeds), 1)
    return [
        Run(
            arm=arm,
            seed=seed,
            steps=training.steps,
            accuracy=[round(a, 4) for a in training.measured.get("accuracy", [])],
            held_out=CHANCE
            if training.diverged_at is not None
            else round(training.measured["held_out"][-1], 4),
            diverged_at=training.diverged_at,
            seconds=seconds,
        )
        for seed, training in zip(seeds, trainings, strict=True)
    ]


@lru_cache(maxsize=1)
def _images(name: str, hold_out: int) -> tuple[ImageSet, ImageSet]:
    """To train on, with the held-out images as test part; and the set with its own test part."""
    whole = load(name)
    return whole.hold_out(hold_out), whole


def _times(rate: float, factor: int) -> float:
    """A multiple of a rate to six digits, so that equal multiples are equal numbers."""
    return float(f"{factor * rate:.6g}")


def _steps(slow: str, fast: str) -> Callable[[Result, int], Effect]:
    """Steps of one arm to the baseline's best accuracy over those of the other."""

    def measure(result: Result, seed: int) -> Effect:
        return _steps_ratio(result, result.one(slow, seed), result.one(fast, seed))

    return measure


def _steps_ratio(result: Result, slow: Run, fast: Run) -> Effect:
    seed, target = slow.seed, result.target(slow.seed)
    slow_steps, fast_steps = slow.steps_to(target), fast.steps_to(target)
    most = SCALES[result.scale].steps
    if slow_steps is None and fast_steps is None:
        return Effect(seed, math.nan)
    if slow_steps is None:
        return Effect(seed, most / (fast_steps or 1), "at least")
    if fast_steps is None:
        return Effect(seed, slow_steps / most, "at most")
    first = fast.steps[0]
    if slow_steps == fast_steps == first:
        return Effect(seed, math.nan)  # both were there before the first record
    # Who is there at the first record may have been there sooner.
    bound = "at least" if fast_steps == first else ""
    return Effect(seed, slow_steps / fast_steps, bound)


def _against_fastest(fast: str) -> Callable[[Result, int], Effect]:
    """Steps of the fastest network without batch normalization over those of an arm."""

    def measure(result: Result, seed: int) -> Effect:
        slow = result.one(result.fastest(batch_norm=False), seed)
        return _steps_ratio(result, slow, result.one(fast, seed))

    return measure


def _gain(high: str, low: str) -> Callable[[Result, int], Effect]:
    """Best test accuracy of one arm minus the other's, in percentage points."""

    def measure(result: Result, seed: int) -> Effect:
        return Effect(seed, 100 * (result.one(high, seed).best - result.one(low, seed).best))

    return measure


def _below(percent: float, arm: str) -> Callable[[Result, int], Effect]:
    """How far the best test accuracy of an arm is below some percentage."""

    def measure(result: Result, seed: int) -> Effect:
        return Effect(seed, percent - 100 * result.one(arm, seed).best)

    return measure


def _collapse(result: Result, seed: int) -> Effect:
    return Effect(seed, result.one("Baseline", seed).final / result.one("Baseline-x5", seed).final)


def _hurt(result: Result, seed: int) -> Effect:
    return Effect(
        seed, 100 * (result.one("Baseline", seed).final - result.one("Baseline-x5", seed).final)
    )


def _larger_part(result: Result, seed: int) -> Effect:
    """Factor of the higher rate over factor of batch normalization alone."""
    base, same, five = (result.steps(arm, seed) for arm in ("Baseline", "BN-Baseline", "BN-x5"))
    if base is None or same is None or five is None:
        return Effect(seed, math.nan)
    return Effect(seed, (same / five) / (base / same))


HERE = (
    "(three convolutions, momentum 0.9, the baseline's rate chosen from a grid, decaying rate, at "
    "most 4,000 steps)"
)
TO_BEST = "to the baseline's best test accuracy"

CLAIMS: tuple[Claim[Result], ...] = (
    Claim(
        id="accelerating.bn-alone",
        statement="At the baseline's own rate, batch normalization alone reaches the baseline's "
        f"best accuracy in fewer steps {HERE}.",
        source="ioffe2015, Figure 3",
        effect=f"steps of Baseline / steps of BN-Baseline {TO_BEST}",
        unit="x",
        threshold=1.0,
        measure=_steps("Baseline", "BN-Baseline"),
    ),
    Claim(
        id="accelerating.plain-x5-hurts",
        statement="Without batch normalization, five times the rate ends at a lower accuracy "
        f"{HERE}.",
        source="ioffe2015, section 4.2.2",
        effect="final test accuracy of Baseline minus that of Baseline-x5",
        unit=" points",
        threshold=0.0,
        measure=_hurt,
    ),
    Claim(
        id="accelerating.plain-x5-fails",
        statement="Without batch normalization, training at five times the rate fails outright "
        f"{HERE}.",
        source="ioffe2015, section 4.2.2",
        effect="final test accuracy of Baseline / that of Baseline-x5, which is 10 % after "
        "divergence",
        unit="x",
        threshold=2.0,
        measure=_collapse,
    ),
    Claim(
        id="accelerating.x5-faster",
        statement="With batch normalization, five times the rate reaches the baseline's best "
        f"accuracy in fewer steps than the same rate {HERE}.",
        source="ioffe2015, Figure 3",
        effect=f"steps of BN-Baseline / steps of BN-x5 {TO_BEST}",
        unit="x",
        threshold=1.0,
        measure=_steps("BN-Baseline", "BN-x5"),
    ),
    Claim(
        id="accelerating.14-times",
        statement="Batch normalization at five times the rate needs 14 times fewer steps than the "
        f"baseline {HERE}.",
        source="ioffe2015, section 4.2.2",
        effect=f"steps of Baseline / steps of BN-x5 {TO_BEST}",
        unit="x",
        threshold=14.0,
        measure=_steps("Baseline", "BN-x5"),
    ),
    Claim(
        id="accelerating.14-times-decay",
        statement="Batch normalization at five times the rate, and with the rate decaying six "
        f"times faster as in the paper, needs 14 times fewer steps than the baseline {HERE}.",
        source="ioffe2015, section 4.2.2",
        effect=f"steps of Baseline / steps of BN-x5-decay {TO_BEST}",
        unit="x",
        threshold=14.0,
        measure=_steps("Baseline", "BN-x5-decay"),
    ),
    Claim(
        id="accelerating.x30-slower",
        statement="With batch normalization, thirty times the rate needs more steps to the "
        f"baseline's best accuracy than five times {HERE}.",
        source="ioffe2015, Figure 3",
        effect=f"steps of BN-x30 / steps of BN-x5 {TO_BEST}",
        unit="x",
        threshold=1.0,
        measure=_steps("BN-x30", "BN-x5"),
    ),
    Claim(
        id="accelerating.x30-higher",
        statement="With batch normalization, thirty times the rate reaches a higher accuracy than "
        f"five times {HERE}.",
        source="ioffe2015, Figure 3",
        effect="best test accuracy of BN-x30 minus that of BN-x5",
        unit=" points",
        threshold=0.0,
        measure=_gain("BN-x30", "BN-x5"),
    ),
    Claim(
        id="accelerating.bn-higher",
        statement="At the baseline's rate, batch normalization reaches a higher accuracy than the "
        f"baseline {HERE}.",
        source="ioffe2015, Figure 3",
        effect="best test accuracy of BN-Baseline minus that of Baseline",
        unit=" points",
        threshold=0.0,
        measure=_gain("BN-Baseline", "Baseline"),
    ),
    Claim(
        id="accelerating.x5-higher",
        statement="Batch normalization at five times the rate reaches a higher accuracy than at "
        f"the baseline's {HERE}.",
        source="ioffe2015, Figure 3",
        effect="best test accuracy of BN-x5 minus that of BN-Baseline",
        unit=" points",
        threshold=0.0,
        measure=_gain("BN-x5", "BN-Baseline"),
    ),
    Claim(
        id="accelerating.bn-sigmoid",
        statement="With sigmoids, the normalized network at five times the rate reaches a higher "
        f"accuracy than the other at the baseline's {HERE}.",
        source="ioffe2015, section 4.2.2",
        effect="best test accuracy of BN-x5-Sigmoid minus that of Sigmoid",
        unit=" points",
        threshold=0.0,
        measure=_gain("BN-x5-Sigmoid", "Sigmoid"),
    ),
    Claim(
        id="accelerating.sigmoid-chance",
        statement="With sigmoids and without batch normalization the network stays near chance "
        f"{HERE}.",
        source="ioffe2015, section 4.2.2",
        effect="20 % minus the best test accuracy of Sigmoid",
        unit=" points",
        threshold=0.0,
        measure=_below(20, "Sigmoid"),
    ),
    Claim(
        id="accelerating.deep-sigmoid-chance",
        statement="With six convolutions in place of three, sigmoids and no batch normalization, "
        "the network stays near chance (momentum 0.9, decaying rate).",
        source="this book",
        effect="20 % minus the best test accuracy of Deep-Sigmoid",
        unit=" points",
        threshold=0.0,
        measure=_below(20, "Deep-Sigmoid"),
    ),
    Claim(
        id="accelerating.deep-bn-sigmoid",
        statement="With six convolutions, sigmoids and batch normalization at five times the rate, "
        "the network reaches at least 30 points more (momentum 0.9, decaying rate).",
        source="this book",
        effect="best test accuracy of Deep-BN-x5-Sigmoid minus that of Deep-Sigmoid",
        unit=" points",
        threshold=30.0,
        measure=_gain("Deep-BN-x5-Sigmoid", "Deep-Sigmoid"),
    ),
    Claim(
        id="accelerating.rate-is-larger-part",
        statement="Of the factor between Baseline and BN-x5, the higher rate is the larger part "
        f"and batch normalization alone the smaller {HERE}.",
        source="ioffe2015, Figure 3",
        effect="(steps of BN-Baseline / steps of BN-x5) / (steps of Baseline / steps of "
        f"BN-Baseline) {TO_BEST}",
        unit="",
        threshold=1.0,
        measure=_larger_part,
    ),
    Claim(
        id="accelerating.against-fastest",
        statement="Against the network without batch normalization at the rate that gets it to the "
        f"baseline's best accuracy soonest, BN-x5 still needs fewer steps {HERE}.",
        source="this book",
        effect="fewest mean steps without BN over the rates / steps of BN-x5, to the baseline's "
        "best test accuracy",
        unit="x",
        threshold=1.0,
        measure=_against_fastest("BN-x5"),
    ),
    Claim(
        id="accelerating.decay-faster",
        statement="At five times the rate and with batch normalization, a rate that decays six "
        f"times faster saves steps {HERE}.",
        source="this book",
        effect=f"steps of BN-x5 / steps of BN-x5-decay {TO_BEST}",
        unit="x",
        threshold=1.0,
        measure=_steps("BN-x5", "BN-x5-decay"),
    ),
)


def recorded(folder: Path) -> Result:
    """The recorded result in a folder such as the book's `results`."""
    return records.result(folder, NAME, Result)
