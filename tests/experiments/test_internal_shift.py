"""The experiment on internal covariate shift: what it compares, measures and claims."""

import copy
import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from bn_core.experiments import internal_shift, records
from bn_core.experiments.claims import judge
from bn_core.experiments.internal_shift import CLAIMS, WAYS, Branch, Course
from bn_core.lab.models import figure1_network

RESULTS = Path(__file__).parents[2] / "results"


@pytest.fixture
def networks():
    """A network, and one in which every weight is another."""
    return [figure1_network(generator=torch.Generator().manual_seed(s)) for s in (0, 1)]


IMAGES = torch.rand(40, 28, 28, generator=torch.Generator().manual_seed(2))


def test_a_crossed_network_has_the_layers_asked_for_from_the_later_one(networks):
    before, after = networks
    made = internal_shift.crossed(before, after, [2])
    assert [name for name, _ in made.named_children()] == [n for n, _ in before.named_children()]
    assert made.linear2 is after.linear2
    assert all(getattr(made, f"linear{i}") is getattr(before, f"linear{i}") for i in (1, 3, 4))


def test_a_change_of_the_first_layer_is_owed_to_the_layers_in_front_of_the_others(networks):
    before, _ = networks
    after = copy.deepcopy(before)
    after.linear1.bias.data += 0.5
    found = internal_shift.block_shifts(before, after, IMAGES)
    np.testing.assert_array_equal(found["total"], found["first"])
    np.testing.assert_array_equal(found["front"][1:], found["total"][1:])
    np.testing.assert_array_equal(found["own"], [found["total"][0], 0, 0])
    assert (found["total"] > 0).all()


def test_nothing_is_in_front_of_the_first_layer_and_every_part_moves_when_all_layers_do(networks):
    found = internal_shift.block_shifts(*networks, IMAGES)
    assert found["front"][0] == 0
    assert found["own"][0] == found["first"][0] == found["total"][0]
    assert all((part[1:] > 0).all() for part in found.values())


def test_shuffled_gradients_are_those_of_other_units_in_each_network():
    stack = internal_shift._stack((0, 1))
    labels = torch.arange(40) % 10
    stack.backward(IMAGES.expand(2, *IMAGES.shape), labels.expand(2, 40))
    linear = stack.network.linear2
    weight, bias = linear.weight.grad.clone(), linear.bias.grad.clone()
    untouched = stack.network.linear3.weight.grad.clone()
    orders = torch.stack([torch.roll(torch.arange(100), k) for k in (1, 5)])
    internal_shift.shuffle_gradients(stack.network, {2: orders})
    for s, k in enumerate((1, 5)):
        assert torch.equal(linear.weight.grad[s], torch.roll(weight[s], k, 0))
        assert torch.equal(linear.bias.grad[s], torch.roll(bias[s], k, 0))
    assert torch.equal(stack.network.linear3.weight.grad, untouched)


@pytest.mark.parametrize("steps", [100, 1_000, 10_000])
def test_blocks_end_before_the_next_begins_and_within_the_course(steps):
    at = internal_shift.record_at(steps)
    assert all(b - a >= internal_shift.BLOCK or steps < 400 for a, b in pairwise(at))
    assert at[0] == 0
    assert at[-1] + internal_shift.BLOCK <= steps


def course(accuracy, **shifts):
    blank = [[1.0] * 3] * len(accuracy)
    parts = {part: shifts.get(part, blank) for part in ("total", "front", "own", "first")}
    fans = [[[0.0] * 3] * len(accuracy)] * 3
    return Course(0, list(range(len(accuracy))), accuracy, [0] * 3, fans, fans, **parts)


def branch(way, losses=(math.nan, 1.0, 1.0, 1.0, 1.0), shift=0.3):
    zeros = [0.0] * len(losses)
    return Branch(
        way, 0, list(range(len(losses))), list(losses), zeros, [*zeros[1:], shift], zeros, zeros
    )


def effect(claim_id, courses=(), branches=()):
    result = internal_shift.Result("live", (0,), tuple(courses), tuple(branches), [], {})
    claim = next(c for c in CLAIMS if c.id == f"internal_shift.{claim_id}")
    return claim.measure(result, 0).value


def test_records_at_chance_do_not_count():
    at_chance, learning = [1.0, 1.0, 99.0], [1.0, 1.0, 3.0]
    made = course([0.1, 0.5, 0.9], total=[at_chance, learning, learning])
    assert effect("deeper-moves-more", [made]) == 3
    assert math.isnan(effect("deeper-moves-more", [course([0.1, 0.2])]))


def test_amplification_follows_a_change_of_the_first_layer_alone():
    made = course([0.9], first=[[2.0, 3.0, 5.0]], front=[[0.0, 3.0, 8.0]], own=[[2.0, 1.0, 4.0]])
    assert effect("change-amplifies", [made]) == 2.5
    assert effect("front-outweighs-own", [made]) == 2


def test_losses_are_compared_at_the_first_and_the_last_tenth():
    ways = (
        branch("all", (math.nan, 9.0, 9.0, 3.0, 1.0)),
        branch("frozen", (math.nan, 9.0, 9.0, 2.0, 4.0)),
        branch("shuffled", (math.nan, 9.0, 9.0, 2.0, 6.0)),
    )
    assert effect("still-is-better-at-first", branches=ways) == 1.5
    assert effect("still-is-better", branches=ways) == 0.25
    assert effect("purposeless-hurts", branches=ways) == 1.5
    assert effect("inputs-move", branches=ways) == 0.3


@pytest.fixture(scope="module")
def short():
    """A run of few steps with one seed."""
    saved = internal_shift.SCALES["live"]
    internal_shift.SCALES["live"] = replace(saved, steps=60, fork=20, after=40)
    try:
        yield internal_shift.run("live", seeds=(3,))
    finally:
        internal_shift.SCALES["live"] = saved


def test_a_run_has_a_course_and_every_way_to_go_on(short):
    assert [c.seed for c in short.courses] == [3]
    assert [(b.way, b.seed) for b in short.branches] == [(way, 3) for way in WAYS]
    found = short.course(3)
    assert found.steps == internal_shift.record_at(60)
    assert np.shape(found.mean) == np.shape(found.typical) == (3, len(found.steps), 3)
    assert np.shape(found.total) == np.shape(found.front) == (len(found.steps), 3)
    assert np.isfinite(found.total).all()


def test_after_one_step_f2_is_the_same_in_every_way_and_then_it_is_not(short):
    for way in WAYS[1:]:
        apart = short.branch(way, 3).apart
        assert apart[:2] == [0, 0]
        assert apart[2] > 0


def test_frozen_inputs_stand_still_and_the_others_move(short):
    assert set(short.branch("frozen", 3).shift) == {0}
    assert all(short.branch(way, 3).shift[1] > 0 for way in WAYS if way != "frozen")


def test_stopped_is_shuffled_until_half_way_and_stands_still_from_there(short):
    stopped, shuffled = short.branch("stopped", 3), short.branch("shuffled", 3)
    half = stopped.steps.index(20)
    assert stopped.shift[: half + 1] == shuffled.shift[: half + 1]
    assert set(stopped.pace[half + 1 :]) == {0}
    assert all(pace > 0 for pace in shuffled.pace[half + 1 :])


def test_returned_is_shuffled_and_set_back_to_the_fork():
    size = replace(internal_shift.SCALES["live"], fork=5, after=40)
    digits = internal_shift._digits(size.data)
    stack = internal_shift.at_fork((3,), size, digits)
    [shuffled], [returned] = (
        internal_shift.go_on(stack, way, (3,), size, digits) for way in ("shuffled", "returned")
    )
    for step, a, b in zip(
        shuffled.steps, shuffled.measured["inputs"], returned.measured["inputs"], strict=True
    ):
        assert np.array_equal(a, b) == (step <= internal_shift.RETURN_EVERY)


def test_shifts_by_length_start_from_the_stack_and_leave_it_as_it_is():
    size = replace(internal_shift.SCALES["live"], fork=5)
    digits = internal_shift._digits(size.data)
    stack = internal_shift.at_fork((3,), size, digits)
    before = [p.detach().clone() for p in stack.parameters()]
    [found] = internal_shift.by_length(stack, (3,), digits, [2, 20])
    assert all(torch.equal(a, b) for a, b in zip(before, stack.parameters(), strict=True))
    assert found["total"].shape == (2, 3)
    assert (found["total"][1] > found["total"][0]).all()
    [again] = internal_shift.by_length(stack, (3,), digits, [20])
    np.testing.assert_array_equal(again["total"][0], found["total"][1])


def test_another_way_is_refused():
    size = internal_shift.SCALES["live"]
    with pytest.raises(ValueError, match="way is 'backwards'"):
        internal_shift.go_on(None, "backwards", (0,), size, None)


def test_a_record_gives_the_result_back(short, tmp_path):
    records.save(tmp_path / "internal_shift.json", records.record(internal_shift.NAME, short))
    again = internal_shift.recorded(tmp_path)
    assert again.courses == short.courses
    assert [replace(b, loss=[]) for b in again.branches] == [
        replace(b, loss=[]) for b in short.branches
    ]


# The recorded runs


@pytest.fixture(scope="module")
def recorded():
    return internal_shift.recorded(RESULTS)


def test_the_record_is_of_full_mnist_and_five_seeds(recorded):
    assert recorded.scale == "paper"
    assert recorded.provenance["data"]["name"] == "mnist-binary"
    assert not recorded.provenance["revision"].endswith("-dirty")
    assert [c.seed for c in recorded.courses] == list(recorded.seeds) == [0, 1, 2, 3, 4]
    assert {b.steps[-1] for b in recorded.branches} == {internal_shift.SCALES["paper"].after}


def test_every_claim_can_be_judged_from_the_record(recorded):
    for claim in CLAIMS:
        effects = judge(claim, recorded, recorded.seeds).effects
        assert all(np.isfinite(e.value) for e in effects), claim.id
