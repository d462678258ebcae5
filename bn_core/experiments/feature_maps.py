"""What is normalized together in a feature map (section 3.2): before or after, and how many values.

A small convolutional network is trained with batch normalization before each nonlinearity, as the
paper has it, and after it. In each network three things are measured:

- test accuracy over training;
- the shape of what leaves a convolution, Wu, and of what leaves the nonlinearity behind it: how
  skew, how far from a Gaussian's kurtosis, how many zeros, and how much the skewness changes while
  the network trains. The paper puts the normalization where the shape is "more Gaussian";
- how far the average variance of a mini-batch lies below the population's. With m' independent
  values per feature map, m'/(m'-1) would make up for it. Positions of a map are not independent.
  Once more with the same images at random brightness, which all positions of an image share.

Everything but the accuracy of training is measured in evaluation mode, where what leaves a
convolution does not depend on the other examples in the batch.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from bn_core.experiments import records
from bn_core.experiments.claims import OWN, Claim, Effect
from bn_core.experiments.registry import choose_seeds
from bn_core.lab.data import ImageSet, load
from bn_core.lab.models import convolutional_network
from bn_core.lab.probes import kurtosis, share_between_examples, skewness
from bn_core.lab.sweeps import Report, run_all
from bn_core.lab.training import accuracy, predict, train
from bn_core.layers import BatchNorm2d

NAME = "feature_maps"
TITLE = "Feature maps: before or after the nonlinearity, and how many values (section 3.2)"
BATCH_SIZE = 60
CHANNELS = (8, 8, 16)
LAYERS = len(CHANNELS)
RECORDS = 10  # evenly spaced over training
SIZES = (2, 4, 8, 16, 32, 60)
"""Of the mini-batches whose variance is averaged."""

ACTIVATIONS: Mapping[str, Callable[[], nn.Module]] = {"relu": nn.ReLU, "sigmoid": nn.Sigmoid}
"""The nonlinearities, by name ("relu", "sigmoid").

:meta hide-value:
"""


@dataclass(frozen=True)
class Arm:
    """One network.

    Attributes:
        name: short name.
        place: of the normalization, before or after the nonlinearity.
        activation: a key of `ACTIVATIONS`.
        lr: learning rate.
    """

    name: str
    place: Literal["before", "after"]
    activation: Literal["relu", "sigmoid"]
    lr: float

    def network(self, seed: int) -> nn.Sequential:
        """The network before training. All arms of a seed have the same initial weights."""
        return convolutional_network(
            BatchNorm2d,
            place=self.place,
            activation=ACTIVATIONS[self.activation],
            channels=CHANNELS,
            generator=torch.Generator().manual_seed(seed),
        )


@dataclass(frozen=True)
class Scale:
    """The size of a run.

    Attributes:
        data: name of the image set.
        steps: of training; a multiple of `RECORDS`.
        watched: test images whose shapes are measured during training.
        population: training images, the first so many, that batches are drawn from at the end.
        batches: how many of each size are drawn, with replacement.
        seeds: how many, unless told otherwise.
    """

    data: str
    steps: int
    watched: int
    population: int
    batches: int
    seeds: int


SCALES = {
    "live": Scale("mnist-5k", steps=100, watched=200, population=2_000, batches=1_000, seeds=3),
    "paper": Scale("mnist", steps=2_000, watched=500, population=10_000, batches=10_000, seeds=5),
}


@dataclass(frozen=True)
class Run:
    """What was measured of one network.

    "Linear" is what leaves a convolution, before normalization and nonlinearity; "active" is what
    leaves the nonlinearity behind it. Layers are in the order of the network.

    Attributes:
        arm: name of the arm.
        seed: the seed, of weights and of batch order.
        steps: (records,) steps of training at which accuracy and shapes were measured.
        accuracy: (records,) test accuracy in [0, 1].
        loss: (records,) mean training loss since the record before.
        skewness_linear: (records, layers) mean over the feature maps of the skewness's size.
        skewness_active: the same of what leaves the nonlinearity.
        kurtosis_linear: (records, layers) mean over the feature maps of the kurtosis's
            distance from 3.
        kurtosis_active: the same of what leaves the nonlinearity.
        zeros_linear: (records, layers) share of values that are exactly 0, in [0, 1].
        zeros_active: the same of what leaves the nonlinearity.
        drift_linear: (layers,) standard deviation over the records of a map's skewness, averaged
            over the maps.
        drift_active: the same of what leaves the nonlinearity.
        between: (layers,) mean over the maps of the share of the variance that lies between
            examples, r, see `bn_core.lab.probes.share_between_examples`; of "linear", at the end.
        ratio: (layers, sizes) average biased variance of a mini-batch over the population's, for
            each of `SIZES`; mean over the maps.
        noise: (layers, sizes) standard deviation over mini-batches of that ratio; mean over maps.
        between_bright: as `between`, with every image at its own random brightness.
        ratio_bright: as `ratio`, with every image at its own random brightness.
        diverged_at: step at which the loss was no longer finite, or None.
        seconds: wall time.
    """

    arm: str
    seed: int
    steps: list[int]
    accuracy: list[float]
    loss: list[float]
    skewness_linear: list[list[float]]
    skewness_active: list[list[float]]
    kurtosis_linear: list[list[float]]
    kurtosis_active: list[list[float]]
    zeros_linear: list[list[float]]
    zeros_active: list[list[float]]
    drift_linear: list[float]
    drift_active: list[float]
    between: list[float]
    ratio: list[list[float]]
    noise: list[list[float]]
    between_bright: list[float]
    ratio_bright: list[list[float]]
    diverged_at: int | None
    seconds: float

    @property
    def final_accuracy(self) -> float:
        """Mean test accuracy over the last fifth of the records; NaN after divergence."""
        if self.diverged_at is not None:
            return math.nan
        return float(np.mean(self.accuracy[-RECORDS // 5 :]))

    @property
    def mean_accuracy(self) -> float:
        """Mean test accuracy over all records, high for who learns soon; NaN after divergence."""
        return math.nan if self.diverged_at is not None else float(np.mean(self.accuracy))

    def corrected(self, layer: int, size: int, bright: bool = False) -> float:
        """m'/(m'-1) times the average variance of a batch, over the population's; 1 is right.

        Args:
            layer: index, from 0.
            size: m, one of `SIZES`.
            bright: of the images at random brightness.
        """
        ratio = self.ratio_bright if bright else self.ratio
        values = size * positions(layer)
        return ratio[layer][SIZES.index(size)] * values / (values - 1)

    def corrected_as_examples(self, layer: int, size: int) -> float:
        """The same with m/(m-1), as if a map held one value for each example."""
        return self.ratio[layer][SIZES.index(size)] * size / (size - 1)

    def expected(self, layer: int, size: int, bright: bool = False) -> float:
        """What `corrected` is on average, from r: a batch's variance is (1 - r/m) sigma^2.

        Args:
            layer: index, from 0.
            size: m, any.
            bright: of the images at random brightness.
        """
        between = self.between_bright if bright else self.between
        values = size * positions(layer)
        return (1 - between[layer] / size) * values / (values - 1)


@dataclass(frozen=True)
class Result:
    """All runs of one scale.

    Attributes:
        scale: "live" or "paper".
        arms: the networks and their settings.
        seeds: the seeds.
        runs: one for each arm and seed.
        provenance: what it was made with, see `bn_core.experiments.records.provenance`.
    """

    scale: str
    arms: tuple[Arm, ...]
    seeds: tuple[int, ...]
    runs: tuple[Run, ...]
    provenance: dict[str, Any]

    def of(self, arm: str) -> list[Run]:
        """The runs of one arm, in the order of the seeds."""
        return [run for run in self.runs if run.arm == arm]

    def one(self, arm: str, seed: int) -> Run:
        """The run of one arm and seed.

        Raises:
            KeyError: there is none.
        """
        for run in self.of(arm):
            if run.seed == seed:
                return run
        raise KeyError(f"feature_maps: there is no run of arm {arm!r} with seed {seed}")


# Of the rates 0.03, 0.1, 0.3 and 1, tried on 500 digits held out of the small training set with
# seed 100 and 240 steps: 0.3 is the best one with which all four networks train. It is also the
# best of the two that normalize after the nonlinearity, which stay at chance with 1. The other two
# do best with 1, and have an arm for it.
ARMS = (
    Arm("before", "before", "relu", lr=0.3),
    Arm("before-own-rate", "before", "relu", lr=1.0),
    Arm("after", "after", "relu", lr=0.3),
    Arm("before-sigmoid", "before", "sigmoid", lr=0.3),
    Arm("before-own-rate-sigmoid", "before", "sigmoid", lr=1.0),
    Arm("after-sigmoid", "after", "sigmoid", lr=0.3),
)


def positions(layer: int) -> int:
    """Positions of a feature map that leaves a convolution: 14 x 14, 7 x 7, 4 x 4.

    Args:
        layer: index, from 0.
    """
    side = 28
    for _ in range(layer + 1):
        side = math.ceil(side / 2)
    return side**2


def as_rows(x: Tensor) -> Tensor:
    """Feature maps as a table: one row for each position of each example, one column for each map.

    Args:
        x: (m, d, p, q).

    Returns:
        (m * p * q, d).
    """
    return x.movedim(1, -1).flatten(0, -2)


def layer_outputs(network: nn.Sequential, images: Tensor) -> dict[str, Tensor]:
    """What every layer returns, by its name, in evaluation mode and without gradient.

    Args:
        network: layers in a row; its mode is restored.
        images: (m, ...), as the network takes them.
    """
    was_training = network.training
    network.eval()
    found: dict[str, Tensor] = {}
    x = images
    with torch.no_grad():
        for name, layer in network.named_children():
            found[name] = x = layer(x)
    network.train(was_training)
    return found


def at_random_brightness(images: Tensor, generator: torch.Generator) -> Tensor:
    """Mix every image with an even white, in a proportion of its own, uniform in [0, 1].

    Args:
        images: (m, ...) in [0, 1], such as (m, 28, 28) or (m, 1, 28, 28).
        generator: of the proportions.
    """
    white = torch.rand(len(images), *[1] * (images.dim() - 1), generator=generator)
    return images * (1 - white) + white


def batch_variances(
    x: Tensor, sizes: Sequence[int], batches: int, generator: torch.Generator
) -> list[Tensor]:
    """Biased variances of random mini-batches of feature maps, over those of the population.

    The variance of a batch needs no pass over its values: it is the mean square minus the squared
    mean, and both are averages of the examples' own. The population's mean is subtracted first, so
    that little cancels.

    Args:
        x: the population, (n, d, p, q).
        sizes: examples in a batch, drawn with replacement, so that they are independent.
        batches: how many of each size.
        generator: of the draws.

    Returns:
        For each size (batches, d), float64. The mean over the batches estimates
        E[var_B] / sigma^2. NaN for a constant map.
    """
    x = x.double().flatten(2)
    x = x - x.mean((0, 2), keepdim=True)
    means, squares = x.mean(2), x.square().mean(2)  # (n, d)
    found = []
    for m in sizes:
        drawn = []
        for chosen in torch.randint(len(x), (batches, m), generator=generator).split(1_000):
            mean, square = (
                values.index_select(0, chosen.flatten()).unflatten(0, chosen.shape).mean(1)
                for values in (means, squares)
            )
            drawn.append(square - mean.square())
        found.append(torch.cat(drawn) / squares.mean(0))
    return found


def run(
    scale: str = "live",
    seeds: Sequence[int] | None = None,
    progress: bool = False,
    resume: Path | None = None,
) -> Result:
    """Train every arm with every seed, and measure.

    Args:
        scale: "live" (embedded digits, seconds) or "paper" (full MNIST, minutes).
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
    with records.provenance(_digits(size.data)) as provenance:
        runs = run_all(
            _run_one,
            [(arm, seed, size) for arm in ARMS for seed in seeds],
            steps=size.steps,
            progress=f"{NAME}, {scale} scale" if progress else None,
            resume=resume,
        )
    return Result(scale, ARMS, seeds, tuple(runs), provenance)


def _run_one(job: tuple[Arm, int, Scale], report: Report) -> Run:
    """Train one network, watch it, and draw batches at the end."""
    arm, seed, size = job
    started = time.perf_counter()
    data = _digits(size.data)
    network = arm.network(seed)
    watched = data.test_images[: size.watched]

    def watch(step: int) -> dict[str, Any]:
        measured: dict[str, Any] = {
            "accuracy": accuracy(predict(network, data.test_images), data.test_labels)
        }
        outputs = layer_outputs(network, watched)
        for what, layer in (("linear", "conv"), ("active", "activation")):
            shapes = _shapes([outputs[f"{layer}{i + 1}"] for i in range(LAYERS)])
            measured |= {f"{name}_{what}": value for name, value in shapes.items()}
        return measured

    training = train(
        network,
        data.train_images,
        data.train_labels,
        torch.optim.SGD(network.parameters(), lr=arm.lr),
        steps=size.steps,
        batch_size=BATCH_SIZE,
        generator=torch.Generator().manual_seed(seed),
        watch=watch,
        watch_at=range(size.steps // RECORDS, size.steps + 1, size.steps // RECORDS),
        report=report,
        checkpoint=report.checkpoint,
    )
    generator = torch.Generator().manual_seed(seed)
    population = data.train_images[: size.population]
    between, ratio, noise = _batches(network, population, size.batches, generator)
    bright = at_random_brightness(population, generator)
    between_bright, ratio_bright, _ = _batches(network, bright, size.batches, generator)
    measured = training.measured
    return Run(
        arm=arm.name,
        seed=seed,
        steps=training.steps,
        accuracy=_rounded(measured["accuracy"]),
        loss=_rounded(training.losses),
        skewness_linear=_rounded(measured["skewness_linear"]),
        skewness_active=_rounded(measured["skewness_active"]),
        kurtosis_linear=_rounded(measured["kurtosis_linear"]),
        kurtosis_active=_rounded(measured["kurtosis_active"]),
        zeros_linear=_rounded(measured["zeros_linear"]),
        zeros_active=_rounded(measured["zeros_active"]),
        drift_linear=_rounded(_drift(measured["maps_linear"])),
        drift_active=_rounded(_drift(measured["maps_active"])),
        between=between,
        ratio=ratio,
        noise=noise,
        between_bright=between_bright,
        ratio_bright=ratio_bright,
        diverged_at=training.diverged_at,
        seconds=round(time.perf_counter() - started, 1),
    )


def _batches(
    network: nn.Sequential, images: Tensor, batches: int, generator: torch.Generator
) -> tuple[Any, Any, Any]:
    """For each layer r, and for each size mean and spread of the batches' variances."""
    between, ratio, noise = [], [], []
    outputs = layer_outputs(network, images)
    for i in range(LAYERS):
        maps = outputs[f"conv{i + 1}"]
        drawn = batch_variances(maps, SIZES, batches, generator)
        # A constant map has no variance to compare; without nanmean one would void a whole record.
        # (None of the recorded ones was constant.)
        between.append(share_between_examples(maps).nanmean())
        ratio.append([v.nanmean() for v in drawn])
        noise.append([v.std(0).nanmean() for v in drawn])
    return _rounded(between, 6), _rounded(ratio, 6), _rounded(noise, 6)


def _shapes(maps: Sequence[Tensor]) -> dict[str, Any]:
    """Means over the feature maps of each layer; a map that is constant has no shape to count."""
    rows = [as_rows(x).double() for x in maps]
    skew = [skewness(x) for x in rows]
    return {
        "skewness": torch.stack([of_maps.abs().nanmean() for of_maps in skew]),
        "kurtosis": torch.stack([(kurtosis(x) - 3).abs().nanmean() for x in rows]),
        "zeros": torch.stack([(x == 0).double().mean() for x in rows]),
        "maps": torch.cat(skew),
    }


def _drift(skewness: Sequence[Any]) -> list[float]:
    """Standard deviation over the records of each map's skewness, averaged over a layer's maps."""
    spread = np.stack(skewness).std(0)
    ends = np.cumsum(CHANNELS)[:-1]
    return [float(np.nanmean(of_layer)) for of_layer in np.split(spread, ends)]


@lru_cache(maxsize=1)
def _digits(name: str) -> ImageSet:
    return load(name)


def _rounded(values: Any, decimals: int = 4) -> Any:
    """As lists, to as many decimals as a record needs."""
    return np.asarray(values, dtype=float).round(decimals).tolist()


def _gain(high: str, low: str, what: str) -> Callable[[Result, int], Effect]:
    """Accuracy of one arm minus the other's, in percentage points."""

    def measure(result: Result, seed: int) -> Effect:
        gain = getattr(result.one(high, seed), what) - getattr(result.one(low, seed), what)
        return Effect(seed, 100 * gain)

    return measure


def _shape_ratio(arm: str, what: str) -> Callable[[Result, int], Effect]:
    """A measure of what leaves the nonlinearities over that of what leaves the convolutions.

    At the end of training, each averaged over the layers.
    """

    def measure(result: Result, seed: int) -> Effect:
        run = result.one(arm, seed)
        active, linear = (getattr(run, f"{what}_{side}") for side in ("active", "linear"))
        if what != "drift":
            active, linear = active[-1], linear[-1]
        return Effect(seed, float(np.mean(active) / np.mean(linear)))

    return measure


def _fewer_zeros(result: Result, seed: int) -> Effect:
    run = result.one("before", seed)
    active, linear = np.mean(run.zeros_active[-1]), np.mean(run.zeros_linear[-1])
    return Effect(seed, float(100 * (active - linear)))


def _shortfall(size: int, bright: bool = False) -> Callable[[Result, int], Effect]:
    """How far m'/(m'-1) times the average batch variance is below the population's, in percent."""

    def measure(result: Result, seed: int) -> Effect:
        run = result.one("before", seed)
        right = np.mean([run.corrected(layer, size, bright) for layer in range(LAYERS)])
        return Effect(seed, float(100 * (1 - right)))

    return measure


def _excess(size: int) -> Callable[[Result, int], Effect]:
    """How far m/(m-1) times the average batch variance is above the population's, in percent."""

    def measure(result: Result, seed: int) -> Effect:
        run = result.one("before", seed)
        right = np.mean([run.corrected_as_examples(layer, size) for layer in range(LAYERS)])
        return Effect(seed, float(100 * (right - 1)))

    return measure


def _noise_over_error(result: Result, seed: int) -> Effect:
    run = result.one("before", seed)
    noise = np.mean([run.noise[layer][SIZES.index(BATCH_SIZE)] for layer in range(LAYERS)])
    # From r: the average of batches is itself too noisy to tell so small an error.
    error = np.mean([abs(1 - run.expected(layer, BATCH_SIZE)) for layer in range(LAYERS)])
    return Effect(seed, float(noise / error))


CLAIMS: tuple[Claim[Result], ...] = (
    Claim(
        id="feature_maps.more-symmetric",
        statement="What leaves a convolution is, on average over the layers, distributed more "
        "symmetrically than what leaves the ReLU behind it.",
        source="ioffe2015, section 3.2",
        effect="mean |skewness| of the ReLU's output / of the convolution's, BN before the ReLU",
        unit="x",
        threshold=1.0,
        measure=_shape_ratio("before", "skewness"),
    ),
    Claim(
        id="feature_maps.closer-to-gaussian",
        statement="What leaves a convolution is, on average over the layers, closer to a Gaussian "
        "in its kurtosis than what leaves the ReLU behind it.",
        source="ioffe2015, section 3.2",
        effect="mean |excess kurtosis| of the ReLU's output / of the convolution's, BN before the "
        "ReLU",
        unit="x",
        threshold=1.0,
        measure=_shape_ratio("before", "kurtosis"),
    ),
    Claim(
        id="feature_maps.not-sparse",
        statement="What leaves a convolution without bias has, on average over the layers, fewer "
        "zeros than what leaves the ReLU behind it.",
        source="ioffe2015, section 3.2",
        effect="share of exact zeros in the ReLU's output minus that in the convolution's, BN "
        "before the ReLU",
        unit=" points",
        threshold=0.0,
        measure=_fewer_zeros,
    ),
    Claim(
        id="feature_maps.steadier-shape",
        statement="After the first tenth of training the skewness of what leaves a convolution "
        "changes less, on average over the layers, than that of what leaves the ReLU behind it.",
        source="ioffe2015, section 3.2",
        effect="mean standard deviation over training of a map's skewness, of the ReLU's output / "
        "of the convolution's, BN before the ReLU",
        unit="x",
        threshold=1.0,
        measure=_shape_ratio("before", "drift"),
    ),
    Claim(
        id="feature_maps.more-symmetric-sigmoid",
        statement="What leaves a convolution is, at learning rate 0.3 and on average over the "
        "layers, distributed more symmetrically than what leaves the sigmoid behind it.",
        source="ioffe2015, section 3.2",
        effect="mean |skewness| of the sigmoid's output / of the convolution's, BN before the "
        "sigmoid",
        unit="x",
        threshold=1.0,
        measure=_shape_ratio("before-sigmoid", "skewness"),
    ),
    Claim(
        id="feature_maps.before-sooner",
        statement="With ReLU, normalizing before the nonlinearity trains sooner than after it, "
        "at learning rate 0.3.",
        source=OWN,
        effect="mean test accuracy over 10 moments of training, BN before minus after, learning "
        "rate 0.3",
        unit=" points",
        threshold=0.0,
        measure=_gain("before", "after", "mean_accuracy"),
    ),
    Claim(
        id="feature_maps.before-higher",
        statement="With ReLU, normalizing before the nonlinearity ends at a higher test accuracy "
        "than after it, at learning rate 0.3.",
        source=OWN,
        effect="mean test accuracy over the last fifth of training, BN before minus after, "
        "learning rate 0.3",
        unit=" points",
        threshold=0.0,
        measure=_gain("before", "after", "final_accuracy"),
    ),
    Claim(
        id="feature_maps.before-higher-own-rate",
        statement="With ReLU, normalizing before the nonlinearity ends at a higher test accuracy "
        "than after it, each at the learning rate that suited it in the pilot.",
        source=OWN,
        effect="mean test accuracy over the last fifth of training, BN before minus after, "
        "learning rates 1 and 0.3",
        unit=" points",
        threshold=0.0,
        measure=_gain("before-own-rate", "after", "final_accuracy"),
    ),
    Claim(
        id="feature_maps.before-sooner-sigmoid",
        statement="With sigmoids, normalizing before the nonlinearity trains sooner than after "
        "it, at learning rate 0.3.",
        source=OWN,
        effect="mean test accuracy over 10 moments of training, BN before minus after, learning "
        "rate 0.3",
        unit=" points",
        threshold=0.0,
        measure=_gain("before-sigmoid", "after-sigmoid", "mean_accuracy"),
    ),
    Claim(
        id="feature_maps.before-higher-sigmoid",
        statement="With sigmoids, normalizing before the nonlinearity ends at a higher test "
        "accuracy than after it, at learning rate 0.3.",
        source=OWN,
        effect="mean test accuracy over the last fifth of training, BN before minus after, "
        "learning rate 0.3",
        unit=" points",
        threshold=0.0,
        measure=_gain("before-sigmoid", "after-sigmoid", "final_accuracy"),
    ),
    Claim(
        id="feature_maps.before-higher-own-rate-sigmoid",
        statement="With sigmoids, normalizing before the nonlinearity ends at a higher test "
        "accuracy than after it, each at the learning rate that suited it in the pilot.",
        source=OWN,
        effect="mean test accuracy over the last fifth of training, BN before minus after, "
        "learning rates 1 and 0.3",
        unit=" points",
        threshold=0.0,
        measure=_gain("before-own-rate-sigmoid", "after-sigmoid", "final_accuracy"),
    ),
    Claim(
        id="feature_maps.factor-too-small",
        statement="With two examples in a batch, m′/(m′−1) times the average batch variance of a "
        "feature map falls short of the population's by more than a percent.",
        source=OWN,
        effect="1 - m'/(m'-1) E[batch variance] / population variance, mean over the layers, m = 2",
        unit=" %",
        threshold=1.0,
        measure=_shortfall(2),
    ),
    Claim(
        id="feature_maps.examples-too-large",
        statement="With two examples in a batch, m/(m−1), which counts a map as one value, "
        "overshoots by more than a percent.",
        source=OWN,
        effect="m/(m-1) E[batch variance] / population variance - 1, mean over the layers, m = 2",
        unit=" %",
        threshold=1.0,
        measure=_excess(2),
    ),
    Claim(
        id="feature_maps.factor-too-small-bright",
        statement="m′/(m′−1) falls short by more than a percent when every image has its own "
        "random brightness, which all positions of a map share.",
        source=OWN,
        effect="1 - m'/(m'-1) E[batch variance] / population variance, mean over the layers, "
        "m = 2, images at random brightness",
        unit=" %",
        threshold=1.0,
        measure=_shortfall(2, bright=True),
    ),
    Claim(
        id="feature_maps.noise-is-larger",
        statement="At a batch of 60 the error of m′/(m′−1) is smaller than the noise of the "
        "variance of one batch.",
        source=OWN,
        effect="standard deviation of a batch's variance / |error| of m'/(m'-1), mean over the "
        "layers, m = 60",
        unit="x",
        threshold=1.0,
        measure=_noise_over_error,
    ),
)


def recorded(folder: Path) -> Result:
    """The recorded result in a folder such as the book's `results`."""
    return records.result(folder, NAME, Result)
