"""784-128-10 and the networks with faults: what is run, recorded and claimed."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from bn_core.experiments import inside_a_network as inside
from bn_core.experiments import schema
from bn_core.experiments.claims import Effect
from bn_core.experiments.inside_a_network import CLAIMS, FAULTS, LIMITS, SETTINGS, Run, Watched
from bn_core.lab.sweeps import Report


def trained(batch_norm, accuracy, setting="relu", loss=None, **changes):
    loss = loss or [1.0] * len(accuracy)
    made = Run(setting, batch_norm, 0, accuracy, loss, accuracy, loss, 0.5, None)
    return replace(made, **changes)


def watched(fault, batch_norm=False, dead=0.0, saturated=0.0, gradient=(1.0, 1.0), accuracy=0.1):
    return Watched(fault, batch_norm, 0, [0.0, dead], [saturated, 0.0], [*gradient], accuracy, None)


def effect(claim_id, runs=(), faults=()):
    result = inside.Result("paper", (0,), SETTINGS, FAULTS, tuple(runs), tuple(faults), {})
    claim = next(c for c in CLAIMS if c.id == f"inside_a_network.{claim_id}")
    return claim.measure(result, 0)


def test_final_accuracy_is_the_mean_over_the_last_tenth_and_at_least_one_epoch():
    assert trained(True, [0.0] * 18 + [0.6, 0.8]).final_accuracy == pytest.approx(0.7)
    assert trained(True, [0.0, 0.9]).final_accuracy == 0.9
    assert math.isnan(trained(True, [0.9], diverged_at=7).final_accuracy)


def test_what_the_notebook_reports_is_subtracted():
    runs = trained(True, [0.9758]), trained(False, [0.9426])
    assert effect("above-with", runs).value == pytest.approx(1.0)
    assert effect("above-without", runs).value == pytest.approx(-1.0)


def test_gains_are_with_minus_without_after_one_epoch_and_at_the_end():
    runs = trained(True, [0.90, 0.95]), trained(False, [0.80, 0.97])
    assert effect("first-epoch-relu", runs).value == pytest.approx(10)
    assert effect("higher-final-relu", runs).value == pytest.approx(-2)


def test_the_rise_of_the_loss_is_that_of_the_network_in_which_it_rises_less():
    runs = [
        trained(True, [0.9] * 3, loss=[0.2, 0.1, 0.3]),
        trained(False, [0.9] * 3, loss=[0.2, 0.1, 0.2]),
    ]
    assert effect("loss-rises", runs).value == pytest.approx(2)


def test_a_handicap_explains_only_if_both_networks_come_near_after_the_same_epoch():
    near = trained(True, [0.5, 0.9648], "few-digits"), trained(False, [0.5, 0.9556], "few-digits")
    apart = trained(True, [0.9658, 0.5], "few-digits"), trained(False, [0.5, 0.9526], "few-digits")
    assert effect("explained-by-few-digits", apart).value < -40
    assert effect("explained-by-few-digits", near).value == pytest.approx(0.2)
    one = trained(True, [0.9658], "few-digits"), trained(False, [0.9826], "few-digits")
    assert effect("explained-by-few-digits", one).value == pytest.approx(-2.5)


def test_stopping_explains_if_some_epoch_of_the_usual_setting_does():
    runs = trained(True, [0.5, 0.9658, 0.99]), trained(False, [0.9526, 0.9546, 0.99])
    assert effect("explained-by-stopping", runs).value == pytest.approx(0.3)


def test_a_sign_is_the_largest_share_or_the_ratio_of_first_and_last_layer():
    network = watched("x", dead=0.4, saturated=0.7, gradient=(6.0, 3.0))
    assert [network.sign(s) for s in ("dead", "saturated")] == [0.4, 0.7]
    assert [network.sign(s) for s in ("exploding", "vanishing")] == [2.0, 0.5]
    assert watched("x", gradient=(0.0, 1.0)).sign("vanishing") == math.inf
    assert math.isnan(watched("x", gradient=(0.0, 0.0)).sign("vanishing"))


@pytest.mark.parametrize(
    ("sign", "fault", "marks", "value"),
    [
        ("dead", "high rate", {"dead": 0.4}, 40),
        ("saturated", "wide tanh", {"saturated": 0.7}, 70),
        ("vanishing", "narrow sigmoid", {"gradient": (1.0, 500.0)}, 500),
        ("exploding", "wide ReLU", {"gradient": (500.0, 1.0)}, 500),
    ],
)
def test_each_fault_is_judged_by_its_own_sign(sign, fault, marks, value):
    assert effect(f"sign-{sign}", faults=[watched(fault, **marks)]).value == pytest.approx(value)


def test_a_false_alarm_is_the_sign_that_is_nearest_to_its_limit():
    healthy = watched("healthy", dead=1 / 6, gradient=(5.0, 1.0), saturated=math.nan)
    assert effect("no-false-alarm", faults=[healthy]).value == pytest.approx(2)
    alarmed = watched("healthy", dead=2 / 3, saturated=math.nan)
    assert effect("no-false-alarm", faults=[alarmed]).value == pytest.approx(0.5)


def test_no_dead_unit_at_all_bounds_the_reduction_by_one_unit_of_the_layer():
    pair = watched("high rate", dead=0.5), watched("high rate", True, dead=0.0)
    assert effect("reduces-dead", faults=pair) == Effect(0, 32, "at least")
    pair = watched("high rate", dead=0.5), watched("high rate", True, dead=0.25)
    assert effect("reduces-dead", faults=pair) == Effect(0, 2)


def test_what_a_network_learns_more_is_in_points():
    pair = watched("wide ReLU", accuracy=0.4), watched("wide ReLU", True, accuracy=0.1)
    assert effect("learns-exploding", faults=pair).value == pytest.approx(-30)


def test_claims_have_ids_of_their_own_and_every_sign_has_a_limit():
    assert len({claim.id for claim in CLAIMS}) == len(CLAIMS)
    assert all(claim.id.startswith("inside_a_network.") for claim in CLAIMS)
    assert {fault.sign for fault in FAULTS} - {""} == set(LIMITS)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_starts_from_equal_weights_with_and_without_and_of_the_rule(fault):
    plain, with_bn = (fault.network(batch_norm, 0) for batch_norm in (False, True))
    torch.testing.assert_close(plain.linear3.weight, with_bn.linear3.weight)
    assert len([m for m in with_bn if isinstance(m, nn.Module) and "Norm" in str(m)]) == 8
    rule = inside.ACTIVATIONS[fault.activation][1]
    expected = fault.factor * rule(64, 64) if fault.factor else 0.1
    assert plain.linear3.weight.std().item() == pytest.approx(expected, rel=0.05)


@pytest.fixture(scope="module")
def short():
    """A run of few steps with one seed, of two settings and two faults, in this process."""

    def in_turn(run, jobs, **_):
        return [run(job, Report(None, None)) for job in jobs]

    with pytest.MonkeyPatch.context() as patch:
        small = replace(inside.SCALES["live"], epochs=4, steps=21)
        patch.setitem(inside.SCALES, "live", small)
        patch.setattr(inside, "SETTINGS", (SETTINGS[0], SETTINGS[3], SETTINGS[5], SETTINGS[6]))
        patch.setattr(inside, "FAULTS", (FAULTS[0], FAULTS[2]))
        patch.setattr(inside, "run_all", in_turn)
        return inside.run("live", seeds=(3,))


def test_a_run_scores_every_epoch_of_every_setting(short):
    for setting, epochs in (("relu", 4), ("few-digits", 4), ("raw-pixels", 1), ("slow-sgd", 2)):
        for batch_norm in (True, False):
            run = short.one(setting, batch_norm, 3)
            lists = run.accuracy, run.loss, run.train_accuracy, run.train_loss
            assert {len(values) for values in lists} == {epochs}
    assert short.one("relu", True, 3).accuracy[-1] > 0.8
    assert short.one("relu", True, 3).loss[-1] < short.one("relu", True, 3).loss[0]


def test_networks_with_faults_are_seen_as_an_independent_look_sees_them(short):
    data = inside._digits("mnist-5k")
    for batch_norm in (False, True):
        seen = short.watch("wide tanh", batch_norm, 3)
        network = FAULTS[2].network(batch_norm, 3)
        orders = torch.randperm(4000, generator=torch.Generator().manual_seed(3))
        entering = network[:-2](data.train_images[orders[:64]])
        expected = (entering.abs() > math.acosh(10**0.5)).float().mean().item()
        assert seen.saturated[-1] == pytest.approx(expected, abs=0.02)
        assert np.isnan(seen.dead).all()
    plain, with_bn = (short.watch("wide tanh", bn, 3).saturated for bn in (False, True))
    assert min(plain) > 3 * max(with_bn)


def test_results_survive_being_recorded(short):
    record = schema.plain(short)
    assert schema.plain(schema.made(inside.Result, record)) == record


def test_unknown_scales_and_empty_seeds_are_refused():
    with pytest.raises(ValueError, match="scale is 'huge'"):
        inside.run("huge")
    with pytest.raises(ValueError, match="seeds is empty"):
        inside.run(seeds=())
