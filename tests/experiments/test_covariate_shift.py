"""Covariate shift: closed forms, weights and fits, and what the experiment runs and claims."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bn_core.experiments import covariate_shift as cs
from bn_core.experiments import records
from bn_core.experiments.claims import Effect, judge
from bn_core.experiments.covariate_shift import CUBIC, EXPONENTS, LINE, TEST, TRAIN, Fits, Inputs

RESULTS = Path(__file__).parents[2] / "results"
PLACES = [TRAIN, TEST, Inputs(-1.2, 0.7), Inputs(2.0, 0.1)]


def integral(values, inputs):
    """E[values(x)] as a sum over a fine grid."""
    x = np.linspace(inputs.mean - 10 * inputs.std, inputs.mean + 10 * inputs.std, 200_001)
    return (values(x) * np.exp(inputs.log_density(x))).sum() * (x[1] - x[0])


@pytest.mark.parametrize("inputs", PLACES)
def test_a_density_integrates_to_one_with_its_mean_and_variance(inputs):
    assert integral(np.ones_like, inputs) == pytest.approx(1)
    assert integral(lambda x: x, inputs) == pytest.approx(inputs.mean)
    variance = integral(lambda x: (x - inputs.mean) ** 2, inputs)
    assert variance == pytest.approx(inputs.std**2)


@pytest.mark.parametrize("inputs", PLACES)
def test_quadrature_is_exact_for_polynomials(inputs):
    sixth = inputs.expectation(lambda x: x**6 - x, nodes=4)
    assert sixth == pytest.approx(integral(lambda x: x**6 - x, inputs))


@pytest.mark.parametrize("inputs", PLACES)
def test_the_population_line_is_the_best_line_by_numerical_integration(inputs):
    moments = [integral(lambda x, k=k: x**k, inputs) for k in range(3)]
    products = [integral(lambda x, k=k: x**k * cs.curve(x), inputs) for k in range(2)]
    best = np.linalg.solve([moments[:2], moments[1:]], products)
    assert np.allclose(cs.population_line(inputs), best, atol=1e-8)
    assert cs.population_slope(inputs) == cs.population_line(inputs)[1]


def test_the_slope_flips_between_training_and_test_inputs():
    assert cs.population_slope(TRAIN) == pytest.approx(0.5)
    assert cs.population_slope(TEST) == pytest.approx(-0.73)


def test_drawn_examples_lie_around_the_curve():
    x, y = cs.draw(TRAIN, (4, 50_000), np.random.default_rng(0))
    assert x.shape == y.shape == (4, 50_000)
    assert x.mean() == pytest.approx(TRAIN.mean, abs=0.01)
    assert x.std() == pytest.approx(TRAIN.std, abs=0.01)
    assert (y - cs.curve(x)).std() == pytest.approx(cs.NOISE, abs=0.005)


def test_weighted_training_inputs_have_the_mean_of_the_test_inputs():
    for power in range(4):
        weighted = integral(lambda x, k=power: x**k * cs.importance_weights(x, TRAIN, TEST), TRAIN)
        assert weighted == pytest.approx(integral(lambda x, k=power: x**k, TEST), abs=1e-9)


def test_the_exponent_goes_from_equal_weights_to_the_ratio():
    x = np.linspace(-1, 2, 7)
    ratio = np.exp(TEST.log_density(x)) / np.exp(TRAIN.log_density(x))
    for exponent in (0, 0.5, 1):
        assert np.allclose(cs.importance_weights(x, TRAIN, TEST, exponent), ratio**exponent)


def test_effective_sample_size_counts_what_weighs():
    weights = [[3.0] * 8, [1.0] + [0.0] * 7, [2.0, 2.0] + [0.0] * 6]
    assert cs.effective_sample_size(weights).tolist() == [8, 1, 2]


def test_a_weighted_mean_varies_like_a_mean_of_the_effective_sample_size():
    generator = np.random.default_rng(0)
    weights = generator.exponential(size=20)
    values = generator.normal(0, 0.3, (200_000, 20))
    variance = (values @ weights / weights.sum()).var()
    assert variance == pytest.approx(0.09 / cs.effective_sample_size(weights), rel=0.02)


@pytest.mark.parametrize("std", [0.0, -0.3, float("nan")])
def test_inputs_refuse_a_standard_deviation_that_is_not_positive(std):
    with pytest.raises(ValueError, match=f"std is {std}; give a positive number"):
        Inputs(0.0, std)


def test_examples_at_one_place_do_not_determine_a_line():
    with pytest.raises(np.linalg.LinAlgError):
        cs.fit_polynomial(np.ones(3), np.ones(3), LINE)


@pytest.mark.parametrize("degree", [LINE, CUBIC])
def test_a_fit_is_numpys_for_each_data_set(degree):
    x, y = cs.draw(TRAIN, (3, 40), np.random.default_rng(1))
    weights = cs.importance_weights(x, TRAIN, TEST)
    weighted = cs.fit_polynomial(x, y, degree, weights)
    plain = cs.fit_polynomial(x, y, degree)
    for i in range(3):
        # numpy multiplies residuals, not their squares, by its weights.
        reference = np.polynomial.polynomial.polyfit(x[i], y[i], degree, w=weights[i] ** 0.5)
        assert np.allclose(weighted[i], reference)
        assert np.allclose(plain[i], np.polynomial.polynomial.polyfit(x[i], y[i], degree))


def test_a_weight_of_two_is_the_example_twice():
    x, y = cs.draw(TRAIN, 12, np.random.default_rng(2))
    twice = cs.fit_polynomial(np.append(x, x[:5]), np.append(y, y[:5]), LINE)
    weights = np.where(np.arange(12) < 5, 2.0, 1.0)
    assert np.allclose(cs.fit_polynomial(x, y, LINE, weights), twice)


def test_a_fit_refuses_shapes_that_differ_and_too_few_examples():
    with pytest.raises(ValueError, match=r"shapes \(3,\), \(4,\) and \(3,\)"):
        cs.fit_polynomial(np.ones(3), np.ones(4), LINE)
    with pytest.raises(ValueError, match="3 examples; degree 3 needs at least 4"):
        cs.fit_polynomial(np.ones(3), np.ones(3), CUBIC)


@pytest.mark.parametrize("inputs", PLACES)
@pytest.mark.parametrize("coefficients", [[0.3, -0.2], [0.1, -1.0, 0.2, 1.4], [0, -1, 0, 1]])
def test_excess_error_is_the_integral(coefficients, inputs):
    def distance(x):
        return (np.polynomial.polynomial.polyval(x, coefficients) - cs.curve(x)) ** 2

    assert cs.excess_error(coefficients, inputs) == pytest.approx(integral(distance, inputs))


@pytest.mark.parametrize("degree", [LINE, CUBIC])
def test_bias_and_variance_add_up_to_the_mean_error(degree):
    fits = cs.fit_polynomial(*cs.draw(TRAIN, (30, 50), np.random.default_rng(3)), degree)
    bias, variance = cs.bias_and_variance(fits, TEST)
    assert bias + variance == pytest.approx(cs.excess_error(fits, TEST).mean())
    same = np.repeat(fits[:1], 5, axis=0)
    error = float(cs.excess_error(fits[0], TEST))
    assert cs.bias_and_variance(same, TEST) == pytest.approx((error, 0))


# The experiment


@pytest.fixture(scope="module")
def short():
    """A run of few repetitions with two seeds."""
    saved = cs.SCALES["live"]
    cs.SCALES["live"] = replace(saved, repetitions=20)
    try:
        yield cs.run("live", seeds=(3, 4))
    finally:
        cs.SCALES["live"] = saved


def test_a_run_has_every_polynomial_and_size(short):
    assert [run.seed for run in short.runs] == list(short.seeds) == [3, 4]
    for run in short.runs:
        found = {(fits.degree, fits.size) for fits in run.fits}
        assert found == {(degree, n) for degree, sizes in cs.SIZES.items() for n in sizes}
        for fits in run.fits:
            parts = np.add(fits.bias, fits.variance)
            assert parts == pytest.approx(np.asarray(fits.error), abs=1e-6)
            assert len(fits.error) == len(EXPONENTS)
        shares = np.asarray(run.size_share)
        assert shares.shape == (len(run.sizes), len(EXPONENTS))
        assert np.all(np.diff(shares, axis=1) < 0)
        assert shares[:, 0] == pytest.approx(1)


def test_a_seed_gives_the_same_run_again_and_another_seed_another(short):
    again = cs._run_seed((3, 20), lambda step: None)
    assert again == short.one(3)
    assert again.train_slope != short.one(4).train_slope


def test_a_record_gives_the_result_back(short, tmp_path):
    records.save(tmp_path / "covariate_shift.json", records.record(cs.NAME, short))
    assert cs.recorded(tmp_path) == short


def test_what_was_not_run_is_refused(short):
    with pytest.raises(KeyError, match="no run with seed 9"):
        short.one(9)
    with pytest.raises(KeyError, match="degree 2 and size 100"):
        short.one(3).of(2, 100)
    with pytest.raises(ValueError, match=r"scale is 'huge'.*'live', 'paper'"):
        cs.run("huge")


# The claims


def fits(degree, size, at_0, at_06, at_1, unshifted=0.0):
    error = [9.0] * len(EXPONENTS)
    error[0], error[6], error[10] = at_0, at_06, at_1
    return Fits(degree, size, error, error, error, unshifted)


def effect(claim, *all_fits, train=0.5, test=-0.7):
    run = cs.Run(0, train, -0.7, test, [10], [[1.0]], list(all_fits))
    result = cs.Result("live", (0,), EXPONENTS, 1, (run,), {})
    return next(c for c in cs.CLAIMS if c.id == f"covariate_shift.{claim}").measure(result, 0)


def test_the_slope_flips_by_the_smaller_distance_from_zero():
    assert effect("slope-flips", train=0.5, test=-0.7) == Effect(0, 0.5)
    assert effect("slope-flips", train=0.5, test=-0.2) == Effect(0, 0.2)
    assert effect("slope-flips", train=-0.1, test=-0.7).value < 0
    assert effect("slope-flips", train=0.5, test=0.1).value < 0


def test_errors_are_compared_at_the_ends_and_in_between():
    assert effect("weights-repair", fits(LINE, 100, 6.0, 1.0, 2.0)).value == 3
    assert effect("weights-cost", fits(CUBIC, 100, 2.0, 1.0, 6.0)).value == 3
    assert effect("in-between", fits(LINE, 10, 6.0, 2.0, 3.0)).value == 1.5


def test_the_best_exponents_are_subtracted():
    few, many = fits(LINE, 10, 5.0, 2.0, 3.0), fits(LINE, 1000, 5.0, 2.0, 1.0)
    assert effect("more-examples-more-weight", few, many).value == 0.4
    assert effect("more-examples-more-weight", replace(many, size=10), many).value == 0


def test_the_cubic_is_spared_the_share_of_harm_it_does_not_suffer():
    line = fits(LINE, 100, 1.5, 1.0, 1.0, unshifted=0.5)
    cubic = fits(CUBIC, 100, 0.3, 1.0, 1.0, unshifted=0.2)
    assert effect("no-harm-to-the-cubic", line, cubic).value == pytest.approx(90)


# The record


@pytest.fixture(scope="module")
def recorded():
    return cs.recorded(RESULTS)


def test_the_record_has_twenty_seeds_and_tells_what_it_was_made_with(recorded):
    assert recorded.scale == "paper"
    assert list(recorded.seeds) == [run.seed for run in recorded.runs] == list(range(20))
    assert recorded.repetitions == cs.SCALES["paper"].repetitions
    assert not recorded.provenance["revision"].endswith("-dirty")


def test_every_claim_can_be_judged_from_the_record(recorded):
    for claim in cs.CLAIMS:
        effects = judge(claim, recorded, recorded.seeds).effects
        assert all(np.isfinite(e.value) for e in effects), claim.id
