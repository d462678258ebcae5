"""The experiment on learning rates and weight scales: what it measures, records and claims."""

import math
from functools import partial

import numpy as np
import pytest
import torch

from bn_core.experiments import higher_learning_rates as rates
from bn_core.experiments import schema
from bn_core.experiments.claims import Effect
from bn_core.experiments.higher_learning_rates import CLAIMS, Cell, Growth, Spectrum
from bn_core.lab.data import ImageSet

RATES, SCALES = (0.01, 0.1, 1.0), (0.1, 1.0)


def result(cells=(), growths=(), spectra=()):
    return rates.Result(
        "live", (0,), RATES, SCALES, (10, 20), tuple(cells), tuple(growths), tuple(spectra), {}
    )


def effect(claim_id, **parts):
    claim = next(c for c in CLAIMS if c.id == f"higher_learning_rates.{claim_id}")
    return claim.measure(result(**parts), 0)


def cells(network, finals, scale=1.0, steps_to=None):
    """One cell for each rate, of one seed."""
    return [
        Cell(network, lr, scale, [0.1, final], [final], [steps_to], [None])
        for lr, final in zip(RATES, finals, strict=True)
    ]


def growth(network, lr, scale, squared, added=(1.0, 1.0, 1.0), start=100.0):
    squares = [[start] * 3, list(squared)]
    return Growth(network, lr, scale, 0, [0, 10], squared=squares, added=[[0.0] * 3, list(added)],
                  accuracy=[0.1, 0.9])  # fmt: skip


def spectra(batch_norm, close, rms, activation="relu"):
    return [
        Spectrum(activation, batch_norm, 0, step, layer, [1.0] * 5, rms, close, 0.9)
        for layer in (1, 2)
        for step in (0, 10)
    ]


@pytest.mark.parametrize(
    ("with_bn", "without", "value", "bound"),
    [
        ((0.9, 0.9, 0.1), (0.9, 0.1, 0.1), 10, ""),
        ((0.1, 0.9, 0.9), (0.9, 0.1, 0.1), 100, "at least"),
        ((0.9, 0.1, 0.1), (0.1, 0.1, 0.9), 0.01, "at most"),
        ((0.9, 0.9, 0.9), (0.9, 0.9, 0.9), math.nan, ""),
        ((0.9, 0.9, 0.1), (0.1, 0.79, 0.1), math.nan, ""),
    ],
)
def test_largest_rates_are_compared_and_the_edge_of_the_map_is_a_bound(
    with_bn, without, value, bound
):
    found = effect("larger-rate", cells=cells("bn", with_bn) + cells("plain", without))
    assert found.value == pytest.approx(value, nan_ok=True)
    assert found.bound == bound


def test_each_network_may_have_its_own_scale():
    bn = cells("bn", (0.9, 0.1, 0.1)) + cells("bn", (0.9, 0.9, 0.1), scale=0.1)
    plain = cells("plain", (0.9, 0.1, 0.1)) + cells("plain", (0.1, 0.1, 0.1), scale=0.1)
    assert effect("larger-rate", cells=bn + plain) == Effect(0, 1)
    assert effect("larger-rate-any-scale", cells=bn + plain) == Effect(0, 10)
    assert effect("more-scales", cells=bn + plain) == Effect(0, 1)


def test_steps_are_compared_at_each_networks_quickest_cell():
    quick = cells("bn", (0.9, 0.9, 0.9), steps_to=10) + cells("plain", (0.9,) * 3, steps_to=20)
    slow = cells("bn", (0.9, 0.9, 0.9), 0.1, steps_to=20) + cells("plain", (0.9,) * 3, 0.1)
    assert effect("quicker", cells=quick + slow) == Effect(0, 2)
    assert math.isnan(effect("quicker", cells=cells("bn", (0.1,) * 3)).value)


def test_parts_of_the_network_are_compared_by_the_rates_they_bear():
    found = (
        cells("bn", (0.9, 0.1, 0.1))
        + cells("bn-hidden", (0.9, 0.9, 0.1))
        + cells("bn-rest", (0.9, 0.1, 0.1))
    )
    assert effect("hidden-rate-is-free", cells=found).value == pytest.approx(10)
    assert effect("rest-limits", cells=found).value == pytest.approx(10)


def test_what_eps_costs_is_counted_at_the_smallest_scale():
    found = cells("bn", (0.9, 0.1, 0.1), 0.1) + cells("bn-scaled-eps", (0.9, 0.9, 0.9), 0.1)
    assert effect("eps-breaks-the-scale", cells=found) == Effect(0, 2)


def test_growth_is_compared_with_the_squared_steps_of_small_starts():
    exact = growth("bn", 0.1, 1.0, (101, 101, 101))
    off = growth("bn", 1.0, 0.1, (101, 101, 101.05))
    ignored = growth("bn", 0.1, 10.0, (109, 101, 101))
    assert effect("steps-add-up", growths=[exact, off, ignored]).value == pytest.approx(-3)


def test_growth_with_and_without_normalization():
    found = growth("bn", 0.1, 1.0, (110,) * 3), growth("plain", 0.1, 1.0, (130,) * 3)
    assert effect("growth-stabilized", growths=found).value == pytest.approx(3)


def test_effective_rates_are_of_the_mean_unit_and_their_ratio_counts_either_way():
    assert growth("bn", 0.5, 1.0, (1,) * 3).effective_rate()[0] == pytest.approx([0.5] * 3)
    large = growth("bn", 1.0, 1.0, (200, 200, 200))
    # 100 times as small at the start; at the end half as small, and twice as large in one layer
    small = growth("bn", 1.0, 0.1, (100, 100, 400), start=1.0)
    assert effect("starts-meet", growths=[large, small]).value == pytest.approx(50)
    huge = growth("bn", 0.1, 10.0, (10_000,) * 3, start=10_000)
    usual = growth("bn", 0.1, 1.0, (100, 100, 200))
    assert effect("large-start-stays", growths=[huge, usual]).value == pytest.approx(50)


def test_spectra_are_compared_at_the_end():
    found = spectra(True, 0.4, 2.0) + spectra(False, 0.5, 0.25)
    assert effect("jacobians-closer-relu", spectra=found).value == pytest.approx(-10)
    assert effect("size-kept-relu", spectra=found).value == pytest.approx(1)
    of_sigmoids = spectra(True, 0.65, 1.0, "sigmoid")
    assert effect("jacobians-at-start", spectra=of_sigmoids).value == pytest.approx(65)


def test_the_curves_and_the_map_of_a_cell_can_be_asked_for():
    found = result(cells("bn", (0.5, 0.9, 0.1)) + cells("plain", (0.2, 0.3, 0.4)))
    assert found.curves(0.1, 1.0) == {"bn": [0.1, 0.9], "plain": [0.1, 0.3]}
    np.testing.assert_allclose(found.map("bn"), [[math.nan] * 3, [0.5, 0.9, 0.1]])
    with pytest.raises(KeyError, match="no cell of 'bn' at rate 7 and scale 1"):
        found.curves(7.0, 1.0)


def test_only_the_hidden_weights_are_scaled():
    one, ten = (rates.network_of(True, scale, seed=4) for scale in (1.0, 10.0))
    for k in (1, 2, 3):
        torch.testing.assert_close(
            ten.get_submodule(f"linear{k}").weight, 10 * one.get_submodule(f"linear{k}").weight
        )
    torch.testing.assert_close(one.linear4.weight, ten.linear4.weight)


def test_decades_are_rounded_powers():
    assert rates.decades(-1, 1) == (0.1, 0.316, 1.0, 3.16, 10.0)
    assert rates.decades(0, 2, 1) == (1.0, 10.0, 100.0)


SMALL = rates.Scale(
    data="none", hold_out=1, rates=(0.1, 1e4), scales=(0.1, 1.0), small=(0.1,), steps=12,
    target=0.1, growing=((0.1, 1.0),), growth_steps=6, spectrum_steps=10, examples=3, seeds=1,
)  # fmt: skip


def noise():
    images = torch.rand(120, 28, 28, generator=torch.Generator().manual_seed(0)).round()
    labels = torch.arange(120) % 10
    return ImageSet("noise", "a generator", "0" * 64, images, labels, images[:40], labels[:40])


@pytest.fixture(scope="module")
def short():
    """A run of few steps, with one seed, on noise."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(rates.SCALES, "live", SMALL)
        patch.setattr(rates, "_digits", lambda *_: noise())
        # In this process: another would not see the patches.
        patch.setattr(rates, "run_all", in_turn)
        return rates.run("live", seeds=(3,))


def in_turn(run, jobs, **_):
    return [run(job, rates.Report(None, None)) for job in jobs]


def test_every_part_is_measured(short):
    assert len(short.cells) == 2 * (2 + 2 + 1 + 1 + 1)
    assert {cell.network for cell in short.cells} == set(rates.NETWORKS)
    assert all(len(cell.curve) == len(short.steps) == 3 for cell in short.cells)
    assert [(g.network, g.steps) for g in short.growths] == [
        ("bn", [0, 5, 6]), ("plain", [0, 5, 6])
    ]  # fmt: skip
    assert len(short.spectra) == 2 * 2 * 2 * 2  # networks, with and without, moments, layers


def test_a_network_that_diverged_counts_as_guessing(short):
    cell = short.cell("plain", 1e4, 1.0)
    assert cell.diverged_at[0] is not None
    assert cell.diverged_at[0] <= 12
    assert cell.final == [rates.GUESS]


def test_squared_steps_add_up_only_where_the_scale_does_not_matter(short, monkeypatch):
    monkeypatch.setattr(rates, "network_of", partial(rates.network_of, eps=1e-12))
    monkeypatch.setattr(rates, "_digits", lambda *_: noise())
    job = ("bn", 0.1, 1.0), (3,), SMALL
    [growth] = rates._growth(job, rates.Report(None, None))
    assert rates.deviation(growth) < 1e-3
    assert rates.deviation(short.growth("plain", 0.1, 1.0, 3)) > 0.1


def test_singular_values_of_the_untrained_networks_have_the_size_that_is_derived(short):
    with_bn, without = (short.spectra_of("relu", bn, 3, 2)[0] for bn in (True, False))
    assert with_bn.rms == pytest.approx(math.sqrt(math.pi / (math.pi - 1)), rel=0.1)
    assert without.rms == pytest.approx(1, rel=0.1)


def test_a_record_gives_the_result_back(short):
    assert schema.made(rates.Result, schema.plain(short)) == short


def test_unknown_scale_and_no_seed_are_refused():
    with pytest.raises(ValueError, match=r"scale is 'huge'.*'live', 'paper'"):
        rates.run("huge")
    with pytest.raises(ValueError, match="seeds is empty"):
        rates.run(seeds=())
