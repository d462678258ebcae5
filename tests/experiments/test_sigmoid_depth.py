"""The depth experiment: what it builds, measures, records and claims."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from bn_core.experiments import records, schema, sigmoid_depth
from bn_core.experiments.claims import Effect, judge
from bn_core.experiments.sigmoid_depth import ARMS, CLAIMS, Layers, Run, Tuned
from bn_core.lab.models import sigmoid_network
from bn_core.lab.stack import Stack

RESULTS = Path(__file__).parents[2] / "results"
STEPS = [0, 100, 200, 2_000]
TRAINED, CHANCE = 0.9, 0.1


def look(depth, saturated=0.0, gradient=None, differing=None, arriving=None):
    ones = [1.0] * depth
    return Layers(
        step=0,
        saturated=[saturated] * depth,
        spread=ones,
        offset=ones,
        arriving=arriving or ones,
        gradient=gradient or ones,
        differing=differing or ones,
    )


def run(arm, depth, final=TRAINED, accuracy=(0.1, 0.5, 0.85, 0.9), layers=None):
    looks = tuple(layers or [look(depth)])
    return Run(arm, depth, 0, 0.1, STEPS, list(accuracy), final, looks, None)


def result(*runs, scale="paper"):
    return sigmoid_depth.Result(scale, (0,), ARMS, (), tuple(runs), {"date": "today"})


def effect(claim_id, *runs):
    claim = next(c for c in CLAIMS if c.id == f"sigmoid_depth.{claim_id}")
    return claim.measure(result(*runs), 0)


def stopping(arm, depths, trains):
    return [run(arm, d, TRAINED if d in trains else CHANCE) for d in depths]


DEPTHS = (2, 4, 6, 8)


@pytest.mark.parametrize(
    ("bn", "narrow", "value", "bound"),
    [
        ((2, 4, 6), (2, 4), 2, ""),
        ((2, 4, 6, 8), (2,), 6, "at least"),
        ((2,), (2, 4, 6, 8), -6, "at most"),
        ((2, 4, 6, 8), (2, 4, 6, 8), math.nan, ""),
        ((2, 4), (), math.nan, ""),
        ((2, 4, 8), (2,), 2, ""),  # what trains beyond a depth that does not is not counted
    ],
)
def test_difference_of_depths_says_where_it_is_a_bound(bn, narrow, value, bound):
    runs = stopping("bn", DEPTHS, bn) + stopping("narrow", DEPTHS, narrow)
    found = effect("bn-deeper-than-narrow", *runs)
    assert found.value == pytest.approx(value, nan_ok=True)
    assert found.bound == bound


def test_depths_beyond_twelve_do_not_count_as_deeper():
    runs = stopping("bn", (2, 12, 24), (2, 12, 24))
    assert result(*runs).deepest("bn", 0) == Effect(0, 12, "at least")
    assert result(*runs).stops_at("bn", 0) is None
    assert result(*stopping("bn", (2, 12, 24), (2, 12))).stops_at("bn", 0, most=24) == 24


def test_an_intervention_is_judged_where_the_other_network_stops():
    narrow = stopping("narrow", (2, 4, 6), (2,))
    assert effect("once-trains", *narrow, run("once", 4, 0.85)).value == pytest.approx(5)
    assert math.isnan(effect("once-trains", *narrow, run("once", 6, 0.85)).value)
    xavier = stopping("xavier", (2, 4, 6), (2, 4))
    assert effect("centred-trains", *xavier, run("centred", 6, 0.5)).value == pytest.approx(-30)


def test_saturation_is_that_of_the_depth_that_stops():
    stops = run("narrow", 4, CHANCE, layers=[look(4, 0.002), look(4, 0.004)])
    runs = run("narrow", 2), stops, run("bn", 4, layers=[look(4, 0.0), look(4, 0.2)])
    assert effect("stops-unsaturated", *runs).value == pytest.approx(0.6)
    assert effect("bn-more-saturated", *runs).value == pytest.approx(19.6)
    assert math.isnan(effect("stops-unsaturated", run("narrow", 4)).value)


def test_decades_leave_out_the_first_layer():
    layers = [look(4, gradient=[9.0, 1e-4, 1e-2, 1.0], differing=[9.0, 1e-5, 2e-5, 1e-4])]
    stops = run("narrow", 4, CHANCE, layers=layers)
    assert effect("equally-small", stops).value == pytest.approx(4 - 1)


def test_scales_are_compared_in_points_and_steps_as_a_ratio():
    two = run("bn", 12, 0.95), run("bn-xavier", 12, 0.945)
    assert effect("bn-any-scale", *two).value == pytest.approx(1.5)
    slow = run("bn", 12, accuracy=(0.1, 0.1, 0.1, 0.8))
    assert effect("bn-depth-costs-little", run("bn", 2), slow).value == pytest.approx(0.1)
    never = run("bn", 12, accuracy=(0.1, 0.1, 0.1, 0.1))
    bounded = effect("bn-depth-costs-little", run("bn", 2), never)
    assert (bounded.value, bounded.bound) == (0.1, "at most")


def test_growth_backward_is_first_over_last():
    start = look(3, arriving=[3.0, 2.0, 1.5])
    assert effect("bn-gradient-grows", run("bn", 3, layers=[start])).value == 2


def test_arms_differ_in_what_they_name_and_in_nothing_else():
    networks = {arm.name: arm.network(3, 0) for arm in ARMS}
    norms = {n: sum(isinstance(m, nn.BatchNorm1d | sigmoid_depth.BatchNorm1d) for m in net)
             for n, net in networks.items()}  # fmt: skip
    assert norms == {
        "narrow": 0, "xavier": 0, "bn": 3, "bn-xavier": 3, "centred": 0, "once": 1,
    }  # fmt: skip
    first = networks["narrow"].linear2.weight
    for name, net in networks.items():
        factor = 4 if "xavier" in name or name == "centred" else 1
        torch.testing.assert_close(net.linear2.weight, factor * first)
    assert [name for name, net in networks.items() if net.linear2.bias is not None
            and net.linear2.bias.any()] == ["centred"]  # fmt: skip


def test_one_normalization_stands_in_front_of_the_last_sigmoid():
    names = [name for name, _ in ARMS[-1].network(2, 0).named_children()]
    assert names[-4:] == ["linear2", "norm2", "sigmoid2", "linear3"]


def test_every_network_of_a_stack_takes_a_step_of_its_own_rate():
    networks = [sigmoid_network(1, width=5, generator=torch.Generator().manual_seed(0))] * 2
    stack = Stack(networks)
    x, labels = torch.rand(2, 4, 28, 28), torch.arange(4).expand(2, 4)
    optimizer = sigmoid_depth.SGDByNetwork(stack, (0.5, 2.0))
    before = stack.network.linear2.weight.detach().clone()
    stack.backward(x, labels)
    gradient = stack.network.linear2.weight.grad.clone()
    optimizer.step()
    moved = before - stack.network.linear2.weight.detach()
    torch.testing.assert_close(moved, gradient * torch.tensor([0.5, 2.0]).view(2, 1, 1))


def test_what_is_seen_of_layers_is_what_autograd_and_variances_say():
    network = sigmoid_network(3, width=6, init_std=1.5, generator=torch.Generator().manual_seed(1))
    images = torch.rand(40, 28, 28, generator=torch.Generator().manual_seed(2))
    labels = torch.arange(40) % 10
    seen = sigmoid_depth.look_at_layers(network, 3, images, labels)
    double = sigmoid_network(3, width=6, init_std=1.5).double()
    double.load_state_dict(network.state_dict())
    x2 = double[:4](images.double())
    z2 = x2.sigmoid().detach().requires_grad_()
    losses = nn.functional.cross_entropy(double[5:](z2), labels, reduction="none")
    (delta,) = torch.autograd.grad(losses.sum(), z2)
    nn.functional.cross_entropy(double(images.double()), labels).backward()
    weight = double.linear2.weight
    assert seen["saturated"][1] == (x2.abs() > sigmoid_depth.EDGE).double().mean().item()
    assert 0 < seen["saturated"][1] < 1
    assert seen["spread"][1] == pytest.approx(x2.var(0, correction=0).mean().sqrt().item())
    assert seen["offset"][1] == pytest.approx(x2.mean(0).square().mean().sqrt().item())
    assert seen["arriving"][1] == pytest.approx(delta.norm(dim=1).square().mean().sqrt().item())
    assert seen["gradient"][1] == pytest.approx((weight.grad.norm() / weight.norm()).item())


def test_equal_examples_leave_no_differing_gradient():
    network = sigmoid_network(2, width=6, generator=torch.Generator().manual_seed(1))
    images = torch.rand(1, 28, 28).expand(20, 28, 28)
    seen = sigmoid_depth.look_at_layers(network, 2, images, torch.arange(20) % 10)
    assert max(seen["differing"]) < 1e-15 < min(seen["gradient"])


@pytest.mark.parametrize("steps", [25, 250, 2_000])
def test_measuring_begins_with_the_first_and_ends_with_the_last_step(steps):
    at = sigmoid_depth.record_steps(steps)
    assert at == sorted(set(at))
    assert (at[0], at[-1]) == (0, steps)
    assert set(sigmoid_depth.layers_at(steps)) <= set(at)


def test_the_best_rate_is_that_of_the_highest_score():
    tuned = Tuned("bn", 2, (0.1, 1.0, 3.0), [0.2, 0.5, 0.4], [0.9, 0.6, 0.7])
    assert (tuned.best, tuned.at_edge) == (1.0, False)
    assert replace(tuned, scores=[0.6, 0.5, 0.4]).at_edge


@pytest.fixture(scope="module")
def short():
    """A run of few steps and depths with one seed; the highest rate diverges at once."""
    with pytest.MonkeyPatch.context() as patch:
        small = replace(
            sigmoid_depth.SCALES["live"],
            steps=50,
            examples=100,
            rates=(0.3, math.inf),
            depths={"narrow": (2,), "bn": (2, 3)},
        )
        patch.setitem(sigmoid_depth.SCALES, "live", small)
        # In this process: another would not see the patches.
        patch.setattr(sigmoid_depth, "run_all", in_turn)
        return sigmoid_depth.run("live", seeds=(3,))


def in_turn(run, jobs, **_):
    report = sigmoid_depth.Report(None, None)
    return [run(job, report) for job in jobs]


def test_rates_are_chosen_and_networks_trained_for_every_cell_in_order(short):
    assert [(t.arm, t.depth) for t in short.tuned] == [("narrow", 2), ("bn", 2), ("bn", 3)]
    assert [(r.arm, r.depth, r.lr) for r in short.runs] == [
        ("narrow", 2, 0.3), ("bn", 2, 0.3), ("bn", 3, 0.3),
    ]  # fmt: skip
    for tuned in short.tuned:
        assert tuned.scores[1] == tuned.finals[1] == 0  # diverged
        assert tuned.scores[0] > 0
    for each in short.runs:
        assert each.steps == [0, 25, 50]
        assert [look.step for look in each.layers] == [0, 50]
        assert len(each.layers[0].spread) == each.depth


def test_normalized_layers_start_with_a_spread_of_one_and_no_offset(short):
    start = short.one("bn", 3, 3).layers[0]
    np.testing.assert_allclose(start.spread, 1, atol=0.02)  # less by eps
    assert max(start.offset) < 1e-6


def test_a_record_gives_the_result_back(short):
    assert schema.made(sigmoid_depth.Result, schema.plain(short)) == short


def test_every_claim_names_its_experiment_and_ids_differ():
    assert len({claim.id for claim in CLAIMS}) == len(CLAIMS)
    assert all(claim.id.startswith("sigmoid_depth.") for claim in CLAIMS)


def test_unknown_scale_no_seed_and_the_tuning_seed_are_refused():
    with pytest.raises(ValueError, match=r"scale is 'huge'.*'live', 'paper'"):
        sigmoid_depth.run("huge")
    with pytest.raises(ValueError, match="seeds is empty"):
        sigmoid_depth.run(seeds=())
    with pytest.raises(ValueError, match="seeds has 99"):
        sigmoid_depth.run(seeds=(0, 99))


# The recorded run


@pytest.fixture(scope="module")
def recorded():
    return sigmoid_depth.recorded(RESULTS)


def test_the_record_is_of_full_mnist_and_five_seeds(recorded):
    assert recorded.scale == "paper"
    assert recorded.provenance["data"]["name"] == "mnist-binary"
    assert not recorded.provenance["revision"].endswith("-dirty")
    assert recorded.seeds == (0, 1, 2, 3, 4)
    depths = sigmoid_depth.SCALES["paper"].depths
    assert len(recorded.runs) == 5 * sum(map(len, depths.values()))


def test_the_record_was_trained_at_the_rates_it_chose(recorded):
    assert all(r.lr == recorded.tuning(r.arm, r.depth).best for r in recorded.runs)


def test_shares_are_shares_and_norms_are_not_negative(recorded):
    for each in recorded.runs:
        for look in each.layers:
            assert all(0 <= share <= 1 for share in look.saturated)
            assert all(value >= 0 for value in (*look.differing, *look.spread))


def test_every_claim_can_be_judged_from_the_record(recorded):
    for claim in CLAIMS:
        assert len(judge(claim, recorded, recorded.seeds).effects) == 5


def test_the_record_satisfies_its_schema(recorded, tmp_path):
    records.save(tmp_path / "sigmoid_depth.json", records.record(sigmoid_depth.NAME, recorded))
    assert sigmoid_depth.recorded(tmp_path) == recorded
