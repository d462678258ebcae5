"""One hidden layer on 50,000 digits for 40 epochs, and four faults made on purpose.

*Training*: the network 784-128-10, mini-batches of 64, Adam at its usual rate, with and without
batch normalization, for each of three activation functions; scored after every epoch on digits held
out of the training set. A notebook on the subject reports 96.58 % validation accuracy with and
95.26 % without. Its code is not known here, so *handicaps* are tried instead: what would bring this
network down to those numbers?

*Faults*: networks of 8 hidden layers of 64 units, each made to fail in one way (dead units,
saturation, a vanishing gradient, an exploding one), with a healthy one beside them; a `Recorder`
watches 200 steps. Each fault has a sign, a number that the recorder has, and a limit to it. Then
the same network with batch normalization before each nonlinearity, from the same weights.

The settings of the faults and handicaps, the limits of the signs and the number of steps were
chosen in pilots with seeds 100 and above, before any run recorded here. In the pilots, batch
normalization brought every sign below its limit, and the network that explodes, at the small rate
that it needs without batch normalization, learned less with it.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bn_core.experiments import records
from bn_core.experiments.claims import Claim, Effect
from bn_core.experiments.registry import choose_seeds
from bn_core.lab.data import ImageSet, load
from bn_core.lab.models import dense_network, he_std, xavier_std
from bn_core.lab.probes import LayerHistory, Recorder
from bn_core.lab.stack import Stack
from bn_core.lab.sweeps import Report, run_all
from bn_core.lab.training import accuracy, predict, train, train_stack
from bn_core.layers import BatchNorm1d

Measured = TypeVar("Measured")

NAME = "inside_a_network"
TITLE = "784-128-10 on 50,000 digits for 40 epochs, and four faults with their signs"
WIDTHS = (784, 128, 10)
BATCH_SIZE = 64
LR = 1e-3  # Adam's default
REPORTED = {True: 96.58, False: 95.26}  # per cent, by that notebook, with and without
DEPTH, WIDTH = 8, 64  # of the networks with faults
EVERY = 10  # steps between records

Rule = Callable[[int, int], float]
# Each activation, and the standard deviation of the weights in front of it.
ACTIVATIONS: dict[str, tuple[type[nn.Module], Rule]] = {
    "relu": (nn.ReLU, he_std),
    "sigmoid": (nn.Sigmoid, partial(xavier_std, slope=0.25)),
    "tanh": (nn.Tanh, xavier_std),
}
"""The nonlinearity and the rule for its initial weights, by name ("relu", "sigmoid", "tanh").

:meta hide-value:
"""


@dataclass(frozen=True)
class Setting:
    """How 784-128-10 is trained.

    Attributes:
        name: short name.
        activation: a key of `ACTIVATIONS`.
        part: of the epochs of the scale that it is trained for.
        lr: learning rate.
        adam: whether the optimizer is Adam; else it is plain stochastic gradient descent.
        digits: the share of the training digits that is used.
        scale: what pixels in [0, 1] are multiplied with.
    """

    name: str
    activation: str = "relu"
    part: float = 1.0
    lr: float = LR
    adam: bool = True
    digits: float = 1.0
    scale: float = 1.0


SETTINGS = (
    Setting("relu"),
    Setting("sigmoid", activation="sigmoid", part=0.25),
    Setting("tanh", activation="tanh", part=0.25),
    Setting("few-digits", digits=0.2),
    Setting("high-rate", lr=0.03, part=0.25),
    Setting("raw-pixels", scale=255.0, part=0.25),
    Setting("slow-sgd", lr=0.01, adam=False, part=0.5),
)


@dataclass(frozen=True)
class Fault:
    """A network that is made to fail in one way, or not.

    Attributes:
        name: short name.
        activation: a key of `ACTIVATIONS`.
        factor: that the standard deviations of the activation's rule are multiplied with; 0 for
            the standard deviation 0.1 in all layers.
        lr: learning rate, of plain stochastic gradient descent.
        sign: what shows it: "dead", "saturated", "vanishing" or "exploding"; empty for the
            healthy one.
    """

    name: str
    activation: str
    factor: float
    lr: float
    sign: str

    def network(self, batch_norm: bool, seed: int) -> nn.Sequential:
        """The network of one seed."""
        activation, rule = ACTIVATIONS[self.activation]
        return dense_network(
            (784, *[WIDTH] * DEPTH, 10),
            BatchNorm1d if batch_norm else None,
            activation=activation,
            init_std=(lambda i, o: self.factor * rule(i, o)) if self.factor else 0.1,
            generator=torch.Generator().manual_seed(seed),
        )


FAULTS = (
    Fault("healthy", "relu", factor=1.0, lr=0.1, sign=""),
    Fault("high rate", "relu", factor=1.0, lr=0.5, sign="dead"),
    Fault("wide tanh", "tanh", factor=5.0, lr=0.1, sign="saturated"),
    Fault("narrow sigmoid", "sigmoid", factor=0.0, lr=0.1, sign="vanishing"),
    Fault("wide ReLU", "relu", factor=2.5, lr=1e-4, sign="exploding"),
)
# Above it, a sign says that something is wrong: a share of the units of some layer, a share of the
# values of some layer, and twice a factor between the first and the last layer.
LIMITS = {"dead": 1 / 3, "saturated": 0.5, "vanishing": 100.0, "exploding": 100.0}
"""Above which a sign tells of its fault."""


@dataclass(frozen=True)
class Scale:
    """The size of a run.

    Attributes:
        data: name of the image set.
        held_out: digits of the training set that are kept for validation.
        epochs: of training.
        steps: of the networks with faults.
        seeds: how many, unless told otherwise.
    """

    data: str
    held_out: int
    epochs: int
    steps: int
    seeds: int


SCALES = {
    "live": Scale(data="mnist-5k", held_out=1_000, epochs=12, steps=100, seeds=3),
    "paper": Scale(data="mnist", held_out=10_000, epochs=40, steps=200, seeds=5),
}


@dataclass(frozen=True)
class Run:
    """784-128-10 while it is trained. All lists have one entry for each epoch.

    Attributes:
        setting: name of the setting.
        batch_norm: with batch normalization or without.
        seed: of weights and batch order.
        accuracy: on the validation digits, in [0, 1].
        loss: mean cross-entropy of the validation digits.
        train_accuracy: on training digits, as many as there are for validation, in inference mode.
        train_loss: mean over the epoch's mini-batches, in training mode.
        test_accuracy: on all test digits, after the last epoch.
        diverged_at: step at which the loss was no longer finite, or None.
    """

    setting: str
    batch_norm: bool
    seed: int
    accuracy: list[float]
    loss: list[float]
    train_accuracy: list[float]
    train_loss: list[float]
    test_accuracy: float
    diverged_at: int | None

    @property
    def final_accuracy(self) -> float:
        """Mean validation accuracy over the last tenth of the epochs; NaN after divergence."""
        last = self.accuracy[-max(1, len(self.accuracy) // 10) :]
        return math.nan if self.diverged_at is not None else sum(last) / len(last)


@dataclass(frozen=True)
class Watched:
    """A network with a fault, or its normalized twin, while it is trained.

    Attributes:
        fault: name of the fault.
        batch_norm: with batch normalization or without.
        seed: of weights and batch order.
        dead: (layers,) share of units without output in one mini-batch, at the last record with a
            finite loss; NaN for a function that has none.
        saturated: (layers,) share of the pre-activations in the dead zone, before the first step;
            NaN for a function that has none.
        gradient: (layers,) median size of the gradient at a layer's output, before the first step.
        accuracy: on all test digits after the last step; 0.1 after divergence, as if guessed.
        diverged_at: step at which the loss was no longer finite, or None.
    """

    fault: str
    batch_norm: bool
    seed: int
    dead: list[float]
    saturated: list[float]
    gradient: list[float]
    accuracy: float
    diverged_at: int | None

    def sign(self, name: str) -> float:
        """The size of a sign, one of `LIMITS`; NaN where the network cannot have it."""
        if name in ("dead", "saturated"):
            share: float = max(getattr(self, name))
            return share
        first, last = self.gradient[0], self.gradient[-1]
        above, below = (last, first) if name == "vanishing" else (first, last)
        return above / below if below > 0 else math.inf if above > 0 else math.nan


@dataclass(frozen=True)
class Result:
    """All measurements of one scale.

    Attributes:
        scale: "live" or "paper".
        seeds: the seeds.
        settings: of `runs`.
        faults: of `watched`.
        runs: one for each setting, with and without batch normalization, and seed.
        watched: one for each fault, with and without batch normalization, and seed.
        provenance: what it was made with, see `bn_core.experiments.records.provenance`.
    """

    scale: str
    seeds: tuple[int, ...]
    settings: tuple[Setting, ...]
    faults: tuple[Fault, ...]
    runs: tuple[Run, ...]
    watched: tuple[Watched, ...]
    provenance: dict[str, Any]

    def of(self, setting: str, batch_norm: bool) -> list[Run]:
        """The runs of one setting, in the order of the seeds."""
        return [r for r in self.runs if (r.setting, r.batch_norm) == (setting, batch_norm)]

    def one(self, setting: str, batch_norm: bool, seed: int) -> Run:
        """One of `runs`."""
        return _only(r for r in self.of(setting, batch_norm) if r.seed == seed)

    def watch(self, fault: str, batch_norm: bool, seed: int) -> Watched:
        """One of `watched`."""
        return _only(
            w for w in self.watched if (w.fault, w.batch_norm, w.seed) == (fault, batch_norm, seed)
        )


def run(
    scale: str = "live",
    seeds: Sequence[int] | None = None,
    progress: bool = False,
    resume: Path | None = None,
) -> Result:
    """Train 784-128-10 in every setting, and watch the networks with faults.

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
        trained = run_all(
            _train,
            [(setting, bn, seeds, size) for setting in SETTINGS for bn in (True, False)],
            steps=size.epochs * ((len(data.train_labels) - size.held_out) // BATCH_SIZE),
            progress=label,
            resume=resume,
        )
        watched = run_all(
            _watch,
            [(fault, bn, seeds, size) for fault in FAULTS for bn in (True, False)],
            steps=len(seeds) * size.steps,
            progress=label,
            resume=resume,
        )
    return Result(
        scale=scale,
        seeds=seeds,
        settings=SETTINGS,
        faults=FAULTS,
        runs=tuple(run for arm in trained for run in arm),
        watched=tuple(each for arm in watched for each in arm),
        provenance=provenance,
    )


def _train(job: tuple[Setting, bool, tuple[int, ...], Scale], report: Report) -> list[Run]:
    """Train one network for each seed. With and without, a seed has equal weights and orders."""
    setting, batch_norm, seeds, size = job
    whole = _digits(size.data)
    data = whole.hold_out(size.held_out)
    used = round(setting.digits * len(data.train_labels))
    images, labels = setting.scale * data.train_images[:used], data.train_labels[:used]
    held, held_labels = setting.scale * data.test_images, data.test_labels
    activation, rule = ACTIVATIONS[setting.activation]
    stack = Stack(
        [
            dense_network(
                WIDTHS,
                BatchNorm1d if batch_norm else None,
                activation=activation,
                init_std=rule,
                generator=torch.Generator().manual_seed(seed),
            )
            for seed in seeds
        ]
    )
    networks = [stack.unstack(s) for s in range(len(seeds))]

    def watch(_step: int) -> list[Mapping[str, Any]]:
        measured: list[Mapping[str, Any]] = []
        for network in networks:
            scores = predict(network, held)
            seen = predict(network, images[: size.held_out])
            measured.append(
                {
                    "accuracy": accuracy(scores, held_labels),
                    "loss": F.cross_entropy(scores, held_labels),
                    "train_accuracy": accuracy(seen, labels[: size.held_out]),
                }
            )
        return measured

    optimizer = torch.optim.Adam if setting.adam else torch.optim.SGD
    epoch = used // BATCH_SIZE
    epochs = round(setting.part * size.epochs)
    trainings = train_stack(
        stack,
        images,
        labels,
        optimizer(stack.parameters(), lr=setting.lr, fused=True),
        steps=epoch * epochs,
        batch_size=BATCH_SIZE,
        generators=[torch.Generator().manual_seed(seed) for seed in seeds],
        watch=watch,
        watch_at=range(epoch, epoch * epochs + 1, epoch),
        report=report,
        checkpoint=report.checkpoint,
    )
    return [
        Run(
            setting=setting.name,
            batch_norm=batch_norm,
            seed=seed,
            accuracy=_rounded(training.measured.get("accuracy", [])),
            loss=_rounded(training.measured.get("loss", [])),
            train_accuracy=_rounded(training.measured.get("train_accuracy", [])),
            train_loss=_rounded(training.losses),
            test_accuracy=_short(
                accuracy(predict(network, setting.scale * whole.test_images), whole.test_labels)
            ),
            diverged_at=training.diverged_at,
        )
        for seed, network, training in zip(seeds, networks, trainings, strict=True)
    ]


def _watch(job: tuple[Fault, bool, tuple[int, ...], Scale], report: Report) -> list[Watched]:
    """Train the networks of a fault, one after the other, with a recorder around each."""
    fault, batch_norm, seeds, size = job
    data = _digits(size.data)
    watched = []
    for done, seed in enumerate(seeds):
        network = fault.network(batch_norm, seed)
        with Recorder(network, _activations(), every=EVERY) as recorder:
            training = train(
                network,
                data.train_images,
                data.train_labels,
                torch.optim.SGD(network.parameters(), lr=fault.lr),
                steps=size.steps,
                batch_size=BATCH_SIZE,
                generator=torch.Generator().manual_seed(seed),
            )
        report((done + 1) * size.steps)
        diverged_at = training.diverged_at
        # A record before step s is of the forward pass of step s + 1.
        finite = [i for i, s in enumerate(recorder.steps) if s + 1 < (diverged_at or math.inf)]
        layers: list[LayerHistory] = [recorder.layer(name) for name in _activations()]
        scores = predict(network, data.test_images)
        watched.append(
            Watched(
                fault=fault.name,
                batch_norm=batch_norm,
                seed=seed,
                dead=[_short(layer.dead[finite[-1]]) for layer in layers],
                saturated=[_short(layer.saturated[0]) for layer in layers],
                gradient=[_short(layer.gradient_median[0]) for layer in layers],
                accuracy=0.1 if diverged_at else _short(accuracy(scores, data.test_labels)),
                diverged_at=diverged_at,
            )
        )
    return watched


def _activations() -> list[str]:
    return [f"activation{i}" for i in range(1, DEPTH + 1)]


@lru_cache(maxsize=1)
def _digits(name: str) -> ImageSet:
    return load(name)


def _short(value: float | Tensor) -> float:
    """To four digits: all that a record needs."""
    return float(f"{float(value):.4g}")


def _rounded(values: Sequence[Any]) -> list[float]:
    return [_short(value) for value in values]


def _only(found: Iterator[Measured]) -> Measured:
    matches = list(found)
    if len(matches) != 1:
        raise KeyError(f"{NAME}: {len(matches)} measurements match; expected 1")
    return matches[0]


def _above_reported(batch_norm: bool) -> Callable[[Result, int], Effect]:
    """Final validation accuracy minus what the notebook reports, in points."""

    def measure(result: Result, seed: int) -> Effect:
        final = result.one("relu", batch_norm, seed).final_accuracy
        return Effect(seed, 100 * final - REPORTED[batch_norm])

    return measure


def _gain(setting: str, epoch: int | None = None) -> Callable[[Result, int], Effect]:
    """Validation accuracy with minus without, in points: final, or after so many epochs."""

    def measure(result: Result, seed: int) -> Effect:
        with_bn, plain = (result.one(setting, bn, seed) for bn in (True, False))
        if epoch is None:
            return Effect(seed, 100 * (with_bn.final_accuracy - plain.final_accuracy))
        return Effect(seed, 100 * (with_bn.accuracy[epoch - 1] - plain.accuracy[epoch - 1]))

    return measure


def _rise(result: Result, seed: int) -> Effect:
    """How far the validation loss rises from its lowest; the lower of the two networks."""
    losses = [result.one("relu", bn, seed).loss for bn in (True, False)]
    return Effect(seed, min(loss[-1] / min(loss) for loss in losses))


def _explains(setting: str) -> Callable[[Result, int], Effect]:
    """Half a point minus the larger distance from the notebook's numbers, at the best epoch."""

    def measure(result: Result, seed: int) -> Effect:
        runs = {bn: result.one(setting, bn, seed).accuracy for bn in (True, False)}
        apart = [
            max(abs(100 * runs[bn][epoch] - REPORTED[bn]) for bn in REPORTED)
            for epoch in range(min(map(len, runs.values())))
        ]
        return Effect(seed, 0.5 - min(apart, default=math.nan))

    return measure


def _shows(name: str) -> Callable[[Result, int], Effect]:
    """The size of a fault's sign."""
    fault = _only(f for f in FAULTS if f.name == name)
    percent = 100 if fault.sign in ("dead", "saturated") else 1

    def measure(result: Result, seed: int) -> Effect:
        size = result.watch(name, False, seed).sign(fault.sign)
        return Effect(seed, percent * size if math.isfinite(size) else math.nan)

    return measure


def _no_alarm(result: Result, seed: int) -> Effect:
    """How often the sign nearest to its limit goes into the limit."""
    watched = result.watch("healthy", False, seed)
    signs = {name: watched.sign(name) for name in ("dead", "vanishing", "exploding")}
    return Effect(seed, min(LIMITS[name] / size for name, size in signs.items() if size > 0))


def _reduced(name: str) -> Callable[[Result, int], Effect]:
    """A fault's sign without batch normalization over the same with it."""
    fault = _only(f for f in FAULTS if f.name == name)

    def measure(result: Result, seed: int) -> Effect:
        plain, with_bn = (result.watch(name, bn, seed).sign(fault.sign) for bn in (False, True))
        if fault.sign == "dead" and with_bn == 0:
            return Effect(seed, plain * WIDTH, "at least")  # fewer than one unit cannot be told
        return Effect(seed, plain / with_bn)

    return measure


def _learns(name: str) -> Callable[[Result, int], Effect]:
    """Test accuracy with batch normalization minus without, in points."""

    def measure(result: Result, seed: int) -> Effect:
        with_bn, plain = (result.watch(name, bn, seed).accuracy for bn in (True, False))
        return Effect(seed, 100 * (with_bn - plain))

    return measure


_FULL = "ReLU, Adam 0.001, 50,000 digits, 40 epochs; live: 3,000 digits, 12 epochs"
_QUARTER = "Adam 0.001, 50,000 digits, 10 epochs; live: 3,000 digits, 3 epochs"
_FINAL = "validation accuracy over the last tenth of the epochs"
_NEAR = (
    "half a point minus the larger distance of the two validation accuracies from 96.58 % with and "
    "95.26 % without, at the epoch where it is smallest"
)
_DEEP = "8 hidden layers of 64 units, 200 steps of SGD; live: 100"


def _written(setting: Setting) -> str:
    """Its nonlinearity as it is written in a sentence."""
    return "ReLU" if setting.activation == "relu" else setting.activation


CLAIMS: tuple[Claim[Result], ...] = (
    *(
        Claim(
            id=f"inside_a_network.above-{name}",
            statement=f"784-128-10 {name} batch normalization ends above {REPORTED[bn]} % "
            f"validation accuracy ({_FULL}).",
            source="this book",
            effect=f"{_FINAL}, {name} BN, minus {REPORTED[bn]} %",
            unit=" points",
            threshold=0.0,
            measure=_above_reported(bn),
        )
        for bn, name in ((True, "with"), (False, "without"))
    ),
    *(
        Claim(
            id=f"inside_a_network.first-epoch-{setting.name}",
            statement="After the first epoch the network with batch normalization has the higher "
            f"validation accuracy ({_written(setting)}, 784-128-10, Adam 0.001, 50,000 digits; "
            "live: 3,000).",
            source="this book",
            effect="validation accuracy after one epoch, with BN minus without",
            unit=" points",
            threshold=0.0,
            measure=_gain(setting.name, epoch=1),
        )
        for setting in SETTINGS[:3]
    ),
    *(
        Claim(
            id=f"inside_a_network.higher-final-{setting.name}",
            statement="The network with batch normalization ends at the higher validation accuracy "
            f"({_written(setting)}, 784-128-10, {detail}).",
            source="this book",
            effect=f"{_FINAL}, with BN minus without",
            unit=" points",
            threshold=0.0,
            measure=_gain(setting.name),
        )
        for setting, detail in zip(
            SETTINGS[:3], (_FULL.removeprefix("ReLU, "), _QUARTER, _QUARTER), strict=True
        )
    ),
    Claim(
        id="inside_a_network.loss-rises",
        statement="With and without batch normalization, the validation loss ends at more than one "
        f"and a half times its lowest value (784-128-10, {_FULL}).",
        source="this book",
        effect="validation loss after the last epoch / after its best epoch, the lower of the two "
        "networks",
        unit="x",
        threshold=1.5,
        measure=_rise,
    ),
    *(
        Claim(
            id=f"inside_a_network.explained-by-{name}",
            statement=f"{what} brings both networks, after some epoch, within half a point of the "
            f"notebook's two numbers (784-128-10, ReLU, {detail}).",
            source="this book",
            effect=_NEAR,
            unit=" points",
            threshold=0.0,
            measure=_explains(setting),
        )
        for name, setting, what, detail in (
            ("stopping", "relu", "Stopping early", _FULL.removeprefix("ReLU, ")),
            (
                "few-digits",
                "few-digits",
                "Training on a fifth of the digits",
                "Adam 0.001, 10,000 digits, 40 epochs; live: 600, 12 epochs",
            ),
            (
                "high-rate",
                "high-rate",
                "A learning rate 30 times as high",
                "Adam 0.03, 50,000 digits, 10 epochs; live: 3,000, 3 epochs",
            ),
            ("raw-pixels", "raw-pixels", "Leaving the pixels between 0 and 255", _QUARTER),
            (
                "slow-sgd",
                "slow-sgd",
                "Plain stochastic gradient descent at a low rate",
                "SGD 0.01, 50,000 digits, 20 epochs; live: 3,000, 6 epochs",
            ),
        )
    ),
    *(
        Claim(
            id=f"inside_a_network.sign-{sign}",
            statement=f"{what} shows: {seen} ({_DEEP}).",
            source="this book",
            effect=effect,
            unit=unit,
            threshold=threshold,
            measure=_shows(name),
        )
        for sign, name, what, seen, effect, unit, threshold in (
            (
                "dead",
                "high rate",
                "A learning rate of 0.5, too high for a ReLU network,",
                "in some layer more than a third of the units are dead at the end",
                "largest dead share of a layer, in per cent, at the last finite record",
                " %",
                100 * LIMITS["dead"],
            ),
            (
                "saturated",
                "wide tanh",
                "A start with 5 times Xavier's weights, tanh,",
                "in some layer more than half of the pre-activations are in the dead zone",
                "largest saturated share of a layer, in per cent, before the first step",
                " %",
                100 * LIMITS["saturated"],
            ),
            (
                "vanishing",
                "narrow sigmoid",
                "A vanishing gradient, from weights of standard deviation 0.1 in sigmoid layers,",
                "the median gradient of the first layer is below a hundredth of the last layer's",
                "median gradient of the last layer / of the first, before the first step",
                "x",
                LIMITS["vanishing"],
            ),
            (
                "exploding",
                "wide ReLU",
                "An exploding gradient, from 2.5 times He's weights in ReLU layers,",
                "the median gradient of the first layer is above a hundred times the last layer's",
                "median gradient of the first layer / of the last, before the first step",
                "x",
                LIMITS["exploding"],
            ),
        )
    ),
    Claim(
        id="inside_a_network.no-false-alarm",
        statement="A healthy network shows none of the three signs that a ReLU network can have "
        f"(He's weights, learning rate 0.1; {_DEEP}).",
        source="this book",
        effect="limit of a sign / the sign, at the sign that is nearest to its limit",
        unit="x",
        threshold=1.0,
        measure=_no_alarm,
    ),
    *(
        Claim(
            id=f"inside_a_network.reduces-{fault.sign}",
            statement=f"Batch normalization before each nonlinearity brings the sign of the "
            f"network {fault.name!r} to under a fifth ({fault.sign}; training mode; {_DEEP}).",
            source="this book",
            effect="sign without BN / sign with BN",
            unit="x",
            threshold=5.0,
            measure=_reduced(fault.name),
        )
        for fault in FAULTS[1:]
    ),
    *(
        Claim(
            id=f"inside_a_network.learns-{fault.sign}",
            statement=f"With batch normalization the network {fault.name!r} learns more than ten "
            f"points more, at the same learning rate, {fault.lr:g} ({_DEEP}).",
            source="this book",
            effect="test accuracy after the last step, with BN minus without",
            unit=" points",
            threshold=10.0,
            measure=_learns(fault.name),
        )
        for fault in FAULTS[1:]
    ),
)


def recorded(folder: Path) -> Result:
    """The recorded result in a folder such as the book's `results`."""
    return records.result(folder, NAME, Result)
