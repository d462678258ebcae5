"""Normalizing outside the gradient step, and whitening: section 2 of the paper.

Four small studies that share seeds.

1. *Drift.* One feature, x = u + b or x = w u + b, normalized, the loss mean((x_hat - t)^2), full
   gradient descent in float64. The gradient goes through the statistics or takes them for
   constants.
2. *Networks.* Three hidden layers of sigmoids on binary digits. In front of each sigmoid Wu + b
   is centred, normalized or whitened with the mini-batch's statistics, again with both gradients.
   A network is tested with the statistics of all test images as one batch. There is no gamma and no
   beta, as in section 2.
3. *Batches.* Rank of the covariance of a mini-batch of digits, seen through a random linear layer,
   and what whitening does to the distances between them.
4. *Cost.* Processor time of a forward and a backward pass against the number of features.

The settings of networks and drift (learning rates, widths, the targets' slopes, steps at live
scale) were chosen in pilots with seeds from 100 on. The pilots led to two of the claims, that the
harm comes through the mean of a layer's input and that the units of a failing network become
alike; they are tested here on seeds that the pilots did not use.
"""

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from bn_core import whitening
from bn_core.algorithms import normalize
from bn_core.experiments import records
from bn_core.experiments.claims import OWN, Claim, Effect
from bn_core.experiments.registry import choose_seeds
from bn_core.lab.data import ImageSet, load
from bn_core.lab.sweeps import Report, run_all
from bn_core.lab.training import accuracy, predict, train

NAME = "outside_the_gradient"
TITLE = "Normalizing outside the gradient step, and whitening (section 2)"

EXAMPLES = 60  # of the drift study
NETWORK_RATE = 2.0
WIDTH = 32  # of the hidden layers; small enough for the covariance of a batch of 100 to be regular
BATCH_SIZE = 100
RECORDS = 30
LAYER = 100  # features of the study of batches
CHANCE = math.log(10)  # cross-entropy of one who says "a tenth each" of ten digits


@dataclass(frozen=True)
class Scale:
    """The size of a run.

    Attributes:
        data: name of the image set.
        drift_steps: of gradient descent on one feature.
        steps: of training a network.
        dims: numbers of features to time.
        repeats: timings of each, of which the median counts.
        seeds: how many, unless told otherwise.
    """

    data: str
    drift_steps: int
    steps: int
    dims: tuple[int, ...]
    repeats: int
    seeds: int


SCALES = {
    "live": Scale("mnist-5k", 400, 240, (16, 32, 64, 128, 256, 512), 3, 3),
    "paper": Scale("mnist", 10_000, 1_500, (16, 32, 64, 128, 256, 512, 1024, 2048), 5, 5),
}
SLOPE_FROM = 128  # fewer features than this are left out of the fitted slope
TIMED_EXAMPLES = 256


def _normalize(x: Tensor) -> Tensor:
    return normalize(x, [0])


# By name: the normalization with the whole gradient, and that with the statistics detached.
NORMALIZATIONS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "center": (whitening.center, whitening.center_with_detached_mean),
    "scale": (_normalize, whitening.normalize_with_detached_statistics),
    "whiten": (whitening.whiten_zca, whitening.whiten_zca_with_detached_statistics),
}
"""The function with its whole gradient and that with statistics that are constants to it, by name
("center", "scale", "whiten").

:meta hide-value:
"""


# ---- One feature --------------------------------------------------------------------------


@dataclass(frozen=True)
class Problem:
    """One study of drift.

    Attributes:
        name: short name.
        normalization: "center" (x = u + b) or "scale" (x = w u + b, w starts at 1).
        detached: whether the gradient takes the statistics for constants.
        slope: of the target t = slope * u + 0.3 + noise of standard deviation 0.1; u is standard
            normal.
        rate: learning rate alpha.
    """

    name: str
    normalization: str
    detached: bool
    slope: float
    rate: float


PROBLEMS = (
    Problem("center", "center", detached=False, slope=0.5, rate=0.01),
    Problem("center-detached", "center", detached=True, slope=0.5, rate=0.01),
    Problem("scale", "scale", detached=False, slope=0.5, rate=0.01),
    Problem("scale-detached", "scale", detached=True, slope=0.5, rate=0.01),
    Problem("scale-detached-steep", "scale", detached=True, slope=2.0, rate=0.01),
)


@dataclass(frozen=True)
class Drift:
    """Gradient descent on one feature.

    Attributes:
        problem: name of the problem.
        seed: of u and of the noise in t.
        steps: (records,) at which the next three were taken.
        bias: (records,) b.
        weight: (records,) w; 1 where there is none.
        loss: (records,).
        mean_target: mean(t).
        pull: k = (Cov[t, u] + mean(t) mean(u)) / std(u). Scaled outside the gradient, w shrinks
            if -1 < k < 1 and grows if k > 1.
        formula_error: largest distance, over all steps, of b from b_0 + 2 alpha T mean(t), as a
            share of the formula's last value.
        farthest: largest distance of b from b_0 over all steps, likewise.
        loss_spread: largest minus smallest loss over all steps, as a share of the first.
        highest_loss: over all steps, as a multiple of the first.
        longest_stride: the largest change of b in one step.
        turned_at: the first step at which the weight is negative, or None.
    """

    problem: str
    seed: int
    steps: list[int]
    bias: list[float]
    weight: list[float]
    loss: list[float]
    mean_target: float
    pull: float
    formula_error: float
    farthest: float
    loss_spread: float
    highest_loss: float
    longest_stride: float
    turned_at: int | None


def descend(problem: Problem, seed: int, steps: int) -> Drift:
    """Gradient descent on one feature in float64.

    Args:
        problem: what is normalized, and how.
        seed: of u and t.
        steps: at least 1.
    """
    generator = torch.Generator().manual_seed(seed)
    u = torch.randn(EXAMPLES, 1, generator=generator, dtype=torch.float64)
    noise = torch.randn(EXAMPLES, 1, generator=generator, dtype=torch.float64)
    t = problem.slope * u + 0.3 + 0.1 * noise
    function = NORMALIZATIONS[problem.normalization][problem.detached]
    w = torch.ones((), dtype=torch.float64, requires_grad=True)
    b = torch.zeros((), dtype=torch.float64, requires_grad=True)
    parameters = [b] if problem.normalization == "center" else [b, w]
    path = np.empty((steps + 1, 3))
    for step in range(steps + 1):
        loss = (function(w * u + b) - t).square().mean()
        path[step] = b.item(), w.item(), loss.item()
        gradients = torch.autograd.grad(loss, parameters)
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter -= problem.rate * gradient
    bias, weight, losses = path.T
    mean_t, std_u = t.mean().item(), u.std(correction=0).item()
    formula = 2 * problem.rate * np.arange(steps + 1) * mean_t
    negative = np.flatnonzero(weight < 0)
    kept = np.unique(np.linspace(0, steps, min(steps, 400) + 1).round().astype(int))
    return Drift(
        problem=problem.name,
        seed=seed,
        steps=kept.tolist(),
        bias=bias[kept].tolist(),
        weight=weight[kept].tolist(),
        loss=losses[kept].tolist(),
        mean_target=mean_t,
        pull=((t * (u - u.mean())).mean().item() + mean_t * u.mean().item()) / std_u,
        formula_error=float(np.abs(bias - formula).max() / abs(formula[-1])),
        farthest=float(np.abs(bias).max() / abs(formula[-1])),
        loss_spread=float(np.ptp(losses) / losses[0]),
        highest_loss=float(losses.max() / losses[0]),
        longest_stride=float(np.abs(np.diff(bias)).max()),
        turned_at=int(negative[0]) if len(negative) else None,
    )


# ---- Networks -----------------------------------------------------------------------------


class BiasThenNormalization(nn.Module):
    """x = W u + b, of which W u is given, normalized over the mini-batch: section 2's Norm(u + b).

    It has no running statistics: what it is given is the batch, in training and in evaluation mode.

    Args:
        width: number of features.
        function: normalizes (m, width).
    """

    def __init__(self, width: int, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(width))
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        """Normalize the mini-batch x + b, (m, width)."""
        return self.function(x + self.bias)


class _Minus(nn.Module):
    """Subtract a constant."""

    def __init__(self, constant: Tensor) -> None:
        super().__init__()
        self.constant: Tensor
        self.register_buffer("constant", constant)

    def forward(self, x: Tensor) -> Tensor:
        return x - self.constant


@dataclass(frozen=True)
class Arm:
    """One network.

    Attributes:
        name: short name.
        normalization: a key of `NORMALIZATIONS`.
        detached: whether the gradient takes the statistics for constants.
        centered_inputs: whether what enters a linear layer has about mean zero: pixels less their
            mean over the training set, and sigmoids less 1/2. Else pixels and sigmoids are what
            they are, between 0 and 1.
    """

    name: str
    normalization: str
    detached: bool
    centered_inputs: bool


ARMS = tuple(
    Arm(
        f"{normalization}{'-detached' * detached}{'-centered-inputs' * centered}",
        normalization,
        detached,
        centered,
    )
    for normalization, centered in (
        ("center", False),
        ("scale", False),
        ("whiten", False),
        ("center", True),
    )
    for detached in (False, True)
)


@dataclass(frozen=True)
class Run:
    """What was measured while one network was trained.

    Attributes:
        arm: name of the arm.
        seed: of weights and of batch order.
        steps: (records,) at which the next four were taken.
        loss: (records,) mean training loss since the record before; NaN at step 0.
        accuracy: (records,) test accuracy in [0, 1].
        bias: (records,) root mean square of b over all hidden units.
        weight: (records,) root of the summed squares of all hidden weights.
        alike: for each hidden layer, at the end, the share of the variance of its normalized values
            over the test images that lies along one direction: 1 if all units say the same, about
            1/32 if they are uncorrelated.
        diverged_at: step at which the loss was no longer finite, or None.
    """

    arm: str
    seed: int
    steps: list[int]
    loss: list[float]
    accuracy: list[float]
    bias: list[float]
    weight: list[float]
    alike: list[float]
    diverged_at: int | None

    @property
    def final_loss(self) -> float:
        """Mean training loss over the last tenth of training, or what there was of it."""
        return float(np.mean(self.loss[-(RECORDS // 10) :]))

    @property
    def final_accuracy(self) -> float:
        """Mean test accuracy at the records of the last tenth of training."""
        return float(np.mean(self.accuracy[-(RECORDS // 10) :]))


def network(arm: Arm, data: ImageSet, seed: int) -> nn.Sequential:
    """The network of an arm: 784 pixels, three hidden layers of sigmoids, 10 outputs.

    Weights are Gaussian with standard deviation 0.1 and the same in every arm of a seed; biases
    start at zero. The hidden biases are in the `BiasThenNormalization`.

    Args:
        arm: which.
        data: whose training images give the mean of the pixels.
        seed: of the weights.
    """
    generator = torch.Generator().manual_seed(seed)
    function = NORMALIZATIONS[arm.normalization][arm.detached]
    layers: list[nn.Module] = [nn.Flatten()]
    if arm.centered_inputs:
        layers.append(_Minus(data.train_images.flatten(1).mean(0)))
    before = data.train_images[0].numel()
    for _ in range(3):
        layers += [_linear(before, WIDTH, generator), BiasThenNormalization(WIDTH, function)]
        layers.append(nn.Sigmoid())
        if arm.centered_inputs:
            layers.append(_Minus(torch.tensor(0.5)))
        before = WIDTH
    last = nn.Linear(before, 10)
    nn.init.normal_(last.weight, std=0.1, generator=generator)
    nn.init.zeros_(last.bias)
    return nn.Sequential(*layers, last)


def _linear(before: int, width: int, generator: torch.Generator) -> nn.Linear:
    linear = nn.Linear(before, width, bias=False)
    nn.init.normal_(linear.weight, std=0.1, generator=generator)
    return linear


def largest_share(x: Tensor) -> float:
    """The largest eigenvalue of the covariance of x over their sum, in [1/d, 1].

    Args:
        x: (n, d); not all samples equal.
    """
    _, sigma = whitening.batch_covariance(x.double())
    eigenvalues = torch.linalg.eigvalsh(sigma)
    return float(eigenvalues[-1] / eigenvalues.sum())


def _train(job: tuple[Arm, int, Scale], report: Report) -> Run:
    arm, seed, size = job
    data = _digits(size.data)
    model = network(arm, data, seed)
    hidden = [layer for layer in model if isinstance(layer, BiasThenNormalization)]
    weights = [layer.weight for layer in model if isinstance(layer, nn.Linear)][:-1]

    def watch(_step: int) -> dict[str, float]:
        biases = torch.cat([layer.bias.detach() for layer in hidden])
        squares = torch.stack([weight.detach().square().sum() for weight in weights])
        return {
            "accuracy": accuracy(predict(model, data.test_images), data.test_labels),
            "bias": biases.square().mean().sqrt().item(),
            "weight": squares.sum().sqrt().item(),
        }

    training = train(
        model,
        data.train_images,
        data.train_labels,
        torch.optim.SGD(model.parameters(), lr=NETWORK_RATE),
        steps=size.steps,
        batch_size=BATCH_SIZE,
        generator=torch.Generator().manual_seed(seed),
        watch=watch,
        watch_at=np.linspace(0, size.steps, RECORDS + 1).round().astype(int).tolist(),
        report=report,
        checkpoint=report.checkpoint,
    )
    return Run(
        arm=arm.name,
        seed=seed,
        steps=training.steps,
        loss=_rounded(training.losses),
        accuracy=_rounded(training.measured["accuracy"]),
        bias=[float(value) for value in training.measured["bias"]],
        weight=_rounded(training.measured["weight"]),
        alike=_alike(model, data.test_images),
        diverged_at=training.diverged_at,
    )


@torch.no_grad()
def _alike(model: nn.Sequential, images: Tensor) -> list[float]:
    shares, x = [], images
    for layer in model:
        x = layer(x)
        if isinstance(layer, BiasThenNormalization):
            shares.append(round(largest_share(x), 4))
    return shares


# ---- Batches ------------------------------------------------------------------------------

SIZES = (2, 5, 10, 20, 40, 60, 80, 90, 100, 101, 110, 125, 150, 200, 300, 500, 1000)


@dataclass(frozen=True)
class Batches:
    """Mini-batches of digits behind a random linear layer of 100 features, in float64.

    Attributes:
        seed: of the layer and of the digits.
        sizes: (sizes,) numbers of examples m.
        rank: (sizes,) of the covariance.
        contrast: (sizes,) mean distance of two examples of different digits over that of two of
            the same digit; NaN where the batch has no such pair.
        contrast_whitened: (sizes,) the same after whitening with an eps that is negligible.
        equal_distances: (sizes,) how far distance / sqrt(2 m) is from 1, at most, over pairs of
            whitened examples.
    """

    seed: int
    sizes: list[int]
    rank: list[int]
    contrast: list[float]
    contrast_whitened: list[float]
    equal_distances: list[float]


def measure_batches(data: ImageSet, seed: int, sizes: Sequence[int] = SIZES) -> Batches:
    """Ranks, and distances before and after whitening, of batches of each size.

    Args:
        data: of whose training images the batches are drawn.
        seed: of the layer and of the digits.
        sizes: numbers of examples, each at least 2.
    """
    generator = torch.Generator().manual_seed(seed)
    pixels = data.train_images[0].numel()
    weight = 0.1 * torch.randn(pixels, LAYER, generator=generator, dtype=torch.float64)
    order = torch.randperm(len(data.train_images), generator=generator)
    rank, before, after, equal = [], [], [], []
    for m in sizes:
        x = data.train_images[order[:m]].flatten(1).double() @ weight
        labels = data.train_labels[order[:m]]
        variance = x.var(0, correction=0).mean().item()
        x_hat = whitening.whiten_zca(x, 1e-12 * variance)
        rank.append(whitening.covariance_rank(x))
        before.append(contrast(x, labels))
        after.append(contrast(x_hat, labels))
        equal.append((torch.pdist(x_hat) / math.sqrt(2 * m) - 1).abs().max().item())
    return Batches(seed, list(sizes), rank, before, after, equal)


def contrast(x: Tensor, labels: Tensor) -> float:
    """Mean distance of pairs of different labels over that of pairs of one label.

    Args:
        x: (m, d).
        labels: (m,).

    Returns:
        the ratio, or NaN if there is no pair of one of the kinds. 1 means that distance says
        nothing of the label.
    """
    same = torch.combinations(labels).diff(dim=1).squeeze(1) == 0
    distances = torch.pdist(x)
    if same.all() or not same.any():
        return math.nan
    return (distances[~same].mean() / distances[same].mean()).item()


# ---- Cost ---------------------------------------------------------------------------------

METHODS: dict[str, Callable[[Tensor], Tensor]] = {
    "feature by feature": _normalize,
    "ZCA": whitening.whiten_zca,
    "Cholesky": whitening.whiten_cholesky,
}
"""What normalizes a mini-batch, by name ("feature by feature", "ZCA", "Cholesky").

:meta hide-value:
"""


@dataclass(frozen=True)
class Cost:
    """Processor time of a forward and a backward pass, on one thread, in float32.

    Processor time, unlike time on the wall, does not count what other programs take; their use of
    caches and memory still shows.

    Attributes:
        seed: of the 256 examples.
        dims: (sizes,) numbers of features.
        milliseconds: for each method (sizes,), median over the repeats.
    """

    seed: int
    dims: list[int]
    milliseconds: dict[str, list[float]]

    def slope(self, method: str, least: int = SLOPE_FROM) -> float:
        """The slope of log time against log features, by least squares.

        Args:
            method: a key of `METHODS`.
            least: fewer features than that are left out.
        """
        kept = np.asarray(self.dims) >= least
        log_d, log_ms = np.log(self.dims)[kept], np.log(self.milliseconds[method])[kept]
        return float(np.polyfit(log_d, log_ms, deg=1)[0])


def measure_cost(dims: Sequence[int], repeats: int, seed: int) -> Cost:
    """Time every method at every number of features; the methods take turns.

    Args:
        dims: numbers of features.
        repeats: how many timings, of which the median is kept.
        seed: of the examples.
    """
    generator = torch.Generator().manual_seed(seed)
    found: dict[str, list[float]] = {method: [] for method in METHODS}
    for d in dims:
        x, dy = (torch.randn(TIMED_EXAMPLES, d, generator=generator) for _ in range(2))
        times: dict[str, list[float]] = {method: [] for method in METHODS}
        for repeat in range(repeats + 1):
            for method, function in METHODS.items():
                leaf = x.clone().requires_grad_()
                started = time.process_time()
                function(leaf).backward(dy)
                if repeat:  # the first is to warm up
                    times[method].append(1000 * (time.process_time() - started))
        for method, values in times.items():
            found[method].append(round(statistics.median(values), 4))
    return Cost(seed, list(dims), found)


# ---- The experiment -----------------------------------------------------------------------


@dataclass(frozen=True)
class Result:
    """All that was measured at one scale.

    Attributes:
        scale: "live" or "paper".
        seeds: the seeds.
        drifts: one for each problem and seed.
        runs: one for each arm and seed.
        batches: one for each seed.
        costs: one for each seed.
        provenance: what it was made with, see `bn_core.experiments.records.provenance`.
    """

    scale: str
    seeds: tuple[int, ...]
    drifts: tuple[Drift, ...]
    runs: tuple[Run, ...]
    batches: tuple[Batches, ...]
    costs: tuple[Cost, ...]
    provenance: dict[str, Any]

    def drift(self, problem: str, seed: int) -> Drift:
        """The drift of one problem and seed; KeyError if there is none."""
        return _only([d for d in self.drifts if d.problem == problem], seed, problem)

    def run(self, arm: str, seed: int) -> Run:
        """The run of one arm and seed; KeyError if there is none."""
        return _only([r for r in self.runs if r.arm == arm], seed, arm)

    def batch(self, seed: int) -> Batches:
        """The batches of one seed; KeyError if there are none."""
        return _only(self.batches, seed, "batches")

    def cost(self, seed: int) -> Cost:
        """The cost of one seed; KeyError if there is none."""
        return _only(self.costs, seed, "costs")


Measured = TypeVar("Measured", Drift, Run, Batches, Cost)


def _only(measured: Sequence[Measured], seed: int, what: str) -> Measured:
    for each in measured:
        if each.seed == seed:
            return each
    raise KeyError(f"{NAME}: there is nothing of {what!r} with seed {seed}")


def run(
    scale: str = "live",
    seeds: Sequence[int] | None = None,
    progress: bool = False,
    resume: Path | None = None,
) -> Result:
    """Run the four studies with every seed.

    Args:
        scale: "live" (embedded digits) or "paper" (full MNIST, more steps and features).
        seeds: by default 0, 1, 2 at live scale and 0 to 4 at paper scale.
        progress: show a progress bar on stderr.
        resume: folder in which finished networks and checkpoints are kept and found again; None for
            none.

    Raises:
        ValueError: an unknown scale, or no seed.
        bn_core.lab.data.DataError: the data are not to be had.
    """
    seeds = choose_seeds(NAME, scale, SCALES, seeds)
    size = SCALES[scale]
    data = _digits(size.data)
    threads = torch.get_num_threads()
    with records.provenance(data) as provenance:
        runs = run_all(
            _train,
            [(arm, seed, size) for seed in seeds for arm in ARMS],
            steps=size.steps,
            progress=f"{NAME}, {scale} scale" if progress else None,
            resume=resume,
        )
        torch.set_num_threads(1)
        try:
            drifts = [descend(p, seed, size.drift_steps) for seed in seeds for p in PROBLEMS]
            batches = [measure_batches(data, seed) for seed in seeds]
            costs = [measure_cost(size.dims, size.repeats, seed) for seed in seeds]
        finally:
            torch.set_num_threads(threads)
    return Result(
        scale, seeds, tuple(drifts), tuple(runs), tuple(batches), tuple(costs), provenance
    )


@lru_cache(maxsize=1)
def _digits(name: str) -> ImageSet:
    return load(name).binary()


def _rounded(values: Any) -> Any:
    return np.asarray(values, dtype=float).round(4).tolist()


# ---- Claims -------------------------------------------------------------------------------


def _digits_of(share: float) -> float:
    """To how many decimal digits two numbers agree that differ by this share: at most 16."""
    return -math.log10(max(share, 1e-16))


def _drifts_by_formula(result: Result, seed: int) -> Effect:
    found = result.drift("center-detached", seed)
    return Effect(seed, _digits_of(max(found.formula_error, found.loss_spread)))


def _stands_still(result: Result, seed: int) -> Effect:
    return Effect(seed, _digits_of(result.drift("center", seed).farthest))


def _loss_rises(result: Result, seed: int) -> Effect:
    return Effect(seed, result.drift("scale-detached", seed).highest_loss)


def _drifts_further(result: Result, seed: int) -> Effect:
    scaled, centered = (
        abs(result.drift(problem, seed).bias[-1])
        for problem in ("scale-detached", "center-detached")
    )
    return Effect(seed, scaled / centered)


def _bias_grows(result: Result, seed: int) -> Effect:
    detached, through = (result.run(arm, seed).bias[-1] for arm in ("center-detached", "center"))
    return Effect(seed, math.log10(detached / max(through, 1e-12)))


def _explodes(arm: str) -> Callable[[Result, int], Effect]:
    def measure(result: Result, seed: int) -> Effect:
        found = result.run(arm, seed)
        if found.diverged_at is not None:  # a loss that is not finite is above every other
            return Effect(seed, math.inf)
        return Effect(seed, found.final_loss / CHANCE)

    return measure


def _gap(result: Result, normalization: str, seed: int, inputs: str = "") -> float:
    through = result.run(f"{normalization}{inputs}", seed).final_accuracy
    return 100 * (through - result.run(f"{normalization}-detached{inputs}", seed).final_accuracy)


def _whitening_worse(result: Result, seed: int) -> Effect:
    return Effect(seed, _gap(result, "whiten", seed))


def _rescued(result: Result, seed: int) -> Effect:
    gap = _gap(result, "center", seed)
    left = _gap(result, "center", seed, "-centered-inputs")
    return Effect(seed, 100 * (1 - left / gap) if gap > 0 else math.nan)


def _become_alike(result: Result, seed: int) -> Effect:
    last = [result.run(f"{arm}-detached", seed).alike[-1] for arm in ("center", "scale")]
    return Effect(seed, 100 * min(last))


def _whitening_slope(result: Result, seed: int) -> Effect:
    return Effect(seed, result.cost(seed).slope("ZCA"))


def _rank_deficit(result: Result, seed: int) -> Effect:
    found = result.batch(seed)
    return Effect(seed, min(m - rank for m, rank in zip(found.sizes, found.rank, strict=True)))


def _distances_erased(result: Result, seed: int) -> Effect:
    found = result.batch(seed)
    small = [
        distance
        for m, distance in zip(found.sizes, found.equal_distances, strict=True)
        if m <= LAYER
    ]
    return Effect(seed, _digits_of(max(small)))


CLAIMS: tuple[Claim[Result], ...] = (
    Claim(
        id=f"{NAME}.bias-drifts",
        statement="Centered outside the gradient step, the bias grows by 2αT · mean(t) in T steps "
        "while the loss stands still.",
        source="ioffe2015, section 2",
        effect="decimal digits to which b keeps to the formula and the loss to its first value, "
        "whichever is fewer",
        unit=" decimal digits",
        threshold=6.0,
        measure=_drifts_by_formula,
    ),
    Claim(
        id=f"{NAME}.through-stands-still",
        statement="With the gradient through the mean, the bias does not move.",
        source="ioffe2015, section 2",
        effect="decimal digits to which b stays where it was, beside the drift without that "
        "gradient",
        unit=" decimal digits",
        threshold=6.0,
        measure=_stands_still,
    ),
    Claim(
        id=f"{NAME}.scaling-raises-loss",
        statement="With scaling outside the gradient step as well, and targets that rise with u (a "
        "pull k of 0.4 to 0.7), the weight runs into zero, and there the loss jumps up.",
        source="this book",
        effect="highest loss of the run / first loss",
        unit="x",
        threshold=2.0,
        measure=_loss_rises,
    ),
    Claim(
        id=f"{NAME}.scaling-drifts-further",
        statement="With scaling outside the gradient step as well (k of 0.4 to 0.7), the bias ends "
        "farther away than with centering alone.",
        source=OWN,
        effect="|b| after the last of 400 (live) or 10,000 (paper) steps, scaled / centered",
        unit="x",
        threshold=1.0,
        measure=_drifts_further,
    ),
    Claim(
        id=f"{NAME}.network-bias-grows",
        statement="In a network on digits, at a learning rate of 2, biases grow if the gradient "
        "step does not see the centering, and move only by rounding if it does.",
        source="ioffe2015, section 2",
        effect="root mean square of the hidden biases at the end, mean detached / gradient through "
        "it",
        unit=" orders of magnitude",
        threshold=3.0,
        measure=_bias_grows,
    ),
    Claim(
        id=f"{NAME}.centering-explodes",
        statement="That network, centered outside the gradient step, blows up: its loss ends above "
        "that of guessing.",
        source="ioffe2015, section 2",
        effect="training loss over the last tenth of training / loss of guessing",
        unit="x",
        threshold=1.0,
        measure=_explodes("center-detached"),
    ),
    Claim(
        id=f"{NAME}.scaling-explodes",
        statement="A network on digits at a learning rate of 2, centered and scaled outside the "
        "gradient step, blows up: its loss ends above that of guessing.",
        source="ioffe2015, section 2",
        effect="training loss over the last tenth of training / loss of guessing",
        unit="x",
        threshold=1.0,
        measure=_explodes("scale-detached"),
    ),
    Claim(
        id=f"{NAME}.whitening-explodes",
        statement="A network on digits at a learning rate of 2, whitened without the derivative by "
        "the other examples, blows up: its loss ends above that of guessing.",
        source="ioffe2015, section 2",
        effect="training loss over the last tenth of training / loss of guessing",
        unit="x",
        threshold=1.0,
        measure=_explodes("whiten-detached"),
    ),
    Claim(
        id=f"{NAME}.whitening-worse",
        statement="Whitened without the derivative by the other examples, that network ends at a "
        "lower test accuracy than with it.",
        source="this book",
        effect="test accuracy over the last tenth of training, whole gradient minus detached",
        unit=" points",
        threshold=0.0,
        measure=_whitening_worse,
    ),
    Claim(
        id=f"{NAME}.harm-through-input-means",
        statement="If what enters every linear layer has mean about zero, centering outside the "
        "gradient step does that network no harm, although its biases still drift.",
        source=OWN,
        effect="share of the gap in test accuracy (whole gradient minus detached) that vanishes "
        "with such inputs",
        unit=" %",
        threshold=90.0,
        measure=_rescued,
    ),
    Claim(
        id=f"{NAME}.units-become-alike",
        statement="In the networks centered or scaled outside the gradient step, all units of the "
        "last hidden layer come to say nearly the same.",
        source=OWN,
        effect="share of their variance along one direction, the smaller of the two networks'",
        unit=" %",
        threshold=90.0,
        measure=_become_alike,
    ),
    Claim(
        id=f"{NAME}.whitening-cost",
        statement="From 128 to 2,048 features (live: to 512), the time of whitening grows faster "
        "than the square of their number.",
        source=OWN,
        effect="slope of log processor time of ZCA whitening, forward and backward, against log "
        "features, from 128 features on",
        unit="",
        threshold=2.0,
        measure=_whitening_slope,
    ),
    Claim(
        id=f"{NAME}.small-batch-singular",
        statement="The covariance of a batch of m examples has rank at most m − 1 (a theorem; this "
        "checks the code).",
        source="ioffe2015, section 3",
        effect="least m - rank over batches of 2 to 1,000 digits",
        unit="",
        threshold=0.0,
        measure=_rank_deficit,
    ),
    Claim(
        id=f"{NAME}.distances-erased",
        statement="Whitening a batch of no more examples than features, with a negligible eps, "
        "makes all its examples equally far from each other (a theorem; this checks the code).",
        source=OWN,
        effect="decimal digits to which all distances are sqrt(2 m), for m up to 100 digits with "
        "100 features",
        unit=" decimal digits",
        threshold=3.0,
        measure=_distances_erased,
    ),
)


def recorded(folder: Path) -> Result:
    """The recorded result in a folder such as the book's `results`."""
    return records.result(folder, NAME, Result)
