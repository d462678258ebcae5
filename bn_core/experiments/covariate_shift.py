"""Covariate shift: a model is fitted where the training inputs lie, and used somewhere else.

An example in the manner of Shimodaira (2000): y = -x + x^3 plus noise, training inputs around 0.5,
test inputs around 0. A line cannot follow the curve, so which line fits best depends on where the
inputs lie. Training examples can be weighted by the ratio of the two densities, at a price: fewer
of them count. A cubic contains the curve, and needs none of this.

Each seed draws many data sets of each size. Errors are means over them, of the expected squared
distance from the curve, on the test inputs; that expectation is computed exactly. What no model can
predict, the noise of a test example, is not part of it.

Sizes, exponents and the exponent 0.6 of one claim were chosen in a pilot with seeds from 100 on.
The recorded seeds start at 0.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bn_core.experiments import records
from bn_core.experiments.claims import Claim, Effect
from bn_core.experiments.registry import choose_seeds
from bn_core.lab.sweeps import Report, run_all

NAME = "covariate_shift"
TITLE = "A line and a cubic under covariate shift"

Array = NDArray[np.float64]


# ---- Where inputs lie, and what is to be learnt -------------------------------------------


@dataclass(frozen=True)
class Inputs:
    """A normal distribution of inputs.

    Attributes:
        mean: its mean.
        std: its standard deviation, positive.

    Raises:
        ValueError: a standard deviation that is not positive.
    """

    mean: float
    std: float

    def __post_init__(self) -> None:
        """Refuse a standard deviation that is not positive."""
        if not self.std > 0:
            raise ValueError(f"Inputs: std is {self.std}; give a positive number")

    def log_density(self, x: ArrayLike) -> Array:
        """The logarithm of the density at each x; of x's shape."""
        z = (np.asarray(x, dtype=float) - self.mean) / self.std
        return np.asarray(-0.5 * z**2 - math.log(self.std * math.sqrt(2 * math.pi)))

    def expectation(self, values: Callable[[Array], Array], nodes: int = 8) -> Array:
        """E[values(x)] by Gauss-Hermite quadrature.

        Args:
            values: takes (nodes,) and returns (..., nodes).
            nodes: the result is exact for polynomials of degree up to 2 * nodes - 1.
        """
        z, weights = np.polynomial.hermite_e.hermegauss(nodes)
        return np.asarray(values(self.mean + self.std * z) @ (weights / weights.sum()))


TRAIN = Inputs(mean=0.5, std=0.5)
TEST = Inputs(mean=0.0, std=0.3)
NOISE = 0.3  # standard deviation of y around the curve


def curve(x: ArrayLike) -> Array:
    """-x + x^3, the expected y of an input x; of x's shape."""
    x = np.asarray(x, dtype=float)
    return np.asarray(x**3 - x)


def draw(
    inputs: Inputs, shape: int | tuple[int, ...], generator: np.random.Generator
) -> tuple[Array, Array]:
    """Examples: inputs x, and y = curve(x) + noise.

    Args:
        inputs: where x lies.
        shape: such as (repetitions, n).
        generator: of x first, then of the noise.

    Returns:
        x and y, both of that shape.
    """
    x = generator.normal(inputs.mean, inputs.std, shape)
    return x, curve(x) + generator.normal(0.0, NOISE, shape)


def population_slope(inputs: Inputs) -> float:
    """Slope of the least-squares line through infinitely many examples: 3 (mean^2 + std^2) - 1.

    It is the mean of the curve's own slope, 3 x^2 - 1, over the inputs (Stein's identity).
    """
    return 3 * (inputs.mean**2 + inputs.std**2) - 1


def population_line(inputs: Inputs) -> tuple[float, float]:
    """Intercept, -2 mean^3, and slope of the least-squares line through the whole population."""
    return -2 * inputs.mean**3, population_slope(inputs)


# ---- Weights and fits ---------------------------------------------------------------------


def importance_weights(x: ArrayLike, train: Inputs, test: Inputs, exponent: float = 1.0) -> Array:
    """(density of the test inputs / density of the training inputs) ** exponent at each x.

    Args:
        x: training inputs, of any shape.
        train: where they come from.
        test: where the model is to be used.
        exponent: 0 for equal weights, 1 for the full ratio. Shimodaira (2000) calls it lambda.

    Returns:
        Positive weights of x's shape.
    """
    return np.asarray(np.exp(exponent * (test.log_density(x) - train.log_density(x))))


def effective_sample_size(weights: ArrayLike) -> Array:
    """(sum w)^2 / sum w^2 along the last axis: n for equal weights, 1 if one weighs everything.

    A weighted mean of independent values of one variance v has variance v / (this size).

    Args:
        weights: (..., n), not negative, not all 0.

    Returns:
        (...), between 1 and n.
    """
    w = np.asarray(weights, dtype=float)
    return np.asarray(w.sum(-1) ** 2 / (w**2).sum(-1))


def powers(x: ArrayLike, degree: int) -> Array:
    """1, x, ..., x^degree along a new last axis."""
    x = np.asarray(x, dtype=float)
    return np.stack([x**k for k in range(degree + 1)], axis=-1)


def fit_polynomial(
    x: ArrayLike, y: ArrayLike, degree: int, weights: ArrayLike | None = None
) -> Array:
    """Weighted least squares: the polynomial with the smallest sum of w (y - polynomial(x))^2.

    Many data sets can be fitted at once, one for each of the leading axes.

    Args:
        x: (..., n).
        y: (..., n).
        degree: 1 for a line, 3 for a cubic.
        weights: (..., n), not negative; None for equal ones.

    Returns:
        (..., degree + 1) coefficients, the constant first.

    Raises:
        ValueError: shapes that differ, or fewer examples than coefficients.
        numpy.linalg.LinAlgError: in one of the data sets the examples that weigh anything lie at
            fewer different x than there are coefficients.
    """
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    w = np.ones_like(x) if weights is None else np.asarray(weights, dtype=float)
    if not x.shape == y.shape == w.shape:
        raise ValueError(
            f"fit_polynomial: x, y and weights have shapes {x.shape}, {y.shape} and {w.shape}; "
            "give three of one shape"
        )
    if x.shape[-1] <= degree:
        raise ValueError(
            f"fit_polynomial: {x.shape[-1]} examples; degree {degree} needs at least {degree + 1}"
        )
    columns = powers(x, degree)
    weighted = (w[..., None] * columns).swapaxes(-1, -2)  # X'W
    # The gradient of the sum is zero where X'W X c = X'W y.
    return np.asarray(np.linalg.solve(weighted @ columns, weighted @ y[..., None])[..., 0])


def excess_error(coefficients: ArrayLike, inputs: Inputs) -> Array:
    """Expected squared distance of a polynomial from the curve, over the inputs; exact.

    The expected squared error of predicting y is this plus the variance of the noise.

    Args:
        coefficients: (..., degree + 1), the constant first.
        inputs: where the polynomial is used.

    Returns:
        (...).
    """
    c = np.asarray(coefficients, dtype=float)
    degree = c.shape[-1] - 1
    return inputs.expectation(
        lambda x: (c @ powers(x, degree).T - curve(x)) ** 2, nodes=max(degree, 3) + 1
    )


def bias_and_variance(coefficients: ArrayLike, inputs: Inputs) -> tuple[float, float]:
    """The two parts of the mean excess error of many fits; they add up to it.

    Args:
        coefficients: (repetitions, degree + 1), the constant first.
        inputs: where the polynomials are used.

    Returns:
        The excess error of the mean fit (squared bias), and the expected squared distance of a fit
        from the mean fit (variance).
    """
    c = np.asarray(coefficients, dtype=float)
    mean = c.mean(0)
    degree = c.shape[1] - 1
    spread = inputs.expectation(lambda x: ((c - mean) @ powers(x, degree).T) ** 2, nodes=degree + 1)
    return float(excess_error(mean, inputs)), float(spread.mean())


# ---- The experiment -----------------------------------------------------------------------

EXPONENTS = tuple(i / 10 for i in range(11))
LINE, CUBIC = 1, 3
SIZES = {LINE: (10, 30, 100, 1000), CUBIC: (30, 100, 1000)}
SLOPE_SIZE = 1000  # examples behind the slopes that are compared with `population_slope`
PAPER_SIZE = 100  # examples in a data set, for the claims that compare errors at one size
BETWEEN = 0.6


@dataclass(frozen=True)
class Scale:
    """The size of a run.

    Attributes:
        repetitions: data sets of each size, for each seed.
        seeds: how many, unless told otherwise.
        workers: how many seeds at a time, None for all cores. A live run is over before another
            process has started.
    """

    repetitions: int
    seeds: int
    workers: int | None


SCALES = {
    "live": Scale(repetitions=400, seeds=3, workers=1),
    "paper": Scale(repetitions=1000, seeds=20, workers=None),
}


@dataclass(frozen=True)
class Fits:
    """What became of one polynomial on data sets of one size.

    Attributes:
        degree: of the polynomial.
        size: examples in a data set.
        error: (exponents,) excess error on the test inputs, mean over the repetitions.
        bias: (exponents,) its part due to the mean fit.
        variance: (exponents,) its part due to the scatter of the fits.
        error_without_shift: excess error on the test inputs when the training inputs are drawn
            from the same distribution, mean over the repetitions.
    """

    degree: int
    size: int
    error: list[float]
    bias: list[float]
    variance: list[float]
    error_without_shift: float

    @property
    def harm(self) -> float:
        """What the shift adds to the error of the unweighted fit."""
        return self.error[0] - self.error_without_shift

    @property
    def best_exponent(self) -> float:
        """The exponent of the lowest error."""
        return EXPONENTS[int(np.argmin(self.error))]


@dataclass(frozen=True)
class Run:
    """What one seed gave.

    Attributes:
        seed: the seed.
        train_slope: of a line through `SLOPE_SIZE` training examples.
        weighted_slope: of a line through the same, weighted by the full ratio.
        test_slope: of a line through as many examples whose inputs are drawn like the test inputs.
        sizes: numbers of examples.
        size_share: (sizes, exponents) effective sample size over number of training examples, mean
            over the repetitions.
        fits: for each polynomial and size.
    """

    seed: int
    train_slope: float
    weighted_slope: float
    test_slope: float
    sizes: list[int]
    size_share: list[list[float]]
    fits: list[Fits]

    def of(self, degree: int, size: int) -> Fits:
        """The fits of one polynomial to data sets of one size.

        Raises:
            KeyError: there are none.
        """
        for fits in self.fits:
            if (fits.degree, fits.size) == (degree, size):
                return fits
        raise KeyError(f"covariate_shift: there are no fits of degree {degree} and size {size}")


@dataclass(frozen=True)
class Result:
    """All runs of one scale.

    Attributes:
        scale: "live" or "paper".
        seeds: the seeds.
        exponents: of the importance weights.
        repetitions: data sets of each size, for each seed.
        runs: one for each seed.
        provenance: what it was made with, see `bn_core.experiments.records.provenance`.
    """

    scale: str
    seeds: tuple[int, ...]
    exponents: tuple[float, ...]
    repetitions: int
    runs: tuple[Run, ...]
    provenance: dict[str, Any]

    def one(self, seed: int) -> Run:
        """The run of one seed.

        Raises:
            KeyError: there is none.
        """
        for run in self.runs:
            if run.seed == seed:
                return run
        raise KeyError(f"covariate_shift: there is no run with seed {seed}")


def run(
    scale: str = "live",
    seeds: Sequence[int] | None = None,
    progress: bool = False,
    resume: Path | None = None,
) -> Result:
    """Draw, weight, fit and compare.

    Args:
        scale: "live" (400 data sets of each size and seed) or "paper" (1,000).
        seeds: by default 0, 1, 2 at live scale and 0 to 19 at paper scale.
        progress: show a progress bar on stderr.
        resume: folder in which finished parts are kept and found again; None for none.

    Raises:
        ValueError: an unknown scale, or no seed.
    """
    seeds = choose_seeds(NAME, scale, SCALES, seeds)
    size = SCALES[scale]
    rule = f"x ~ N(mean, std^2), y = -x + x^3 + N(0, {NOISE}^2); {TRAIN} and {TEST}"
    with records.provenance(records.Simulated("covariate-shift", rule)) as provenance:
        runs = run_all(
            _run_seed,
            [(seed, size.repetitions) for seed in seeds],
            steps=len(SIZES[LINE]),
            progress=f"{NAME}, {scale} scale" if progress else None,
            workers=size.workers,
            resume=resume,
        )
    return Result(scale, seeds, EXPONENTS, size.repetitions, tuple(runs), provenance)


def _run_seed(job: tuple[int, int], report: Report) -> Run:
    seed, repetitions = job
    generator = np.random.default_rng(seed)
    x, y = draw(TRAIN, SLOPE_SIZE, generator)
    lines = [
        fit_polynomial(x, y, LINE),
        fit_polynomial(x, y, LINE, importance_weights(x, TRAIN, TEST)),
        fit_polynomial(*draw(TEST, SLOPE_SIZE, generator), LINE),
    ]
    slopes = _rounded([slope for _, slope in lines])
    shares, fits = [], []
    for step, size in enumerate(SIZES[LINE], 1):
        train = draw(TRAIN, (repetitions, size), generator)
        unshifted = draw(TEST, (repetitions, size), generator)
        weights = [importance_weights(train[0], TRAIN, TEST, exponent) for exponent in EXPONENTS]
        shares.append([effective_sample_size(w).mean() / size for w in weights])
        for degree in (degree for degree, sizes in SIZES.items() if size in sizes):
            fits.append(_fits(degree, train, weights, unshifted))
        report(step)
    return Run(
        seed=seed,
        train_slope=slopes[0],
        weighted_slope=slopes[1],
        test_slope=slopes[2],
        sizes=list(SIZES[LINE]),
        size_share=_rounded(shares),
        fits=fits,
    )


def _fits(
    degree: int,
    train: tuple[Array, Array],
    weights: Sequence[Array],
    unshifted: tuple[Array, Array],
) -> Fits:
    fitted = [fit_polynomial(*train, degree, w) for w in weights]
    parts = [bias_and_variance(coefficients, TEST) for coefficients in fitted]
    return Fits(
        degree=degree,
        size=train[0].shape[-1],
        error=_rounded([excess_error(coefficients, TEST).mean() for coefficients in fitted]),
        bias=_rounded([bias for bias, _ in parts]),
        variance=_rounded([variance for _, variance in parts]),
        error_without_shift=_rounded(excess_error(fit_polynomial(*unshifted, degree), TEST).mean()),
    )


def _rounded(values: Any) -> Any:
    """As lists, to seven decimals: all that a record needs."""
    return np.asarray(values, dtype=float).round(7).tolist()


# ---- Claims -------------------------------------------------------------------------------


def _flip(result: Result, seed: int) -> Effect:
    run = result.one(seed)
    return Effect(seed, min(run.train_slope, -run.test_slope))


def _repair(result: Result, seed: int) -> Effect:
    fits = result.one(seed).of(LINE, PAPER_SIZE)
    return Effect(seed, fits.error[0] / fits.error[-1])


def _between(result: Result, seed: int) -> Effect:
    fits = result.one(seed).of(LINE, min(SIZES[LINE]))
    ends = min(fits.error[0], fits.error[-1])
    return Effect(seed, ends / fits.error[EXPONENTS.index(BETWEEN)])


def _rise(result: Result, seed: int) -> Effect:
    few, many = (result.one(seed).of(LINE, pick(SIZES[LINE])) for pick in (min, max))
    return Effect(seed, round(many.best_exponent - few.best_exponent, 1))


def _spared(result: Result, seed: int) -> Effect:
    line, cubic = (result.one(seed).of(degree, PAPER_SIZE).harm for degree in (LINE, CUBIC))
    return Effect(seed, 100 * (1 - cubic / line))


def _price(result: Result, seed: int) -> Effect:
    fits = result.one(seed).of(CUBIC, PAPER_SIZE)
    return Effect(seed, fits.error[-1] / fits.error[0])


CLAIMS: tuple[Claim[Result], ...] = (
    Claim(
        id="covariate_shift.slope-flips",
        statement="A line fitted to y = −x + x³ rises where the training inputs lie and falls "
        "where the test inputs lie.",
        source="this book",
        effect="the smaller of the slope through 1,000 training examples and minus the slope "
        "through 1,000 examples with test inputs",
        unit="",
        threshold=0.0,
        measure=_flip,
    ),
    Claim(
        id="covariate_shift.weights-repair",
        statement="If the model is misspecified, and the examples are many for their noise (100, "
        "noise 0.3), weighting them by the ratio of the densities lowers its error on the test "
        "inputs.",
        source="shimodaira2000, abstract",
        effect="error of the line through 100 examples, unweighted / weighted",
        unit="x",
        threshold=1.0,
        measure=_repair,
    ),
    Claim(
        id="covariate_shift.in-between",
        statement="With 10 examples and noise 0.3, weights between equal ones and the full ratio "
        "are best.",
        source="shimodaira2000, abstract",
        effect="error of the line through 10 examples, lower of exponent 0 and exponent 1 / "
        "exponent 0.6",
        unit="x",
        threshold=1.0,
        measure=_between,
    ),
    Claim(
        id="covariate_shift.more-examples-more-weight",
        statement="With 1,000 examples the best weights are nearer to the full ratio than with 10.",
        source="this book",
        effect="best exponent for a line through 1,000 examples, minus that for 10",
        unit="",
        threshold=0.0,
        measure=_rise,
    ),
    Claim(
        id="covariate_shift.no-harm-to-the-cubic",
        statement="A model that contains the curve is not harmed by this shift, from wide training "
        "inputs to test inputs that they cover.",
        source="this book",
        effect="share of the line's harm that the cubic is spared, where harm is the error when "
        "fitted to 100 training examples, minus the error when fitted to 100 examples with test "
        "inputs",
        unit=" %",
        threshold=95.0,
        measure=_spared,
    ),
    Claim(
        id="covariate_shift.weights-cost",
        statement="If the model is well specified, and the noise has one variance, weighting by "
        "the ratio raises its error.",
        source="shimodaira2000, abstract",
        effect="error of the cubic through 100 examples, weighted / unweighted",
        unit="x",
        threshold=1.0,
        measure=_price,
    ),
)


def recorded(folder: Path) -> Result:
    """The recorded result in a folder such as the book's `results`."""
    return records.result(folder, NAME, Result)
