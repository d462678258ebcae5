"""Which learning rates and weight scales train, with and without batch normalization, and why.

All networks have 784-100-100-100-10 units and are trained with plain SGD on mini-batches of 60.
Three parts. *The map*: a ReLU network for each learning rate and each scale of the hidden weights
(1 is He's rule; the last layer's weights are never scaled), with batch normalization and without.
Besides, with batch normalization: at the smallest scales, an eps that is scaled with the weights;
at scale 1, the learning rate for the hidden weights alone, or for all but them, the others at 0.1.
It is scored on digits held out of the training set; the test set takes no part. *Growth*: the norms
of the hidden weights while some of these networks train, beside what the squares of all steps add
up to. *Spectra*: singular values of layer Jacobians while networks of ReLU units (He's weights) and
of sigmoid units (Xavier's, with the sigmoid's slope) train.

Grids, numbers of steps and thresholds were chosen in pilots with seeds 100 and above, before any
run recorded here. A network that has diverged, its loss no longer finite, counts as one that
guesses: 10 % of the digits.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from bn_core.experiments import records
from bn_core.experiments.claims import Claim, Effect
from bn_core.experiments.registry import choose_seeds
from bn_core.lab.data import ImageSet, load
from bn_core.lab.models import dense_network, he_std, xavier_std
from bn_core.lab.probes import layer_jacobians
from bn_core.lab.stack import Stack
from bn_core.lab.sweeps import Report, run_all
from bn_core.lab.training import Training, accuracy, predict, train_stack
from bn_core.layers import BatchNorm1d
from bn_core.surgery import recalibrate

NAME = "higher_learning_rates"
TITLE = "Learning rates and weight scales that train, with and without batch normalization"
WIDTHS = (784, 100, 100, 100, 10)
HIDDEN = 3
HIDDEN_WEIGHTS = tuple(f"linear{k}.weight" for k in range(1, HIDDEN + 1))
BATCH_SIZE = 60
EPS = 1e-5
GUESS = 0.1
"""The accuracy of guessing, which a network that has diverged is given."""

TRAINS = 0.8  # final validation accuracy of a network that is said to train

CLOSE = (0.5, 2.0)
"""Where a singular value is said to be close to 1."""

RECORD_AT = (5, 10, 20, 30, 40, 50, 65, 80, 100, 130, 160, 200, 250, 320, 400, 500, 1_000)
SPECTRUM_AT = (0, 10, 50, 100, 200, 500, 1_000, 2_000)
SHARED_RATE = 0.1  # of claims about one rate, and of parameters that do not get the cell's


def decades(first: float, last: float, each: int = 2) -> tuple[float, ...]:
    """Powers of ten from the first exponent to the last, `each` of them to a decade.

    Args:
        first: the lowest exponent.
        last: the highest exponent.
        each: steps in a decade.

    Returns:
        The powers, to three digits.
    """
    steps = round((last - first) * each)
    return tuple(float(f"{10 ** (first + i / each):.3g}") for i in range(steps + 1))


@dataclass(frozen=True)
class Scale:
    """The size of a run.

    Attributes:
        data: name of the image set.
        hold_out: number of training digits kept for validation.
        rates: learning rates of the map.
        scales: of the hidden weights, in the map, relative to He's rule.
        small: those of them at which eps is scaled with the weights as well.
        steps: of training, in the map.
        target: validation accuracy that steps are counted to, in the map.
        growing: rates and scales of which the weights' growth is measured.
        growth_steps: of training there.
        spectrum_steps: of training where singular values are measured.
        examples: whose Jacobians are measured.
        seeds: how many, unless told otherwise.
    """

    data: str
    hold_out: int
    rates: tuple[float, ...]
    scales: tuple[float, ...]
    small: tuple[float, ...]
    steps: int
    target: float
    growing: tuple[tuple[float, float], ...]
    growth_steps: int
    spectrum_steps: int
    examples: int
    seeds: int


_PAPER_SCALES = decades(-3, 1)
SCALES = {
    "live": Scale(
        data="mnist-5k",
        hold_out=1_000,
        rates=decades(-1, 1, 1),
        scales=(0.01, 1.0, 10.0),
        small=(0.01,),
        steps=200,
        target=0.8,
        growing=((0.1, 1.0), (0.1, 10.0), (1.0, 0.1), (1.0, 1.0)),
        growth_steps=100,
        spectrum_steps=100,
        examples=10,
        seeds=3,
    ),
    "paper": Scale(
        data="mnist",
        hold_out=2_000,
        rates=decades(-2.5, 2.5),
        scales=_PAPER_SCALES,
        small=_PAPER_SCALES[:3],
        steps=500,
        target=0.9,
        growing=tuple((lr, scale) for lr in (0.1, 1.0) for scale in (0.1, 0.316, 1.0, 10.0)),
        growth_steps=2_000,
        spectrum_steps=2_000,
        examples=50,
        seeds=5,
    ),
}
# With and without; eps scaled with the weights; the rate for the hidden weights alone, or for all
# parameters but them.
NETWORKS = ("bn", "plain", "bn-scaled-eps", "bn-hidden", "bn-rest")
"""With batch normalization and without; with an eps that follows the weights' scale; and with one
learning rate for the hidden weights (or for all the rest) and the shared one for the others."""

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {"relu": nn.ReLU, "sigmoid": nn.Sigmoid}
"""The nonlinearities, by name ("relu", "sigmoid").

:meta hide-value:
"""

SPECTRUM_RATES = {"relu": 0.1, "sigmoid": 1.0}


@dataclass(frozen=True)
class Cell:
    """One network at one learning rate and one scale of the hidden weights, all seeds.

    Attributes:
        network: one of `NETWORKS`.
        lr: learning rate.
        scale: of the hidden weights, relative to He's rule.
        curve: (records,) validation accuracy in [0, 1], mean over the seeds; `GUESS` for a seed
            that has diverged.
        final: (seeds,) validation accuracy after the last step, the same.
        steps_to: (seeds,) first record with at least the scale's `target`, or None.
        diverged_at: (seeds,) step at which the loss was no longer finite, or None.
    """

    network: str
    lr: float
    scale: float
    curve: list[float]
    final: list[float]
    steps_to: list[int | None]
    diverged_at: list[int | None]


@dataclass(frozen=True)
class Growth:
    """The hidden weights of one network while it trains.

    Attributes:
        network: "bn" or "plain".
        lr: learning rate.
        scale: of the hidden weights at the start, relative to He's rule.
        seed: of weights and batch order.
        steps: (records,) at which everything below was measured, from 0.
        squared: (records, hidden layers) squared norm of the layer's weights.
        added: (records, hidden layers) sum over the steps so far of the squared change, the
            squared norm of learning rate times gradient.
        accuracy: (records,) validation accuracy in [0, 1].
    """

    network: str
    lr: float
    scale: float
    seed: int
    steps: list[int]
    squared: list[list[float]]
    added: list[list[float]]
    accuracy: list[float]

    def effective_rate(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        """(records, hidden layers): learning rate over a unit's squared norm, the mean unit's."""
        units = np.array(WIDTHS[1 : 1 + HIDDEN], dtype=float)
        rates: np.ndarray[Any, np.dtype[np.float64]] = self.lr * units / np.asarray(self.squared)
        return rates


@dataclass(frozen=True)
class Spectrum:
    """Singular values of the Jacobians of one layer, over examples, at one moment.

    Attributes:
        activation: a key of `ACTIVATIONS`.
        batch_norm: with batch normalization or without.
        seed: of weights and batch order.
        step: of training.
        layer: which hidden layer the Jacobian starts from, 1 or 2.
        percentiles: the 5th, 25th, 50th, 75th and 95th.
        rms: root mean square.
        close: share in the interval `CLOSE`.
        accuracy: test accuracy of the network at that moment, in [0, 1].
    """

    activation: str
    batch_norm: bool
    seed: int
    step: int
    layer: int
    percentiles: list[float]
    rms: float
    close: float
    accuracy: float


@dataclass(frozen=True)
class Result:
    """All measurements of one scale.

    Attributes:
        scale: "live" or "paper".
        seeds: the seeds.
        rates: learning rates of the map.
        scales: scales of the hidden weights in the map.
        steps: (records,) of the curves of the map.
        cells: one for each network, rate and scale.
        growths: one for each network, measured rate and scale, and seed.
        spectra: one for each network, seed, moment and layer.
        provenance: what it was made with, see `bn_core.experiments.records.provenance`.
    """

    scale: str
    seeds: tuple[int, ...]
    rates: tuple[float, ...]
    scales: tuple[float, ...]
    steps: tuple[int, ...]
    cells: tuple[Cell, ...]
    growths: tuple[Growth, ...]
    spectra: tuple[Spectrum, ...]
    provenance: dict[str, Any]

    def cell(self, network: str, lr: float, scale: float) -> Cell:
        """One of `cells`.

        Raises:
            KeyError: there is none.
        """
        for cell in self.cells:
            if (cell.network, cell.lr, cell.scale) == (network, lr, scale):
                return cell
        raise KeyError(f"{NAME}: no cell of {network!r} at rate {lr:g} and scale {scale:g}")

    def curves(self, lr: float, scale: float) -> dict[str, list[float]]:
        """The training curves of a cell of the map: mean validation accuracy at each of `steps`.

        Returns:
            For "bn" and "plain", (records,).

        Raises:
            KeyError: the map has no such cell.
        """
        return {network: self.cell(network, lr, scale).curve for network in ("bn", "plain")}

    def map(self, network: str) -> np.ndarray[Any, np.dtype[np.float64]]:
        """(scales, rates): final validation accuracy, mean over the seeds; NaN where not run."""
        found = {(c.scale, c.lr): np.mean(c.final) for c in self.cells if c.network == network}
        return np.array([[found.get((s, r), math.nan) for r in self.rates] for s in self.scales])

    def trains(
        self, network: str, seed: int, least: float = TRAINS
    ) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """(scales, rates): whether the seed's final validation accuracy is at least `least`."""
        s = self.seeds.index(seed)
        found = {(c.scale, c.lr): c.final[s] for c in self.cells if c.network == network}
        return np.array(
            [[found.get((a, r), 0.0) >= least for r in self.rates] for a in self.scales]
        )

    def quickest(self, network: str) -> Cell | None:
        """The cell with the fewest steps to the target, averaged over the seeds.

        Of cells where all seeds get there, or None; of several, that of the highest final accuracy.
        """
        reached = [c for c in self.cells if c.network == network and None not in c.steps_to]
        return min(
            reached, key=lambda c: (sum(s or 0 for s in c.steps_to), -sum(c.final)), default=None
        )

    def growth(self, network: str, lr: float, scale: float, seed: int) -> Growth:
        """One of `growths`.

        Raises:
            KeyError: there is none.
        """
        for each in self.growths:
            if (each.network, each.lr, each.scale, each.seed) == (network, lr, scale, seed):
                return each
        raise KeyError(f"{NAME}: no growth of {network!r} at {lr:g}, {scale:g}, seed {seed}")

    def spectra_of(
        self, activation: str, batch_norm: bool, seed: int, layer: int
    ) -> list[Spectrum]:
        """Those of `spectra` that are of one network and layer, by step."""
        wanted = activation, batch_norm, seed, layer
        return [s for s in self.spectra if (s.activation, s.batch_norm, s.seed, s.layer) == wanted]


def run(
    scale: str = "live",
    seeds: Sequence[int] | None = None,
    progress: bool = False,
    resume: Path | None = None,
) -> Result:
    """Train every cell of the map, and measure growth and spectra.

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
    data = _digits(size.data, size.hold_out)  # here first, so that a download happens once
    label = f"{NAME}, {scale} scale" if progress else None
    settings = [
        (network, lr, weights)
        for network in NETWORKS
        for weights in _scales_of(network, size)
        for lr in size.rates
    ]
    growing = [(net, lr, weights) for net in ("bn", "plain") for lr, weights in size.growing]
    with records.provenance(data) as provenance:
        options: dict[str, Any] = {"progress": label, "resume": resume}
        cells = run_all(
            _cell, [(each, seeds, size) for each in settings], steps=size.steps, **options
        )
        growths = run_all(
            _growth, [(each, seeds, size) for each in growing], steps=size.growth_steps, **options
        )
        spectra = run_all(
            _spectra,
            [((name, with_bn), seeds, size) for name in ACTIVATIONS for with_bn in (True, False)],
            steps=size.spectrum_steps,
            **options,
        )
    return Result(
        scale=scale,
        seeds=seeds,
        rates=size.rates,
        scales=size.scales,
        steps=record_at(size.steps),
        cells=tuple(cells),
        growths=tuple(growth for arm in growths for growth in arm),
        spectra=tuple(spectrum for arm in spectra for spectrum in arm),
        provenance=provenance,
    )


def _scales_of(network: str, size: Scale) -> tuple[float, ...]:
    if network in ("bn", "plain"):
        return size.scales
    return size.small if network == "bn-scaled-eps" else (1.0,)


def network_of(
    batch_norm: bool, scale: float = 1.0, seed: int = 0, *, eps: float = EPS
) -> nn.Sequential:
    """The ReLU network of the map.

    Args:
        batch_norm: with batch normalization or without.
        scale: of the hidden weights, relative to He's rule. The last layer's have variance
            1 / (its inputs) at any scale.
        seed: of the weights. Equal seeds give equal weights, but for their scale.
        eps: of the normalizations.
    """

    def std(inputs: int, outputs: int) -> float:
        return math.sqrt(1 / inputs) if outputs == WIDTHS[-1] else scale * he_std(inputs)

    return dense_network(
        WIDTHS,
        partial(BatchNorm1d, eps=eps) if batch_norm else None,
        init_std=std,
        generator=torch.Generator().manual_seed(seed),
    )


def record_at(steps: int) -> tuple[int, ...]:
    """The steps at which a network is scored: about five to each factor of three, and the last."""
    return (*(step for step in RECORD_AT if step < steps), steps)


def _cell(job: tuple[tuple[str, float, float], tuple[int, ...], Scale], report: Report) -> Cell:
    """Train one cell of the map."""
    (network, lr, scale), seeds, size = job
    eps = EPS * scale**2 if network == "bn-scaled-eps" else EPS
    data = _digits(size.data, size.hold_out)
    stack = Stack([network_of(network != "plain", scale, seed, eps=eps) for seed in seeds])
    steps = record_at(size.steps)
    hidden = [p for name, p in stack.network.named_parameters() if name in HIDDEN_WEIGHTS]
    rest = [p for name, p in stack.network.named_parameters() if name not in HIDDEN_WEIGHTS]
    optimizer = torch.optim.SGD(
        [
            {"params": hidden, "lr": SHARED_RATE if network == "bn-rest" else lr},
            {"params": rest, "lr": SHARED_RATE if network == "bn-hidden" else lr},
        ]
    )
    trainings = _train(stack, data, optimizer, size.steps, seeds, steps, report)
    curves = np.full((len(seeds), len(steps)), GUESS)
    for s, training in enumerate(trainings):
        scores = training.measured.get("accuracy", [])
        if training.diverged_at is not None:
            scores = scores[: sum(step < training.diverged_at for step in training.steps)]
        curves[s, : len(scores)] = scores
    reached = curves >= size.target
    return Cell(
        network=network,
        lr=lr,
        scale=scale,
        curve=_rounded(curves.mean(0)),
        final=_rounded(curves[:, -1]),
        steps_to=[steps[row.argmax()] if row.any() else None for row in reached],
        diverged_at=[training.diverged_at for training in trainings],
    )


def _train(
    stack: Stack,
    data: ImageSet,
    optimizer: torch.optim.Optimizer,
    steps: int,
    seeds: Sequence[int],
    at: Sequence[int],
    report: Callable[[int], object],
    measure: Callable[[int], Mapping[str, Any]] = lambda _: {},
    checkpoint: Path | None = None,
) -> list[Training]:
    """Train a stack; at some steps, accuracy and what `measure` tells of a seed."""
    networks = [stack.unstack(s) for s in range(len(seeds))]

    def watch(_step: int) -> list[Mapping[str, Any]]:
        return [
            {"accuracy": accuracy(predict(net, data.test_images), data.test_labels), **measure(s)}
            for s, net in enumerate(networks)
        ]

    return train_stack(
        stack,
        data.train_images,
        data.train_labels,
        optimizer,
        steps=steps,
        batch_size=BATCH_SIZE,
        generators=[torch.Generator().manual_seed(seed) for seed in seeds],
        watch=watch,
        watch_at=at,
        report=report,
        checkpoint=checkpoint,
    )


def _growth(
    job: tuple[tuple[str, float, float], tuple[int, ...], Scale], report: Report
) -> list[Growth]:
    """Train one network for each seed and add up the squared changes of its hidden weights."""
    (network, lr, scale), seeds, size = job
    data = _digits(size.data, size.hold_out)
    stack = Stack([network_of(network == "bn", scale, seed) for seed in seeds])
    weights = [stack.network.get_parameter(name) for name in HIDDEN_WEIGHTS]
    added = torch.zeros(len(seeds), HIDDEN, dtype=torch.float64)

    def add_step(*_: object) -> None:
        for k, weight in enumerate(weights):
            assert weight.grad is not None
            added[:, k] += lr**2 * weight.grad.square().sum((1, 2))

    def measure(s: int) -> Mapping[str, Any]:
        squared = [weight.detach()[s].double().square().sum().item() for weight in weights]
        return {"squared": np.array(squared), "added": added[s].numpy().copy()}

    # No checkpoint: it would not hold what was added up.
    at = (0, *record_at(size.growth_steps))
    optimizer = torch.optim.SGD(stack.parameters(), lr=lr)
    optimizer.register_step_post_hook(add_step)  # `report` would come after the measurement
    trainings = _train(stack, data, optimizer, size.growth_steps, seeds, at, report, measure)
    return [
        Growth(
            network=network,
            lr=lr,
            scale=scale,
            seed=seed,
            steps=training.steps,
            squared=[_rounded(row, 9) for row in training.measured["squared"]],
            added=[_rounded(row, 9) for row in training.measured["added"]],
            accuracy=_rounded(training.measured["accuracy"]),
        )
        for seed, training in zip(seeds, trainings, strict=True)
    ]


def _spectra(
    job: tuple[tuple[str, bool], tuple[int, ...], Scale], report: Report
) -> list[Spectrum]:
    """Train one network for each seed and take its layers' Jacobians at some moments."""
    (name, batch_norm), seeds, size = job
    data = _digits(size.data, size.hold_out)
    rule = he_std if name == "relu" else partial(xavier_std, slope=0.25)
    stack = Stack(
        [
            dense_network(
                WIDTHS,
                BatchNorm1d if batch_norm else None,
                activation=ACTIVATIONS[name],
                init_std=rule,
                generator=torch.Generator().manual_seed(seed),
            )
            for seed in seeds
        ]
    )
    networks = [stack.unstack(s) for s in range(len(seeds))]
    statistics = data.train_images[:2_000]
    images = data.test_images[: size.examples]

    def measure(s: int) -> Mapping[str, Any]:
        network = networks[s]
        if batch_norm:  # the running statistics lag, and at step 0 know nothing
            network = recalibrate(network, [statistics])
        assert isinstance(network, nn.Sequential)
        values = [
            torch.linalg.svdvals(layer_jacobians(network, images, f"activation{layer}"))
            for layer in range(1, HIDDEN)
        ]
        return {"values": torch.stack(values).flatten(1)}

    at = [step for step in SPECTRUM_AT if step <= size.spectrum_steps]
    trainings = _train(
        stack,
        data,
        torch.optim.SGD(stack.parameters(), lr=SPECTRUM_RATES[name]),
        size.spectrum_steps,
        seeds,
        at,
        report,
        measure,
        report.checkpoint,
    )
    return [
        Spectrum(
            activation=name,
            batch_norm=batch_norm,
            seed=seed,
            step=step,
            layer=layer,
            percentiles=_rounded(np.percentile(values, (5, 25, 50, 75, 95))),
            rms=_rounded([np.sqrt(np.mean(np.square(values)))])[0],
            close=_rounded([np.mean((values >= CLOSE[0]) & (values <= CLOSE[1]))])[0],
            accuracy=_rounded([score])[0],
        )
        for seed, training in zip(seeds, trainings, strict=True)
        for step, score, by_layer in zip(
            training.steps, training.measured["accuracy"], training.measured["values"], strict=True
        )
        for layer, values in enumerate(by_layer, 1)
    ]


@lru_cache(maxsize=1)
def _digits(name: str, hold_out: int) -> ImageSet:
    return load(name).binary().hold_out(hold_out)


def _rounded(values: Any, digits: int = 4) -> list[float]:
    """To some digits: all that a record needs."""
    return [float(f"{float(value):.{digits}g}") for value in values]


def largest_rate(result: Result, network: str, scale: float, seed: int) -> Effect:
    """The largest rate of the map at which a seed trains; NaN if none, "at least" at the edge.

    Args:
        result: of `run`.
        network: one of `NETWORKS`.
        scale: of the hidden weights, one of the map's.
        seed: one of the result's.
    """
    row = result.trains(network, seed)[result.scales.index(scale)]
    rates = [rate for rate, trains in zip(result.rates, row, strict=True) if trains]
    if not rates:
        return Effect(seed, math.nan)
    return Effect(seed, rates[-1], "at least" if rates[-1] == result.rates[-1] else "")


def largest_of_all(result: Result, network: str, seed: int) -> Effect:
    """The largest rate of the map at which a seed trains at any scale, as `largest_rate`."""
    rates = [largest_rate(result, network, scale, seed) for scale in result.scales]
    return max(rates, key=lambda rate: -1.0 if math.isnan(rate.value) else rate.value)


def _ratio(above: Effect, below: Effect) -> Effect:
    """Of two of one seed, with the bound that follows from theirs."""
    bounds = above.bound, below.bound
    if bounds == ("", ""):
        return Effect(above.seed, above.value / below.value)
    if bounds == ("at least", ""):
        return Effect(above.seed, above.value / below.value, "at least")
    if bounds == ("", "at least"):
        return Effect(above.seed, above.value / below.value, "at most")
    return Effect(above.seed, math.nan)


def _larger_at_one(result: Result, seed: int) -> Effect:
    with_bn, without = (largest_rate(result, network, 1.0, seed) for network in ("bn", "plain"))
    return _ratio(with_bn, without)


def _larger_anywhere(result: Result, seed: int) -> Effect:
    return _ratio(largest_of_all(result, "bn", seed), largest_of_all(result, "plain", seed))


def _more_scales(result: Result, seed: int) -> Effect:
    column = result.rates.index(SHARED_RATE)
    with_bn, without = (result.trains(net, seed)[:, column].sum() for net in ("bn", "plain"))
    return Effect(seed, float(with_bn) - float(without))


def _quicker(result: Result, seed: int) -> Effect:
    with_bn, without = result.quickest("bn"), result.quickest("plain")
    if with_bn is None or without is None:
        return Effect(seed, math.nan)
    s = result.seeds.index(seed)
    slow, fast = without.steps_to[s], with_bn.steps_to[s]
    assert slow is not None
    assert fast is not None
    return Effect(seed, slow / fast)


def _hidden_free(result: Result, seed: int) -> Effect:
    hidden, every = (largest_rate(result, net, 1.0, seed) for net in ("bn-hidden", "bn"))
    return _ratio(hidden, every)


def _rest_limits(result: Result, seed: int) -> Effect:
    hidden, rest = (largest_rate(result, net, 1.0, seed) for net in ("bn-hidden", "bn-rest"))
    return _ratio(hidden, rest)


def _eps_matters(result: Result, seed: int) -> Effect:
    smallest = 0
    scaled, fixed = (result.trains(net, seed)[smallest].sum() for net in ("bn-scaled-eps", "bn"))
    return Effect(seed, float(scaled) - float(fixed))


def deviation(growth: Growth) -> float:
    """How far the growth of the squared norms is from what the squared changes add up to, at most.

    Returns:
        The largest difference over the layers at the end, relative to the sum.
    """
    grown = np.subtract(growth.squared[-1], growth.squared[0])
    return float(np.abs(grown / np.asarray(growth.added[-1]) - 1).max())


def _adds_up(network: str) -> Callable[[Result, int], Effect]:
    def measure(result: Result, seed: int) -> Effect:
        found = [
            deviation(growth)
            for growth in result.growths
            if (growth.network, growth.seed) == (network, seed) and growth.scale <= 1
        ]
        return Effect(seed, 2 - 100 * max(found))

    return measure


def _growth_is_less(result: Result, seed: int) -> Effect:
    with_bn, without = (
        result.growth(network, SHARED_RATE, 1.0, seed) for network in ("bn", "plain")
    )
    factors = [np.sum(g.squared[-1]) / np.sum(g.squared[0]) for g in (without, with_bn)]
    return Effect(seed, float((factors[0] - 1) / (factors[1] - 1)))


def _rates_apart(result: Result, lr: float, small: float, large: float, seed: int) -> Any:
    """(records, layers): effective rate from the smaller start over that from the larger."""
    rates = [result.growth("bn", lr, s, seed).effective_rate() for s in (small, large)]
    return rates[0] / rates[1]


def _starts_meet(result: Result, seed: int) -> Effect:
    apart = np.abs(np.log(_rates_apart(result, 1.0, 0.1, 1.0, seed)))  # either may be the larger
    return Effect(seed, float(np.exp(apart[0] - apart[-1]).min()))


def _start_stays(result: Result, seed: int) -> Effect:
    return Effect(seed, float(_rates_apart(result, SHARED_RATE, 1.0, 10.0, seed)[-1].min()))


def _at_end(result: Result, activation: str, batch_norm: bool, seed: int, record: int) -> Any:
    layers = range(1, HIDDEN)
    return [result.spectra_of(activation, batch_norm, seed, k)[record] for k in layers]


def _close(activation: str, record: int) -> Callable[[Result, int], Effect]:
    def measure(result: Result, seed: int) -> Effect:
        spectra = _at_end(result, activation, True, seed, record)
        return Effect(seed, 100 * float(np.mean([s.close for s in spectra])))

    return measure


def _closer(activation: str) -> Callable[[Result, int], Effect]:
    def measure(result: Result, seed: int) -> Effect:
        with_bn, without = (
            np.mean([s.close for s in _at_end(result, activation, bn, seed, -1)])
            for bn in (True, False)
        )
        return Effect(seed, 100 * float(with_bn - without))

    return measure


def _rms_nearer(activation: str) -> Callable[[Result, int], Effect]:
    def measure(result: Result, seed: int) -> Effect:
        with_bn, without = (
            np.mean([abs(math.log2(s.rms)) for s in _at_end(result, activation, bn, seed, -1)])
            for bn in (True, False)
        )
        return Effect(seed, float(without - with_bn))

    return measure


RATE_NOTE = "validation accuracy of 80 % at the end of the map's run"
CLOSE_NOTE = "singular values of layer Jacobians that lie between 1/2 and 2"
CLAIMS: tuple[Claim[Result], ...] = (
    Claim(
        id="higher_learning_rates.larger-rate",
        statement="Batch normalization lets a network train at larger learning rates (ReLU, 3 "
        "hidden layers of 100, He's weights, plain SGD, one rate for all parameters).",
        source="ioffe2015, section 3.3",
        effect=f"largest rate that trains with / without; to train is a {RATE_NOTE}",
        unit="x",
        threshold=1.0,
        measure=_larger_at_one,
    ),
    Claim(
        id="higher_learning_rates.larger-rate-any-scale",
        statement="It does so also when each network starts at the weight scale that bears the "
        "largest rate (the same networks, all scales of the map).",
        source="this book",
        effect=f"largest rate that trains at any scale, with / without; to train is a {RATE_NOTE}",
        unit="x",
        threshold=1.0,
        measure=_larger_anywhere,
    ),
    Claim(
        id="higher_learning_rates.more-scales",
        statement="Batch normalization makes training more resilient to the scale of the "
        "parameters (the same networks at learning rate 0.1, hidden weights scaled).",
        source="ioffe2015, section 3.3",
        effect="number of the map's scales that train, with minus without; to train is a "
        f"{RATE_NOTE}",
        unit="",
        threshold=0.0,
        measure=_more_scales,
    ),
    Claim(
        id="higher_learning_rates.quicker",
        statement="With each network at its own quickest rate and scale, the normalized one needs "
        "fewer steps (the same networks, chosen by the mean over the seeds).",
        source="this book",
        effect="steps without / steps with, to 80 % (live) or 90 % (paper) validation accuracy",
        unit="x",
        threshold=1.0,
        measure=_quicker,
    ),
    Claim(
        id="higher_learning_rates.hidden-rate-is-free",
        statement="With batch normalization the hidden weights bear a larger rate than the whole "
        "network does (He's weights; the hidden weights at the rate, all other parameters at 0.1).",
        source="this book",
        effect=f"largest rate of the hidden weights that trains / of all parameters; {RATE_NOTE}",
        unit="x",
        threshold=1.0,
        measure=_hidden_free,
    ),
    Claim(
        id="higher_learning_rates.rest-limits",
        statement="What limits the rate of the normalized network are the last layer, γ and "
        "β, not the hidden weights (He's weights; those at the rate and the hidden weights at "
        "0.1, against the reverse).",
        source="this book",
        effect="largest rate that trains of the hidden weights alone / of all but them; "
        f"{RATE_NOTE}",
        unit="x",
        threshold=1.0,
        measure=_rest_limits,
    ),
    Claim(
        id="higher_learning_rates.eps-breaks-the-scale",
        statement="At the smallest scale of the map, ε = 10⁻⁵ decides which rates train: with "
        "an ε scaled like the weights' variance more of them do.",
        source="this book",
        effect=f"number of rates that train, with eps scaled minus with eps fixed; {RATE_NOTE}",
        unit="",
        threshold=0.0,
        measure=_eps_matters,
    ),
    Claim(
        id="higher_learning_rates.steps-add-up",
        statement="With batch normalization the squared norm of a layer's weights grows by what "
        "the squared steps add up to, within 2 % (hidden layers, starts at scales up to 1, plain "
        "SGD).",
        source="this book",
        effect="2 minus the largest difference between the growth and the sum, in percent of it",
        unit=" points",
        threshold=0.0,
        measure=_adds_up("bn"),
    ),
    Claim(
        id="higher_learning_rates.growth-stabilized",
        statement="Batch normalization stabilizes the growth of the parameters, read as: the "
        "hidden weights grow less with it than without (the same networks, learning rate 0.1, "
        "He's weights).",
        source="ioffe2015, section 3.3",
        effect="relative growth of the squared norm of all hidden weights, without / with",
        unit="x",
        threshold=1.0,
        measure=_growth_is_less,
    ),
    Claim(
        id="higher_learning_rates.starts-meet",
        statement="With batch normalization a start from small weights forgets its scale: the "
        "effective rates from scales 0.1 and 1, a factor of 100 apart, come at least ten times "
        "closer (learning rate 1, every hidden layer).",
        source="this book",
        effect="ratio of the two effective rates, larger over smaller, at the start / at the end, "
        "in the layer where that is smallest",
        unit="x",
        threshold=10.0,
        measure=_starts_meet,
    ),
    Claim(
        id="higher_learning_rates.large-start-stays",
        statement="A start from large weights does not: the effective rates from scales 1 and 10, "
        "a factor of 100 apart, stay a factor of 50 apart (learning rate 0.1, every hidden layer).",
        source="this book",
        effect="ratio of the effective rates at the end, in the layer where it is smallest",
        unit="x",
        threshold=50.0,
        measure=_start_stays,
    ),
    Claim(
        id="higher_learning_rates.jacobians-at-start",
        statement="Batch normalization makes the singular values of layer Jacobians close to 1, at "
        "the start (sigmoid units, Gaussian weights, hidden layers 1 and 2).",
        source="ioffe2015, section 3.3",
        effect=f"share of the {CLOSE_NOTE}, untrained",
        unit=" %",
        threshold=90.0,
        measure=_close("sigmoid", 0),
    ),
    Claim(
        id="higher_learning_rates.jacobians-trained",
        statement="Batch normalization makes the singular values of layer Jacobians close to 1, "
        "after training (sigmoid units, learning rate 1, hidden layers 1 and 2).",
        source="ioffe2015, section 3.3",
        effect=f"share of the {CLOSE_NOTE}, at the end",
        unit=" %",
        threshold=90.0,
        measure=_close("sigmoid", -1),
    ),
    *(
        Claim(
            id=f"higher_learning_rates.jacobians-closer-{name}",
            statement="After training, more of the singular values of layer Jacobians are close to "
            f"1 with batch normalization than without ({units} units, {rule} weights, learning "
            f"rate {SPECTRUM_RATES[name]:g}).",
            source="this book",
            effect=f"share of the {CLOSE_NOTE}, with minus without",
            unit=" points",
            threshold=0.0,
            measure=_closer(name),
        )
        for name, units, rule in (("sigmoid", "sigmoid", "Xavier's"), ("relu", "ReLU", "He's"))
    ),
    *(
        Claim(
            id=f"higher_learning_rates.size-kept-{name}",
            statement="After training, a layer changes the size of a gradient less with batch "
            f"normalization than without ({units} units, {rule} weights, learning rate "
            f"{SPECTRUM_RATES[name]:g}, statistics held fixed).",
            source="ioffe2015, section 3.3",
            effect="absolute binary logarithm of the root mean square singular value, without "
            "minus with",
            unit="",
            threshold=0.0,
            measure=_rms_nearer(name),
        )
        for name, units, rule in (("sigmoid", "sigmoid", "Xavier's"), ("relu", "ReLU", "He's"))
    ),
)


def recorded(folder: Path) -> Result:
    """The recorded result in a folder such as the book's `results`."""
    return records.result(folder, NAME, Result)
