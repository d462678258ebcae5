"""Does the noise of a batch help? Speed and generalization gap, with the noise turned up and down.

Networks of two hidden layers of ReLU units are trained on 5,000 images of clothes (4,000 digits at
live scale) with plain stochastic gradient descent, until most of them nearly memorize these. Five
parts, whose arms share what they can (live, one learning rate and one probability of Dropout):

*Rates*: with and without batch normalization, batches of 64, at several learning rates. *Dropout*:
the same two at `LR`, with Dropout after every hidden layer or after the last alone. *Batch size*:
the same two for as many epochs with batches from small to large, which changes the noise of the
statistics, that of the gradient and the number of steps. *Groups*: batches of 256 throughout, with
statistics of groups inside them, so that the noise of the statistics alone changes; and the noise
of the mean or of the variance taken away. *Mates*: what the trained network of batches of 64 says
of one test image among changing others.

All accuracies and losses are in evaluation mode with exact population statistics of the training
images, taken with Dropout off, unless a name says otherwise: so noisy or late running statistics
are not taken for an effect of batch size or of Dropout. Speed is the number of steps to a training
loss of 0.3, the gap is test loss minus training loss there, or one of accuracies at the end.

Rates, sizes, `LR`, the training loss at which arms are compared and the group of `ONE_AT_A_TIME`
were chosen in a pilot with seeds 100 and 101; all criteria were written after it and before the run
recorded here.
"""

import copy
import math
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bn_core.algorithms import population_variance
from bn_core.experiments import records
from bn_core.experiments.claims import Claim, Effect
from bn_core.experiments.registry import choose_seeds
from bn_core.lab.data import ImageSet, load
from bn_core.lab.dropout import Dropout
from bn_core.lab.models import dense_network
from bn_core.lab.probes import among_mates
from bn_core.lab.stack import Stack
from bn_core.lab.sweeps import Report, run_all
from bn_core.lab.training import accuracy, predict, train_stack
from bn_core.layers import BatchNorm, BatchNorm1d, GhostBatchNorm
from bn_core.surgery import recalibrate

Measured = TypeVar("Measured")

NAME = "regularization"
TITLE = "Speed, generalization gap and the noise of a batch"
WIDTHS = (784, 100, 100, 10)
LR = 0.1
BATCH_SIZE = 64
GROUPED_BATCH = 256
ONE_AT_A_TIME = 8  # examples in a group where mean or variance alone is noisy
CURVES = ("train_loss", "test_loss", "train_accuracy", "test_accuracy")


class GroupStatistics(BatchNorm):
    """Batch normalization whose mean, or variance, or both are those of a group of the batch.

    A batch is cut, in its order, into groups. Each group is normalized with its own mean or the
    whole batch's, and with its own variance (about its own mean) or the whole batch's; the gradient
    flows through whatever is used. With both of the group it is `GhostBatchNorm`, with both of the
    batch `BatchNorm1d`, but that the running statistics take one step of `momentum` for every
    group. Evaluation mode is that of both.

    Args:
        num_features: number of channels d; inputs are (m, d).
        group_size: examples in a group, at least 2; in training a divisor of m.
        group_mean: whether the mean is the group's.
        group_variance: whether the variance is the group's.
        momentum: weight of the newest group in the running statistics.

    Raises:
        ValueError: group_size is below 2; and from `forward`: it does not divide m.
    """

    momentum: float

    def __init__(
        self,
        num_features: int,
        group_size: int,
        *,
        group_mean: bool,
        group_variance: bool,
        momentum: float = 0.1,
    ) -> None:
        super().__init__(num_features, momentum=momentum)
        if group_size < 2:
            raise ValueError(f"GroupStatistics: group_size is {group_size}; it must be at least 2")
        self.group_size = group_size
        self.group_mean = group_mean
        self.group_variance = group_variance

    def extra_repr(self) -> str:
        """The constructor's arguments, for printing."""
        return (
            f"{super().extra_repr()}, group_size={self.group_size}, "
            f"group_mean={self.group_mean}, group_variance={self.group_variance}"
        )

    def _normalize_batch(self, x: Tensor) -> Tensor:
        m, g = len(x), self.group_size
        if m % g:
            raise ValueError(
                f"GroupStatistics: input has shape {tuple(x.shape)}, and group_size = {g} does not "
                f"divide {m}; use a batch size that is a multiple of it"
            )
        groups = x.view(m // g, g, -1)
        # A mean of (groups, 1, d), or (1, 1, d) of the whole batch; so the variance.
        mu = groups.mean((1,) if self.group_mean else (0, 1), keepdim=True)
        of = (1,) if self.group_variance else (0, 1)
        var = groups.var(of, correction=0, keepdim=True)
        x_hat = ((groups - mu) / torch.sqrt(var + self.eps)).view(x.shape)
        unbiased = population_variance(var, g if self.group_variance else m)
        self._let_follow(mu.detach(), unbiased.detach(), m // g)
        return self._scale_and_shift(x_hat)

    @torch.no_grad()
    def _let_follow(self, mu: Tensor, var: Tensor, groups: int) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(groups)
        a = self.momentum
        # `groups` steps old -> (1 - a) old + a new, one after the other, written as one sum.
        weights = mu.new_tensor([a * (1 - a) ** (groups - 1 - j) for j in range(groups)])[:, None]
        for running, newest in ((self.running_mean, mu), (self.running_var, var)):
            seen = (weights * newest.flatten(0, 1)).sum(0)
            running.copy_((1 - a) ** groups * running + seen)


@dataclass(frozen=True)
class Arm:
    """One way to build and train the network.

    Attributes:
        name: short name.
        kind: "plain" without normalization, "bn"; "ghost" with statistics of groups, "mean" with
            the groups' mean and the batch's variance, "variance" the other way round.
        group: examples in a group; 0 where there are none.
        dropout: probability of Dropout.
        place: of Dropout, behind the nonlinearity of "every" hidden layer or of the "last".
        batch_size: examples in a step.
        lr: learning rate.
    """

    name: str
    kind: str
    group: int = 0
    dropout: float = 0.0
    place: str = "every"
    batch_size: int = BATCH_SIZE
    lr: float = LR

    def network(self, seed: int) -> nn.Sequential:
        """The network of a seed: equal weights in all arms."""
        normalization: dict[str, Callable[[int], nn.Module] | None] = {
            "plain": None,
            "bn": BatchNorm1d,
            "ghost": partial(GhostBatchNorm, ghost_batch_size=self.group),
            "mean": partial(
                GroupStatistics, group_size=self.group, group_mean=True, group_variance=False
            ),
            "variance": partial(
                GroupStatistics, group_size=self.group, group_mean=False, group_variance=True
            ),
        }
        generator = torch.Generator().manual_seed(seed)
        network = dense_network(WIDTHS, normalization[self.kind], generator=generator)
        if not self.dropout:
            return network
        hidden = len(WIDTHS) - 2
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        for name, layer in network.named_children():
            layers[name] = layer
            number = name.removeprefix("activation")
            if number != name and (self.place == "every" or int(number) == hidden):
                layers[f"dropout{number}"] = Dropout(self.dropout, seed=10 * seed + int(number))
        return nn.Sequential(layers)


@dataclass(frozen=True)
class Scale:
    """The size of a run.

    Attributes:
        data: name of the image set.
        train: the first so many training images are trained on.
        epochs: of every arm.
        rates: learning rates of the first part.
        dropouts: probabilities of the second part.
        batch_sizes: of the third part.
        groups: of the fourth part, within batches of `GROUPED_BATCH`.
        loss: training loss at which arms are compared.
        records: moments at which losses are measured, the last of them the end.
        mates: batch sizes of the last part.
        examples: test images whose scores are watched.
        draws: of mates for each.
        seeds: how many, unless told otherwise.
    """

    data: str
    train: int
    epochs: int
    rates: tuple[float, ...]
    dropouts: tuple[float, ...]
    batch_sizes: tuple[int, ...]
    groups: tuple[int, ...]
    loss: float
    records: int
    mates: tuple[int, ...]
    examples: int
    draws: int
    seeds: int

    def steps(self, arm: Arm) -> int:
        """Steps of an arm."""
        return self.epochs * self.train // arm.batch_size

    def record_at(self, arm: Arm) -> list[int]:
        """Steps to measure at, evenly spaced on a logarithmic axis from a tenth of an epoch on."""
        last = self.steps(arm)
        first = self.train / (10 * arm.batch_size)
        at = (first * (last / first) ** (i / (self.records - 1)) for i in range(self.records))
        return sorted({round(step) for step in at})

    def arms(self) -> tuple[Arm, ...]:
        """All arms, each once."""
        found = []
        for kind in ("plain", "bn"):
            found += [Arm(f"{kind}, rate {lr:g}", kind, lr=lr) for lr in self.rates if lr != LR]
            found += [base(kind, p) for p in (0.0, *self.dropouts)]
            found += [
                Arm(f"{kind}, batch {m}", kind, batch_size=m)
                for m in (*self.batch_sizes, GROUPED_BATCH)
            ]
        found += [base("bn", p, "last") for p in self.dropouts]
        found += [grouped("ghost", g) for g in self.groups]
        found += [grouped(kind, ONE_AT_A_TIME) for kind in ("mean", "variance")]
        return tuple(found)


def base(kind: str, dropout: float = 0.0, place: str = "every") -> Arm:
    """The arm with batches of `BATCH_SIZE` at rate `LR`."""
    name = f"{kind}, Dropout {dropout:g} {place}" if dropout else kind
    return Arm(name, kind, dropout=dropout, place=place)


def grouped(kind: str, group: int) -> Arm:
    """The arm with batches of `GROUPED_BATCH` cut into groups."""
    return Arm(f"{kind}, groups of {group}", kind, group, batch_size=GROUPED_BATCH)


SCALES = {
    "live": Scale(
        data="mnist-5k",
        train=4_000,
        epochs=10,
        rates=(0.1,),
        dropouts=(0.5,),
        batch_sizes=(16,),
        groups=(8,),
        loss=0.3,
        records=6,
        mates=(4, 16, 64, 256),
        examples=4,
        draws=20,
        seeds=3,
    ),
    "paper": Scale(
        data="fashion-mnist",
        train=5_000,
        epochs=40,
        rates=(0.03, 0.1, 0.3, 1.0),
        dropouts=(0.25, 0.5),
        batch_sizes=(16, 32, 128),
        groups=(8, 16, 32, 64, 128),
        loss=0.3,
        records=16,
        mates=(2, 4, 8, 16, 32, 64, 128, 256, 512),
        examples=12,
        draws=50,
        seeds=5,
    ),
}


@dataclass(frozen=True)
class Run:
    """One network of one arm.

    Attributes:
        arm: its name.
        seed: of weights, batch order and Dropout.
        steps: (records,) steps at which the next four were measured.
        train_loss: (records,) mean cross-entropy over the training images.
        test_loss: (records,) the same over the test images.
        train_accuracy: (records,) in [0, 1].
        test_accuracy: (records,) in [0, 1].
        running_accuracy: test accuracy at the end with the running statistics.
        dropout_accuracy: the same with exact statistics of the training images with Dropout on, as
            training sees them.
        shift: for each normalization from the first, its exact variance at the end with Dropout on
            over that with Dropout off, the median over its units.
        diverged_at: step at which the loss was no longer finite, or None.
    """

    arm: str
    seed: int
    steps: list[int]
    train_loss: list[float]
    test_loss: list[float]
    train_accuracy: list[float]
    test_accuracy: list[float]
    running_accuracy: float
    dropout_accuracy: float
    shift: list[float]
    diverged_at: int | None

    def reaching(self, loss: float) -> tuple[float, float] | None:
        """Steps until the training loss is that, and the test loss there; None if no record tells.

        Between two records both losses and the logarithm of the step are taken to be linear.
        """
        for i, found in enumerate(self.train_loss):
            if found > loss:
                continue
            if i == 0:  # earlier than the first record: it cannot be told when
                return None
            before = self.train_loss[i - 1]
            part = (before - loss) / (before - found)
            low, high = math.log(self.steps[i - 1]), math.log(self.steps[i])
            test = self.test_loss[i - 1] + part * (self.test_loss[i] - self.test_loss[i - 1])
            return math.exp(low + part * (high - low)), test
        return None

    @property
    def end_gap(self) -> float:
        """Training minus test accuracy at the end, in points."""
        return 100 * (self.train_accuracy[-1] - self.test_accuracy[-1])


@dataclass(frozen=True)
class Noise:
    """What one network says of fixed examples among changing mates.

    Attributes:
        seed: of the network, trained as `base("bn")`.
        sizes: batch sizes.
        variance: for each, the variance of a class score over draws of mates, the mean over classes
            and examples.
        changed: for each, the share of draws in which the class with the highest score is not the
            one of evaluation mode, the mean over examples.
        evaluation: the variance in evaluation mode.
    """

    seed: int
    sizes: list[int]
    variance: list[float]
    changed: list[float]
    evaluation: float


@dataclass(frozen=True)
class Result:
    """All measurements of one scale.

    Attributes:
        scale: "live" or "paper".
        seeds: the seeds.
        arms: what was trained.
        runs: one for each arm and seed.
        noises: one for each seed.
        provenance: what it was made with, see `bn_core.experiments.records.provenance`.
    """

    scale: str
    seeds: tuple[int, ...]
    arms: tuple[Arm, ...]
    runs: tuple[Run, ...]
    noises: tuple[Noise, ...]
    provenance: dict[str, Any]

    def run(self, arm: Arm, seed: int) -> Run:
        """The run of an arm and a seed."""
        return _only(r for r in self.runs if (r.arm, r.seed) == (arm.name, seed))

    def of(self, arm: Arm) -> list[Run]:
        """The runs of an arm, one for each seed."""
        return [self.run(arm, seed) for seed in self.seeds]

    def noise(self, seed: int) -> Noise:
        """The noise of a seed."""
        return _only(n for n in self.noises if n.seed == seed)


def run(
    scale: str = "live",
    seeds: Sequence[int] | None = None,
    progress: bool = False,
    resume: Path | None = None,
) -> Result:
    """Train all arms, and watch one of them among changing mates.

    Args:
        scale: "live" (embedded digits, seconds) or "paper" (5,000 images of Fashion-MNIST,
            minutes).
        seeds: by default 0, 1, 2 at live scale and 0 to 4 at paper scale.
        progress: show a progress bar on stderr.
        resume: folder in which finished parts and checkpoints are kept and found again; None for
            none.

    Raises:
        ValueError: an unknown scale, or no seed.
        bn_core.lab.data.DataError: the data are not to be had.
    """
    seeds = choose_seeds(NAME, scale, SCALES, seeds)
    size = SCALES[scale]
    arms = size.arms()
    data = _images(size.data, size.train)  # here first, so that a failure happens once
    with records.provenance(data) as provenance:
        by_arm = run_all(
            _train,
            [(arm, seeds, size) for arm in arms],
            steps=size.steps(base("bn")),
            progress=f"{NAME}, {scale} scale" if progress else None,
            resume=resume,
        )
    return Result(
        scale=scale,
        seeds=seeds,
        arms=arms,
        runs=tuple(each for runs, _ in by_arm for each in runs),
        noises=tuple(each for _, noises in by_arm for each in noises),
        provenance=provenance,
    )


def _train(
    job: tuple[Arm, tuple[int, ...], Scale], report: Report
) -> tuple[list[Run], list[Noise]]:
    """Train one network for each seed; of the arm that is watched, the noise too."""
    arm, seeds, size = job
    data = _images(size.data, size.train)
    steps = size.steps(arm)
    stack = Stack([arm.network(seed) for seed in seeds])
    networks = [stack.unstack(s) for s in range(len(seeds))]

    def watch(_step: int) -> list[Mapping[str, Any]]:
        return [_measure(_exact(network, arm, data), data) for network in networks]

    trainings = train_stack(
        stack,
        data.train_images,
        data.train_labels,
        torch.optim.SGD(stack.parameters(), lr=arm.lr),
        steps=steps,
        batch_size=arm.batch_size,
        generators=[torch.Generator().manual_seed(seed) for seed in seeds],
        watch=watch,
        watch_at=size.record_at(arm),
        report=lambda step: report(step * arm.batch_size // BATCH_SIZE),
        checkpoint=report.checkpoint,
    )
    runs = []
    for seed, network, training in zip(seeds, networks, trainings, strict=True):
        measured = {name: [_short(v) for v in training.measured.get(name, [])] for name in CURVES}
        running = predict(network, data.test_images)
        exact, dropped = (of(network, arm, data) for of in (_exact, _with_dropout))
        scores = predict(dropped, data.test_images)
        runs.append(
            Run(
                arm=arm.name,
                seed=seed,
                steps=training.steps,
                **measured,
                running_accuracy=_short(accuracy(running, data.test_labels)),
                dropout_accuracy=_short(accuracy(scores, data.test_labels)),
                shift=_shift(dropped, exact),
                diverged_at=training.diverged_at,
            )
        )
    noises = []
    if arm == base("bn"):
        noises = [_noise(n, data, size, s) for n, s in zip(networks, seeds, strict=True)]
    return runs, noises


def _exact(network: nn.Module, arm: Arm, data: ImageSet) -> nn.Module:
    """The network with exact population statistics, or itself where it has none to keep."""
    finite = all(bool(p.isfinite().all()) for p in network.parameters())
    return recalibrate(network, [data.train_images]) if finite and arm.kind != "plain" else network


@torch.no_grad()
def _with_dropout(network: nn.Module, arm: Arm, data: ImageSet) -> nn.Module:
    """The same with Dropout on while the statistics are taken: all images as one batch."""
    if arm.kind != "bn" or not arm.dropout:
        return _exact(network, arm, data)
    network = copy.deepcopy(network).train()
    for layer in network.modules():
        if isinstance(layer, BatchNorm):
            layer.momentum = 1.0  # the running statistics become those of this batch
    network(data.train_images)
    return network


def _measure(network: nn.Module, data: ImageSet) -> dict[str, float]:
    measured = {}
    for part, images, labels in (
        ("train", data.train_images, data.train_labels),
        ("test", data.test_images, data.test_labels),
    ):
        scores = predict(network, images)
        measured[f"{part}_loss"] = float(F.cross_entropy(scores, labels))
        measured[f"{part}_accuracy"] = accuracy(scores, labels)
    return measured


def _shift(dropped: nn.Module, exact: nn.Module) -> list[float]:
    """One network's variance over another's in each normalization, the median over its units."""
    found = []
    for one, other in zip(dropped.modules(), exact.modules(), strict=True):
        if isinstance(one, BatchNorm) and isinstance(other, BatchNorm):
            assert one.running_var is not None
            assert other.running_var is not None
            # A unit that no image activates has variance 0 in both: it says nothing.
            ratios = (one.running_var / other.running_var)[other.running_var > 0]
            found.append(_short(ratios.median()))
    return found


def _noise(network: nn.Module, data: ImageSet, size: Scale, seed: int) -> Noise:
    generator = torch.Generator().manual_seed(seed)
    examples = data.test_images[: size.examples]
    expected = predict(network, examples).argmax(1)
    variance, changed = [], []
    for m in size.mates:
        scores = torch.stack(
            [among_mates(network, x, data.train_images, m, size.draws, generator) for x in examples]
        )  # (examples, draws, classes)
        variance.append(_short(scores.double().var(1).mean()))
        changed.append(_short((scores.argmax(2) != expected[:, None]).double().mean()))
    again = torch.stack([predict(network, examples) for _ in range(2)])
    return Noise(seed, list(size.mates), variance, changed, _short(again.var(0).mean()))


def slope(sizes: Sequence[int], variance: Sequence[float]) -> float:
    """Exponent k of the line through (log m, log variance) from m = 8 on: variance ~ m^k.

    Args:
        sizes: m, at least two of them 8 or more.
        variance: positive, one for each.
    """
    pairs = [(math.log(m), math.log(v)) for m, v in zip(sizes, variance, strict=True) if m >= 8]
    x = torch.tensor(pairs, dtype=torch.float64)
    centred = x - x.mean(0)
    return float((centred[:, 0] * centred[:, 1]).sum() / (centred[:, 0] ** 2).sum())


@lru_cache(maxsize=1)
def _images(name: str, train: int) -> ImageSet:
    """The image set with the first so many of its training images."""
    data = load(name)
    return replace(
        data,
        name=f"{data.name}-first-{train}",
        train_images=data.train_images[:train],
        train_labels=data.train_labels[:train],
    )


def _short(value: Any) -> float:
    """To five digits: all that a record needs."""
    return float(f"{float(value):.5g}")


def _only(found: Iterator[Measured]) -> Measured:
    matches = list(found)
    if len(matches) != 1:
        raise KeyError(f"{NAME}: {len(matches)} measurements match; expected 1")
    return matches[0]


def gap_at(result: Result, arm: Arm, seed: int) -> float:
    """Test loss minus training loss where that is the scale's; NaN if no record tells."""
    loss = SCALES[result.scale].loss
    reached = result.run(arm, seed).reaching(loss)
    return math.nan if reached is None else reached[1] - loss


def fewest_steps(result: Result, kind: str, seed: int) -> float:
    """Steps to the scale's training loss at the best of the rates; NaN if none gets there."""
    loss = SCALES[result.scale].loss
    arms = [arm for arm in result.arms if arm in rate_arms(result, kind)]
    reached = [result.run(arm, seed).reaching(loss) for arm in arms]
    return min((each[0] for each in reached if each is not None), default=math.nan)


def rate_arms(result: Result, kind: str) -> list[Arm]:
    """The arms of one kind in which the learning rate alone differs, by ascending rate."""
    found = [a for a in result.arms if replace(a, name=kind, lr=LR) == base(kind)]
    return sorted(found, key=lambda arm: arm.lr)


def _faster(result: Result, seed: int) -> Effect:
    return Effect(seed, fewest_steps(result, "plain", seed) / fewest_steps(result, "bn", seed))


def _difference(first: Arm, second: Arm) -> Callable[[Result, int], Effect]:
    """Gap of one arm minus that of another, at equal training loss."""

    def measure(result: Result, seed: int) -> Effect:
        return Effect(seed, gap_at(result, first, seed) - gap_at(result, second, seed))

    return measure


def _end_gap(result: Result, seed: int) -> Effect:
    plain, normalized = (result.run(base(kind), seed) for kind in ("plain", "bn"))
    return Effect(seed, plain.end_gap - normalized.end_gap)


def _changed(result: Result, seed: int) -> Effect:
    noise = result.noise(seed)
    return Effect(seed, 100 * noise.changed[noise.sizes.index(16)])


def _exponent(result: Result, seed: int) -> Effect:
    noise = result.noise(seed)
    return Effect(seed, 0.15 - abs(slope(noise.sizes, noise.variance) + 1))


def _batched(kind: str, batch_size: int) -> Arm:
    return Arm(f"{kind}, batch {batch_size}", kind, batch_size=batch_size)


def _beyond_plain(result: Result, seed: int) -> Effect:
    normalized, plain = (
        gap_at(result, _batched(kind, GROUPED_BATCH), seed)
        - gap_at(result, _batched(kind, 16), seed)
        for kind in ("bn", "plain")
    )
    return Effect(seed, normalized - plain)


def dropout_gain(result: Result, kind: str, seed: int) -> float:
    """The best of the accuracies with Dropout in every layer minus that without, in points."""
    without, *with_dropout = (
        result.run(base(kind, p), seed).test_accuracy[-1]
        for p in (0.0, *SCALES[result.scale].dropouts)
    )
    return 100 * (max(with_dropout) - without)


def _removable(result: Result, seed: int) -> Effect:
    return Effect(seed, -dropout_gain(result, "bn", seed))


def _needed(result: Result, seed: int) -> Effect:
    return Effect(seed, dropout_gain(result, "plain", seed))


def _variance_shift(result: Result, seed: int) -> Effect:
    return Effect(seed, result.run(base("bn", 0.5), seed).shift[-1])


def _given_back(result: Result, seed: int) -> Effect:
    found = result.run(base("bn", 0.5), seed)
    return Effect(seed, 100 * (found.test_accuracy[-1] - found.dropout_accuracy))


def _last_place(result: Result, seed: int) -> Effect:
    last, every = (result.run(base("bn", 0.5, place), seed) for place in ("last", "every"))
    return Effect(seed, 100 * (last.dropout_accuracy - every.dropout_accuracy))


WHOLE = _batched("bn", GROUPED_BATCH)
AT_LOSS = "test loss minus training loss, where the training loss is 0.3"
CLAIMS: tuple[Claim[Result], ...] = (
    Claim(
        id="regularization.faster",
        statement="Batch normalization makes training faster (two hidden layers of 100 ReLU units, "
        "batches of 64, each network at the rate of a grid that is fastest for it and seed).",
        source="ioffe2015, section 1",
        effect="steps without / steps with, to a training loss of 0.3",
        unit="x",
        threshold=1.0,
        measure=_faster,
    ),
    Claim(
        id="regularization.smaller-gap",
        statement="Batch normalization regularizes: at equal training loss its test loss is lower "
        "(batches of 64, learning rate 0.1).",
        source="ioffe2015, section 3.4",
        effect=f"{AT_LOSS}: without minus with",
        unit="",
        threshold=0.0,
        measure=_difference(base("plain"), base("bn")),
    ),
    Claim(
        id="regularization.smaller-gap-at-end",
        statement="Batch normalization regularizes: after equally many steps its test accuracy is "
        "less far below its training accuracy (batches of 64, learning rate 0.1).",
        source="ioffe2015, section 3.4",
        effect="training accuracy minus test accuracy at the end: without minus with",
        unit=" points",
        threshold=0.0,
        measure=_end_gap,
    ),
    Claim(
        id="regularization.not-deterministic",
        statement="In training mode the network no longer gives one answer for one example: the "
        "class it chooses depends on the mates (a few test images, batches of 16 after training "
        "with batches of 64).",
        source="ioffe2015, section 3.4",
        effect="share of draws of mates in which the class is not that of evaluation mode",
        unit=" %",
        threshold=1.0,
        measure=_changed,
    ),
    Claim(
        id="regularization.one-over-m",
        statement="The variance of an example's class scores over its mates falls nearly as one "
        "over the batch size (a trained network, batch sizes from 8 on).",
        source="this book",
        effect="0.15 minus the distance of the fitted exponent from -1",
        unit="",
        threshold=0.0,
        measure=_exponent,
    ),
    Claim(
        id="regularization.noise-of-statistics",
        statement="At training loss 0.3 the gap is smaller with few examples in the statistics "
        "(groups of 8 against 256, in steps of 256, learning rate 0.1).",
        source="luo2019, abstract",
        effect=f"{AT_LOSS}: statistics of 256 minus statistics of 8",
        unit="",
        threshold=0.0,
        measure=_difference(WHOLE, grouped("ghost", 8)),
    ),
    Claim(
        id="regularization.batch-size",
        statement="With batch normalization the gap is smaller with small batches (16 against 256, "
        "learning rate 0.1).",
        source="luo2019, abstract",
        effect=f"{AT_LOSS}: batches of 256 minus batches of 16",
        unit="",
        threshold=0.0,
        measure=_difference(WHOLE, _batched("bn", 16)),
    ),
    Claim(
        id="regularization.batch-size-beyond-plain",
        statement="Smaller batches narrow the gap by more with batch normalization than without "
        "(16 against 256, learning rate 0.1).",
        source="this book",
        effect=f"{AT_LOSS}: batches of 256 minus batches of 16, with minus without",
        unit="",
        threshold=0.0,
        measure=_beyond_plain,
    ),
    Claim(
        id="regularization.mean-noise",
        statement="With the noise of the mean alone the gap at training loss 0.3 is smaller than "
        "with none (means of groups of 8, variances of 256, learning rate 0.1).",
        source="this book",
        effect=f"{AT_LOSS}: statistics of 256 minus noisy means",
        unit="",
        threshold=0.0,
        measure=_difference(WHOLE, grouped("mean", ONE_AT_A_TIME)),
    ),
    Claim(
        id="regularization.variance-noise",
        statement="With the noise of the variance alone the gap at training loss 0.3 is smaller "
        "than with none (variances of groups of 8, means of 256, learning rate 0.1).",
        source="this book",
        effect=f"{AT_LOSS}: statistics of 256 minus noisy variances",
        unit="",
        threshold=0.0,
        measure=_difference(WHOLE, grouped("variance", ONE_AT_A_TIME)),
    ),
    Claim(
        id="regularization.mean-over-variance",
        statement="The gap at training loss 0.3 is smaller with the noise of the mean than with "
        "that of the variance (groups of 8 in steps of 256, learning rate 0.1).",
        source="this book",
        effect=f"{AT_LOSS}: noisy variances minus noisy means",
        unit="",
        threshold=0.0,
        measure=_difference(grouped("variance", ONE_AT_A_TIME), grouped("mean", ONE_AT_A_TIME)),
    ),
    Claim(
        id="regularization.dropout-removable",
        statement="With batch normalization Dropout can be removed: without it, test accuracy is "
        "at most half a point below the better of Dropout 0.25 and 0.5 behind every hidden layer "
        "(batches of 64, learning rate 0.1, exact statistics).",
        source="ioffe2015, section 3.4",
        effect="test accuracy at the end without Dropout minus the better one with it",
        unit=" points",
        threshold=-0.5,
        measure=_removable,
    ),
    Claim(
        id="regularization.dropout-needed",
        statement="Without batch normalization Dropout cannot be removed: the better of 0.25 and "
        "0.5 gains more than half a point (batches of 64, learning rate 0.1).",
        source="this book",
        effect="the better test accuracy at the end with Dropout minus that without",
        unit=" points",
        threshold=0.5,
        measure=_needed,
    ),
    Claim(
        id="regularization.variance-shift",
        statement="Dropout in front of a normalization shifts the variance that it sees between "
        "training and evaluation (Dropout 0.5 behind every hidden layer; median over the units of "
        "the last normalization).",
        source="li2019, abstract",
        effect="variance with Dropout on / with Dropout off, in the final network",
        unit="x",
        threshold=1.1,
        measure=_variance_shift,
    ),
    Claim(
        id="regularization.recalibration",
        statement="Statistics taken with Dropout off give back accuracy that the variance shift "
        "took (Dropout 0.5 behind every hidden layer, exact statistics of the final network).",
        source="this book",
        effect="test accuracy with statistics taken with Dropout off minus with it on",
        unit=" points",
        threshold=0.0,
        measure=_given_back,
    ),
    Claim(
        id="regularization.last-place",
        statement="With statistics taken with Dropout on, Dropout after the last normalization "
        "alone gives a higher test accuracy than behind every hidden layer (Dropout 0.5).",
        source="li2019, abstract",
        effect="test accuracy at the end, the last place minus every place",
        unit=" points",
        threshold=0.0,
        measure=_last_place,
    ),
)


def recorded(folder: Path) -> Result:
    """The recorded result in a folder such as the book's `results`."""
    return records.result(folder, NAME, Result)
