"""The two simplifications of section 3: each feature on its own, statistics of a mini-batch.

Three measurements. `Descent`: softmax regression on digits whose pixels were left as they are,
centred, normalized one by one, or whitened jointly, and the steps to a given training loss.
`Sample`: how far the statistics of a mini-batch are from those of the set that it is drawn from,
feature by feature and jointly. `Shape`: skewness and kurtosis of hidden pre-activations before and
after they are normalized.

Softmax regression starts from zero weights and its loss is convex, so that a seed decides the order
of the examples and nothing else. Learning rates were tried, for each treatment of the pixels, on
one half of the training digits with two orders (`TUNING_SEEDS`); the other half is trained on and
judged. Pilot runs with seed 100 on those halves set the losses that are asked for and the range of
the rates; no run of theirs is recorded.

One eps was tried, 1e-5. It weighs where many directions have next to no variance, as those of
pixels do: with a larger one the order of the treatments may be another.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bn_core.algorithms import batch_norm_forward
from bn_core.experiments import records
from bn_core.experiments.claims import OWN, Claim, Effect
from bn_core.experiments.registry import choose_seeds
from bn_core.lab.data import ImageSet, load
from bn_core.lab.models import figure1_network
from bn_core.lab.probes import kurtosis, skewness
from bn_core.lab.sweeps import Report, run_all
from bn_core.lab.training import train
from bn_core.layers import BatchNorm1d
from bn_core.whitening import batch_covariance

NAME = "simplifications"
TITLE = "Each feature on its own, and the statistics of a mini-batch (section 3)"
BATCH_SIZE = 60
EPS = 1e-5
TREATMENTS = ("raw", "centred", "normalized", "whitened")
"""What is done to the features before the descent."""
LARGE_TREATMENTS = ("normalized", "whitened")  # with the large mini-batches
RATES = tuple(2.0**k for k in range(-6, 5))
TUNING_SEEDS = (100, 101)
SIZES = (8, 16, 32, 64, 128, 256, 512, 1024)  # of mini-batches
SMALL, LARGE = 64, 512  # below and above the number of features, which is 100
LAYERS = ("norm1", "norm2", "norm3")


@dataclass(frozen=True)
class Scale:
    """The size of a run.

    Attributes:
        data: name of the image set.
        looked_at: examples of those trained on that the training loss is taken of.
        steps: of softmax regression.
        every: steps between two looks at the training loss.
        large_batch: examples in a mini-batch of the second regression, whose gradients have less
            noise.
        large_steps: of that regression.
        large_every: steps between two looks at its training loss.
        target: training loss that steps are counted to.
        batches: mini-batches drawn of each size.
        network_steps: of the network whose pre-activations are normalized.
        seeds: how many, unless told otherwise.
    """

    data: str
    looked_at: int
    steps: int
    every: int
    large_batch: int
    large_steps: int
    large_every: int
    target: float
    batches: int
    network_steps: int
    seeds: int


SCALES = {
    "live": Scale(
        data="mnist-5k",
        looked_at=1_000,
        steps=300,
        every=5,
        large_batch=1_000,
        large_steps=50,
        large_every=1,
        target=0.2,
        batches=12,
        network_steps=300,
        seeds=3,
    ),
    "paper": Scale(
        data="mnist",
        looked_at=10_000,
        steps=2_000,
        every=20,
        large_batch=2_000,
        large_steps=400,
        large_every=4,
        target=0.3,
        batches=200,
        network_steps=3_000,
        seeds=5,
    ),
}


@dataclass(frozen=True)
class Tuning:
    """The learning rates that were tried for one treatment of the pixels.

    Attributes:
        treatment: one of `TREATMENTS`.
        batch_size: examples in a mini-batch.
        rates: tried.
        steps_to: mean steps to the target over the tuning seeds, for each rate; NaN where one of
            them never arrived.
        chosen: the rate that took fewest; of several, the lowest.
    """

    treatment: str
    batch_size: int
    rates: list[float]
    steps_to: list[float]
    chosen: float

    @property
    def at_edge(self) -> bool:
        """Whether the chosen rate is the lowest or the highest that was tried."""
        return self.chosen in (self.rates[0], self.rates[-1])


@dataclass(frozen=True)
class Descent:
    """Softmax regression on one treatment of the pixels, at its chosen rate.

    Attributes:
        treatment: one of `TREATMENTS`.
        batch_size: examples in a mini-batch.
        seed: of the order of the examples.
        steps: (records,) steps at which the loss was taken.
        loss: (records,) mean cross-entropy over examples that are trained on.
    """

    treatment: str
    batch_size: int
    seed: int
    steps: list[int]
    loss: list[float]

    def steps_to(self, target: float) -> int | None:
        """First recorded step at which the loss was at most `target`, or None."""
        reached = (s for s, loss in zip(self.steps, self.loss, strict=True) if loss <= target)
        return next(reached, None)


@dataclass(frozen=True)
class Sample:
    """Statistics of mini-batches beside those of the set that they are drawn from.

    The features are the 100 pre-activations of the first hidden layer of the Figure 1 network, at
    its initial weights. Mini-batches are drawn with replacement. The last three are medians over
    mini-batches of the largest variance, over all examples, that is found along any direction after
    a mini-batch's statistics normalized the features; were they exact it would be 1.

    Attributes:
        seed: of the network's weights and of the draws.
        sizes: (sizes,) m, of the mini-batches.
        mean_error: (sizes,) root mean square of (mu_B - mu) / sigma.
        var_error: (sizes,) root mean square of var_B / var - 1; var_B is the biased one.
        single: (sizes,) each feature on its own, and the directions are the features.
        joint: (sizes,) whitened by the mini-batch's covariance, with eps.
        joint_decorrelated: (sizes,) the same, of features that had been whitened by the covariance
            of all examples, so that they have no correlation.
    """

    seed: int
    sizes: list[int]
    mean_error: list[float]
    var_error: list[float]
    single: list[float]
    joint: list[float]
    joint_decorrelated: list[float]


@dataclass(frozen=True)
class Shape:
    """Hidden pre-activations of a trained network, before and after they are normalized.

    Attributes:
        layer: name of the batch normalization.
        seed: of weights and orders.
        difference: largest change, over units and mini-batches of 60 test examples, of a unit's
            skewness or kurtosis when the mini-batch is normalized, in float64.
        excess_before: mean over units of how far the kurtosis over all test examples is from 3.
        excess_after: the same of the normalized values, each normalized in its mini-batch of 60.
    """

    layer: str
    seed: int
    difference: float
    excess_before: float
    excess_after: float


@dataclass(frozen=True)
class Result:
    """Everything measured at one scale.

    Attributes:
        scale: "live" or "paper".
        seeds: the seeds.
        tuning: one for each treatment and size of mini-batch.
        descents: one for each treatment, size of mini-batch and seed.
        samples: one for each seed.
        shapes: one for each layer and seed.
        provenance: what it was made with, see `bn_core.experiments.records.provenance`.
    """

    scale: str
    seeds: tuple[int, ...]
    tuning: tuple[Tuning, ...]
    descents: tuple[Descent, ...]
    samples: tuple[Sample, ...]
    shapes: tuple[Shape, ...]
    provenance: dict[str, Any]

    def of(self, treatment: str, batch_size: int = BATCH_SIZE) -> list[Descent]:
        """The descents of one treatment and size of mini-batch, in the order of the seeds."""
        return [
            each
            for each in self.descents
            if (each.treatment, each.batch_size) == (treatment, batch_size)
        ]

    def steps_to_target(
        self, treatment: str, seed: int, batch_size: int = BATCH_SIZE
    ) -> int | None:
        """Steps to the target loss of the scale, or None."""
        [descent] = [each for each in self.of(treatment, batch_size) if each.seed == seed]
        return descent.steps_to(SCALES[self.scale].target)

    def sample(self, seed: int) -> Sample:
        """The sample of one seed."""
        [found] = [sample for sample in self.samples if sample.seed == seed]
        return found


def run(
    scale: str = "live",
    seeds: Sequence[int] | None = None,
    progress: bool = False,
    resume: Path | None = None,
) -> Result:
    """Make the three measurements.

    Args:
        scale: "live" (embedded digits, seconds) or "paper" (full MNIST).
        seeds: by default 0, 1, 2 at live scale and 0 to 4 at paper scale.
        progress: show a progress bar on stderr.
        resume: folder in which finished parts are kept and found again; None for none.

    Raises:
        ValueError: an unknown scale, or no seed.
        bn_core.lab.data.DataError: the data are not to be had.
    """
    seeds = choose_seeds(NAME, scale, SCALES, seeds)
    size = SCALES[scale]
    data = _digits(size.data)
    jobs: list[_Job] = [
        *(("descent", treatment, size.large_batch, seeds, size) for treatment in LARGE_TREATMENTS),
        *(("descent", treatment, BATCH_SIZE, seeds, size) for treatment in TREATMENTS),
        *((part, "", 0, (seed,), size) for seed in seeds for part in ("sample", "shape")),
    ]
    with records.provenance(data) as provenance:
        outcomes = run_all(
            _run_part,
            jobs,
            steps=1,
            progress=f"{NAME}, {scale} scale" if progress else None,
            resume=resume,
        )
    found = [part for outcome in outcomes for part in outcome]

    def of(kind: type) -> tuple[Any, ...]:
        return tuple(part for part in found if isinstance(part, kind))

    return Result(scale, seeds, of(Tuning), of(Descent), of(Sample), of(Shape), provenance)


_Job = tuple[str, str, int, tuple[int, ...], Scale]  # part, treatment, batch size, seeds, size


def _run_part(job: _Job, report: Report) -> list[Any]:
    part, treatment, batch_size, seeds, size = job
    outcome: list[Any]
    if part == "descent":
        outcome = _descents(treatment, batch_size, seeds, size)
    elif part == "sample":
        outcome = [_sample(size, seed) for seed in seeds]
    else:
        outcome = [shape for seed in seeds for shape in _shapes(size, seed, report)]
    report(1)
    return outcome


@lru_cache(maxsize=1)
def _digits(name: str) -> ImageSet:
    return load(name)


# The inputs of softmax regression


def _descents(
    treatment: str, batch_size: int, seeds: Sequence[int], size: Scale
) -> list[Tuning | Descent]:
    """Choose the rate on one half of the training digits, then train on the other."""
    data = _digits(size.data)
    halves = data.hold_out(len(data.train_labels) // 2)
    tried = _losses(
        treated(halves.test_images.flatten(1), treatment),
        halves.test_labels,
        RATES,
        TUNING_SEEDS,
        batch_size,
        size,
    )
    tuning = _tuning(treatment, batch_size, tried, size)
    losses = _losses(
        treated(halves.train_images.flatten(1), treatment),
        halves.train_labels,
        [tuning.chosen],
        seeds,
        batch_size,
        size,
    )
    steps, every = _length(batch_size, size)
    looks = list(range(every, steps + 1, every))
    return [
        tuning,
        *(
            Descent(treatment, batch_size, seed, looks, loss[0].double().numpy().round(4).tolist())
            for seed, loss in zip(seeds, losses, strict=True)
        ),
    ]


def _length(batch_size: int, size: Scale) -> tuple[int, int]:
    """Steps, and steps between two looks at the loss."""
    if batch_size == size.large_batch:
        return size.large_steps, size.large_every
    return size.steps, size.every


def treated(pixels: Tensor, treatment: str) -> Tensor:
    """Pixels as one of `TREATMENTS`, with the statistics of all the examples given.

    Args:
        pixels: (n, d).
        treatment: "raw"; "centred", the mean of each pixel subtracted; "normalized", each pixel by
            Algorithm 1 over all n; or "whitened", all pixels jointly by ZCA. The last two add
            `EPS` to each variance, or eigenvalue of the covariance.

    Returns:
        (n, d), of the same dtype.

    Raises:
        ValueError: another treatment.
    """
    if treatment not in TREATMENTS:
        raise ValueError(
            f"treated: treatment is {treatment!r}; it must be one of {', '.join(TREATMENTS)}"
        )
    if treatment == "raw":
        return pixels
    x = pixels.double()
    if treatment == "centred":
        x = x - x.mean(0)
    elif treatment == "normalized":
        one = torch.ones(x.shape[1], dtype=x.dtype)
        x, _ = batch_norm_forward(x, one, 0 * one, EPS)
    else:
        mu, sigma = batch_covariance(x)
        x = (x - mu) @ _inverse_root(sigma, EPS)
    return x.to(pixels.dtype)


def _losses(
    x: Tensor,
    labels: Tensor,
    rates: Sequence[float],
    seeds: Sequence[int],
    batch_size: int,
    size: Scale,
) -> Tensor:
    """Training loss of softmax regression, (seeds, rates, records), for all of them at once.

    The gradient of the cross-entropy for the scores is p - onehot, divided by m. A column of ones
    beside the pixels makes the bias a weight like the others.
    """
    x = torch.cat([x, torch.ones(len(x), 1)], dim=1)
    classes = int(labels.max()) + 1
    target = torch.nn.functional.one_hot(labels, classes).to(x.dtype)
    weights = torch.zeros(len(seeds), x.shape[1], len(rates) * classes)
    step_sizes = torch.tensor(rates).repeat_interleave(classes)
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    found = []
    steps, every = _length(batch_size, size)
    for step in range(1, steps + 1):
        rows = torch.stack([torch.randperm(len(x), generator=g)[:batch_size] for g in generators])
        batch = x[rows]
        scores = (batch @ weights).view(len(seeds), batch_size, len(rates), classes)
        error = scores.softmax(-1) - target[rows].unsqueeze(2)
        weights -= step_sizes * (batch.mT @ error.flatten(2)) / batch_size
        if step % every == 0:
            seen = slice(size.looked_at)
            found.append(_loss(x[seen], target[seen], weights, len(rates)))
    return torch.stack(found, -1)


def _loss(x: Tensor, target: Tensor, weights: Tensor, rates: int) -> Tensor:
    """Mean cross-entropy, (seeds, rates)."""
    scores = (x @ weights).view(len(weights), len(x), rates, -1)
    return -(scores.log_softmax(-1) * target.unsqueeze(1)).sum(-1).mean(1)


def _tuning(treatment: str, batch_size: int, losses: Tensor, size: Scale) -> Tuning:
    """The rate that takes the fewest steps, of losses (seeds, rates, records)."""
    there = losses <= size.target
    last, every = _length(batch_size, size)
    steps = every * (there.int().argmax(-1) + 1).to(torch.float64)
    mean = torch.where(there.any(-1), steps, math.nan).mean(0)
    if bool(mean.isnan().all()):
        raise ValueError(
            f"{NAME}: with {treatment} pixels no rate reached the loss {size.target} in "
            f"{last} steps; ask for a higher loss or take more steps"
        )
    chosen = int(mean.nan_to_num(math.inf).argmin())
    return Tuning(treatment, batch_size, list(RATES), mean.numpy().round(1).tolist(), RATES[chosen])


# The statistics of mini-batches


def _sample(size: Scale, seed: int) -> Sample:
    generator = torch.Generator().manual_seed(seed)
    network = figure1_network(generator=generator)
    with torch.no_grad():
        images = _digits(size.data).train_images
        features = network.get_submodule("linear1")(images.flatten(1)).double()
    mu, sigma = batch_covariance(features)
    decorrelated = (features - mu) @ _inverse_root(sigma, 0.0)
    _, identity = batch_covariance(decorrelated)
    var = sigma.diagonal()
    root, identity_root = torch.linalg.cholesky(sigma), torch.linalg.cholesky(identity)
    rows: list[list[float]] = []
    for m in SIZES:
        of_mean, of_var, single, joint, joint_decorrelated = [], [], [], [], []
        for _ in range(size.batches):
            chosen = torch.randint(len(features), (m,), generator=generator)
            mu_b, sigma_b = batch_covariance(features[chosen])
            var_b = sigma_b.diagonal()
            of_mean.append(((mu_b - mu) ** 2 / var).mean())
            of_var.append(((var_b / var - 1) ** 2).mean())
            single.append((var / (var_b + EPS)).max())
            joint.append(_worst(root, sigma_b))
            _, sigma_b = batch_covariance(decorrelated[chosen])
            joint_decorrelated.append(_worst(identity_root, sigma_b))
        root_mean = [float(torch.stack(values).mean().sqrt()) for values in (of_mean, of_var)]
        medians = [
            float(torch.stack(values).median()) for values in (single, joint, joint_decorrelated)
        ]
        rows.append([*root_mean, *medians])
    columns = [[_digits_of(value) for value in column] for column in zip(*rows, strict=True)]
    return Sample(seed, list(SIZES), *columns)


def _worst(root: Tensor, sigma_b: Tensor) -> Tensor:
    """Largest eigenvalue of F Sigma F, where F = (Sigma_B + eps I)^(-1/2).

    With Sigma = L L^T it is one over the smallest eigenvalue of L^-1 (Sigma_B + eps I) L^-T.

    Args:
        root: L, (d, d), lower triangular.
        sigma_b: (d, d).
    """
    regular = sigma_b + EPS * torch.eye(len(sigma_b), dtype=sigma_b.dtype)
    half = torch.linalg.solve_triangular(root, regular, upper=False)
    whole = torch.linalg.solve_triangular(root, half.mT, upper=False)
    largest: Tensor = torch.linalg.eigvalsh(whole)[0].reciprocal()
    return largest


def _inverse_root(sigma: Tensor, eps: float) -> Tensor:
    """(Sigma + eps I)^(-1/2); rounding below zero is taken for zero."""
    eigenvalues, q = torch.linalg.eigh(sigma)
    root: Tensor = (q / torch.sqrt(eigenvalues.clamp_min(0) + eps)) @ q.mT
    return root


def exponent(sizes: Sequence[int], errors: Sequence[float]) -> float:
    """Slope of the straight line that fits log error against log size best, in least squares.

    Args:
        sizes: at least two, positive.
        errors: one for each size, positive.
    """
    return float(np.polyfit(np.log(sizes), np.log(errors), 1)[0])


# The shape of a distribution


def _shapes(size: Scale, seed: int, report: Report) -> list[Shape]:
    data = _digits(size.data)
    network = figure1_network(BatchNorm1d, generator=torch.Generator().manual_seed(seed))
    order = torch.Generator().manual_seed(seed)
    train(
        network,
        data.train_images,
        data.train_labels,
        torch.optim.SGD(network.parameters(), lr=0.1),
        steps=size.network_steps,
        batch_size=BATCH_SIZE,
        generator=order,
        checkpoint=report.checkpoint,
    )
    network.eval()
    shuffled = torch.randperm(len(data.test_images), generator=order)
    whole = len(shuffled) // BATCH_SIZE * BATCH_SIZE
    images = data.test_images[shuffled[:whole]]
    found = []
    with torch.no_grad():
        signal = images
        for name, layer in network.named_children():
            if name in LAYERS:
                found.append(_shape(name, seed, signal.double()))
            signal = layer(signal)
    return found


def _shape(layer: str, seed: int, x: Tensor) -> Shape:
    one = torch.ones(x.shape[1], dtype=x.dtype)
    difference = 0.0
    after = []
    for batch in x.split(BATCH_SIZE):
        x_hat, _ = batch_norm_forward(batch, one, 0 * one, EPS)
        after.append(x_hat)
        for moment in (skewness, kurtosis):
            difference = max(difference, float((moment(x_hat) - moment(batch)).abs().max()))
    excess = [float((kurtosis(values) - 3).abs().mean()) for values in (x, torch.cat(after))]
    return Shape(layer, seed, float(f"{difference:.1e}"), *map(_digits_of, excess))


def _digits_of(value: float | Tensor) -> float:
    """To five digits: all that a record needs."""
    return float(f"{float(value):.5g}")


# What the claims measure


def _ratio(slow: str, fast: str, large: bool = False) -> Callable[[Result, int], Effect]:
    """Steps with one treatment over steps with the other."""

    def measure(result: Result, seed: int) -> Effect:
        batch_size = SCALES[result.scale].large_batch if large else BATCH_SIZE
        slow_steps, fast_steps = (result.steps_to_target(t, seed, batch_size) for t in (slow, fast))
        last, _ = _length(batch_size, SCALES[result.scale])
        if slow_steps is None and fast_steps is None:
            return Effect(seed, math.nan)
        if slow_steps is None:
            return Effect(seed, last / (fast_steps or 1), "at least")
        if fast_steps is None:
            return Effect(seed, slow_steps / last, "at most")
        return Effect(seed, slow_steps / fast_steps)

    return measure


def _near_half(error: str) -> Callable[[Result, int], Effect]:
    """Minus the distance of the fitted exponent from -1/2."""

    def measure(result: Result, seed: int) -> Effect:
        sample = result.sample(seed)
        return Effect(seed, -abs(exponent(sample.sizes, getattr(sample, error)) + 0.5))

    return measure


def _worse(more: str, less: str, m: int) -> Callable[[Result, int], Effect]:
    """Largest variance of one kind over that of the other, at one size of mini-batch."""

    def measure(result: Result, seed: int) -> Effect:
        sample = result.sample(seed)
        at = sample.sizes.index(m)
        return Effect(seed, getattr(sample, more)[at] / getattr(sample, less)[at])

    return measure


def _agreeing_digits(result: Result, seed: int) -> Effect:
    worst = max(shape.difference for shape in result.shapes if shape.seed == seed)
    return Effect(seed, -math.log10(worst) if worst > 0 else math.inf)


def _excess_lost(result: Result, seed: int) -> Effect:
    shapes = [shape for shape in result.shapes if shape.seed == seed]
    return Effect(seed, float(np.mean([s.excess_before - s.excess_after for s in shapes])))


_TO_TARGET = "to a training loss of 0.2 (live) or 0.3 (paper), each at its own best learning rate"

CLAIMS: tuple[Claim[Result], ...] = (
    Claim(
        id="simplifications.normalized-inputs",
        statement="Softmax regression on digits, with mini-batches of 60, comes to a given "
        "training loss sooner when each pixel is normalized on its own (ε = 10⁻⁵), although "
        "pixels stay correlated.",
        source="ioffe2015, section 3",
        effect=f"steps with raw pixels / steps with normalized pixels {_TO_TARGET}",
        unit="x",
        threshold=1.0,
        measure=_ratio("raw", "normalized"),
    ),
    Claim(
        id="simplifications.scaling-beyond-centring",
        statement="Of that, a part is due to the division by the standard deviation (ε = 10⁻⁵): "
        "to the same loss, pixels that are only centred take more steps.",
        source=OWN,
        effect=f"steps with centred pixels / steps with normalized pixels {_TO_TARGET}",
        unit="x",
        threshold=1.0,
        measure=_ratio("centred", "normalized"),
    ),
    Claim(
        id="simplifications.whitened-inputs",
        statement="Whitening the pixels jointly (ε = 10⁻⁵) brings softmax regression on digits, "
        "with mini-batches of 60, to the same loss sooner than normalizing each on its own.",
        source="ioffe2015, section 2",
        effect=f"steps with normalized pixels / steps with whitened pixels {_TO_TARGET}",
        unit="x",
        threshold=1.0,
        measure=_ratio("normalized", "whitened"),
    ),
    Claim(
        id="simplifications.whitened-inputs-large-batch",
        statement="It does so, with ε = 10⁻⁵, when the gradient has less noise: with 1,000 "
        "(live) or 2,000 (paper) examples in a mini-batch in place of 60.",
        source=OWN,
        effect=f"steps with normalized pixels / steps with whitened pixels {_TO_TARGET}",
        unit="x",
        threshold=1.0,
        measure=_ratio("normalized", "whitened", large=True),
    ),
    Claim(
        id="simplifications.mean-error",
        statement="The error of a mini-batch's means falls as one over the root of m, for the "
        "features of an untrained first layer and m = 8 to 1,024.",
        source=OWN,
        effect="minus the distance from -1/2 of the exponent fitted for m = 8 to 1,024",
        unit="",
        threshold=-0.05,
        measure=_near_half("mean_error"),
    ),
    Claim(
        id="simplifications.var-error",
        statement="So does the error of its variances.",
        source=OWN,
        effect="minus the distance from -1/2 of the exponent fitted for m = 8 to 1,024",
        unit="",
        threshold=-0.05,
        measure=_near_half("var_error"),
    ),
    Claim(
        id="simplifications.joint-small-batch",
        statement="A mini-batch of 64 examples does not suffice to whiten 100 features jointly "
        "(ε = 10⁻⁵), while it does to normalize each on its own.",
        source="ioffe2015, section 3",
        effect="for m = 64 and 100 features, largest variance over all examples along any "
        "direction after joint whitening / of any feature normalized on its own",
        unit="x",
        threshold=10.0,
        measure=_worse("joint", "single", SMALL),
    ),
    Claim(
        id="simplifications.correlation-is-hard",
        statement="With 512 examples in the mini-batch, joint whitening (ε = 10⁻⁵) is harder if "
        "the 100 features are correlated (up to ε a theorem excludes it; this checks the code).",
        source=OWN,
        effect="for m = 512, largest variance over all examples along any direction after joint "
        "whitening of the features / of the same features decorrelated beforehand",
        unit="x",
        threshold=1.1,
        measure=_worse("joint", "joint_decorrelated", LARGE),
    ),
    Claim(
        id="simplifications.same-shape",
        statement="Normalizing a mini-batch changes neither the skewness nor the kurtosis of a "
        "hidden pre-activation (a theorem; this checks the code).",
        source=OWN,
        effect="decimals to which both agree before and after, in every mini-batch and unit",
        unit=" decimals",
        threshold=9.0,
        measure=_agreeing_digits,
    ),
    Claim(
        id="simplifications.more-gaussian",
        statement="Pooled over mini-batches of 60, each normalized by its own statistics, hidden "
        "pre-activations have a kurtosis nearer to a Gaussian's than before, on the mean over the "
        "units of the Figure 1 network with batch normalization.",
        source=OWN,
        effect="mean over hidden units of |kurtosis - 3| before minus after",
        unit="",
        threshold=0.0,
        measure=_excess_lost,
    ),
)


def recorded(folder: Path) -> Result:
    """The recorded result in a folder such as the book's `results`."""
    return records.result(folder, NAME, Result)
