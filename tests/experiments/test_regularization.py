"""The regularization experiment: its layers, what it measures, records and claims."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from bn_core.experiments import records, regularization, schema
from bn_core.experiments.claims import judge
from bn_core.experiments.regularization import (
    CLAIMS,
    WHOLE,
    Arm,
    GroupStatistics,
    Noise,
    Run,
    base,
    grouped,
)
from bn_core.layers import BatchNorm1d, GhostBatchNorm

RESULTS = Path(__file__).parents[2] / "results"


def passed(layer, x):
    """What a layer returns, its gradients for some loss, and its running statistics."""
    layer = layer.double()
    with torch.no_grad():
        layer.weight.copy_(torch.linspace(0.5, 2, x.shape[1]))
        layer.bias.copy_(torch.linspace(-1, 1, x.shape[1]))
    x = x.clone().requires_grad_()
    y = layer(x)
    loss = (y.sin() * torch.arange(y.numel()).view(y.shape)).sum()
    gradients = torch.autograd.grad(loss, [x, layer.weight, layer.bias])
    return y, *gradients, layer.running_mean, layer.running_var


@pytest.fixture
def x():
    generator = torch.Generator().manual_seed(0)
    return 3 * torch.randn(12, 5, dtype=torch.float64, generator=generator) + 7


def layer(mean, variance, momentum=0.1):
    return GroupStatistics(5, 4, group_mean=mean, group_variance=variance, momentum=momentum)


def test_with_both_of_the_group_the_layer_is_ghost_batch_normalization(x):
    for ours, theirs in zip(
        passed(layer(True, True), x), passed(GhostBatchNorm(5, 4), x), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def test_with_both_of_the_batch_the_layer_is_batch_normalization(x):
    # Three steps of the running statistics together weigh 0.1.
    ours = passed(layer(False, False, momentum=1 - 0.9 ** (1 / 3)), x)
    for one, other in zip(ours, passed(BatchNorm1d(5), x), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("mean", "variance"), [(True, False), (False, True)])
def test_with_one_of_each_it_is_what_a_loop_over_groups_computes(x, mean, variance):
    class Loop(BatchNorm1d):
        def _normalize_batch(self, x):
            y = []
            for group in x.split(4):
                mu = group.mean(0) if mean else x.mean(0)
                values = group if variance else x
                var = ((values - values.mean(0)) ** 2).mean(0)
                y.append(self.weight * (group - mu) / torch.sqrt(var + self.eps) + self.bias)
                unbiased = var * len(values) / (len(values) - 1)
                for running, new in ((self.running_mean, mu), (self.running_var, unbiased)):
                    running.copy_(0.9 * running + 0.1 * new.detach())
            return torch.cat(y)

    for ours, theirs in zip(passed(layer(mean, variance), x), passed(Loop(5), x), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def test_groups_must_fill_the_batch(x):
    with pytest.raises(ValueError, match=r"\(11, 5\), and group_size = 4 does not divide 11"):
        layer(True, True)(x[:11].float())
    with pytest.raises(ValueError, match="group_size is 1"):
        GroupStatistics(5, 1, group_mean=True, group_variance=True)


def test_all_arms_start_from_the_same_weights():
    arms = base("plain"), base("bn", 0.5), grouped("ghost", 8), grouped("mean", 8)
    first = [arm.network(3).linear2.weight for arm in arms]
    assert all(torch.equal(weight, first[0]) for weight in first)
    assert not torch.equal(base("bn").network(4).linear2.weight, first[0])


def test_dropout_stands_where_the_arm_says_and_each_layer_has_its_own_masks():
    every, last = (base("bn", 0.5, place).network(1) for place in ("every", "last"))
    names = [name for name, _ in every.named_children()]
    assert names[names.index("dropout1") - 1] == "activation1"
    assert every.dropout1.seed != every.dropout2.seed
    assert not hasattr(last, "dropout1")
    assert last.dropout2.p == 0.5


@pytest.mark.parametrize("scale", regularization.SCALES.values())
def test_arms_differ_and_have_the_moments_of_their_scale(scale):
    arms = scale.arms()
    assert len({arm.name for arm in arms}) == len(set(arms)) == len(arms)
    for arm in arms:
        at = scale.record_at(arm)
        assert at[-1] == scale.steps(arm)
        assert len(at) == scale.records


def found(arm, train=(1.0, 0.5, 0.0), test=(1.0, 0.9, 0.9), accuracies=(1.0, 0.9), **rest):
    at_end = {
        "running_accuracy": 0.8,
        "dropout_accuracy": 0.8,
        "shift": [1.0, 1.5],
        "diverged_at": None,
    } | rest
    return Run(
        arm.name, 0, [10, 100, 1000], list(train), list(test),
        [0.1, 0.5, accuracies[0]], [0.1, 0.5, accuracies[1]], **at_end,
    )  # fmt: skip


def effect(claim_id, *runs, noises=()):
    arms = tuple(regularization.SCALES["paper"].arms())
    result = regularization.Result("paper", (0,), arms, runs, noises, {})
    claim = next(c for c in CLAIMS if c.id == f"regularization.{claim_id}")
    return claim.measure(result, 0).value


def test_a_loss_between_two_records_is_reached_between_their_steps():
    assert found(base("bn")).reaching(0.75) == pytest.approx((10**1.5, 0.95))
    assert found(base("bn")).reaching(1.5) is None
    assert found(base("bn"), train=(1.0, 0.5, 0.4)).reaching(0.3) is None


def test_gaps_are_compared_where_the_training_loss_is_that_of_the_scale():
    loss = regularization.SCALES["paper"].loss
    wide, narrow = (found(base("plain"), test=(t, t, t)) for t in (0.9, 0.7))
    narrow = replace(narrow, arm="bn")
    assert effect("smaller-gap", wide, narrow) == pytest.approx(0.2)
    never = replace(narrow, train_loss=[2.0, 1.5, loss + 0.01])
    assert math.isnan(effect("smaller-gap", wide, never))


def test_the_gap_at_the_end_is_one_of_accuracies():
    runs = found(base("plain"), accuracies=(1.0, 0.8)), found(base("bn"), accuracies=(1.0, 0.85))
    assert effect("smaller-gap-at-end", *runs) == pytest.approx(5)


def test_the_fastest_rate_is_each_networks_own():
    runs = []
    for arm in regularization.SCALES["paper"].arms():
        if arm.name.startswith(("plain", "bn")):
            best = 0.3 if arm.kind == "bn" else 0.1
            runs.append(found(arm, train=(1, 0, 0) if arm.lr == best else (1, 1, 1)))
    fast = [replace(r, steps=[1, 10, 100]) if r.arm.startswith("bn") else r for r in runs]
    assert effect("faster", *fast) == pytest.approx(10)


def test_the_noise_of_one_statistic_is_compared_with_none():
    runs = [
        found(arm, test=(t, t, t))
        for arm, t in ((WHOLE, 0.9), (grouped("mean", 8), 0.6), (grouped("variance", 8), 0.8))
    ]
    assert effect("mean-noise", *runs) == pytest.approx(0.3)
    assert effect("variance-noise", *runs) == pytest.approx(0.1)
    assert effect("mean-over-variance", *runs) == pytest.approx(0.2)


def test_batch_sizes_are_compared_with_and_without():
    gaps = {("bn", 256): 0.9, ("bn", 16): 0.5, ("plain", 256): 0.8, ("plain", 16): 0.7}
    runs = [
        found(Arm(f"{kind}, batch {m}", kind, batch_size=m), test=(t, t, t))
        for (kind, m), t in gaps.items()
    ]
    assert effect("batch-size", *runs) == pytest.approx(0.4)
    assert effect("batch-size-beyond-plain", *runs) == pytest.approx(0.3)


def test_dropout_is_judged_by_the_better_of_two():
    def runs(kind, *accuracies):
        return [
            found(base(kind, p), accuracies=(1.0, a))
            for p, a in zip((0.0, 0.25, 0.5), accuracies, strict=True)
        ]

    assert effect("dropout-removable", *runs("bn", 0.85, 0.86, 0.5)) == pytest.approx(-1)
    assert effect("dropout-needed", *runs("plain", 0.85, 0.7, 0.87)) == pytest.approx(2)


def test_the_shift_and_what_recalibration_gives_back():
    every = found(base("bn", 0.5), accuracies=(1.0, 0.85), dropout_accuracy=0.83)
    last = found(base("bn", 0.5, "last"), dropout_accuracy=0.86)
    assert effect("variance-shift", every) == 1.5
    assert effect("recalibration", every) == pytest.approx(2)
    assert effect("last-place", every, last) == pytest.approx(3)


def test_an_exponent_is_that_of_a_power_law_from_eight_on():
    sizes = [2, 8, 16, 64]
    noise = Noise(0, sizes, [77.0, *(3 * m**-1.1 for m in sizes[1:])], [0.5, 0.2, 0.1, 0], 0)
    assert effect("one-over-m", noises=[noise]) == pytest.approx(0.05)
    assert effect("not-deterministic", noises=[noise]) == pytest.approx(10)


def test_variances_are_compared_unit_by_unit():
    one, other = (nn.Sequential(BatchNorm1d(3)) for _ in range(2))
    one[0].running_var.copy_(torch.tensor([2.0, 3.0, 8.0]))
    other[0].running_var.copy_(torch.tensor([2.0, 2.0, 2.0]))
    assert regularization._shift(one, other) == [1.5]


@pytest.fixture(scope="module")
def short():
    """A run of few steps of a few arms with two seeds."""
    arms = base("plain"), base("bn"), base("bn", 0.5), grouped("ghost", 8), grouped("variance", 8)
    size = replace(
        regularization.SCALES["live"], train=512, epochs=6, examples=2, draws=5, records=4
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(regularization.SCALES, "live", size)
        patch.setattr(regularization.Scale, "arms", lambda _: arms)
        patch.setattr(regularization, "run_all", in_turn)
        return regularization.run("live", seeds=(3, 4))


def in_turn(run, jobs, **_):
    report = regularization.Report(None, None)
    return [run(job, report) for job in jobs]


def test_training_lowers_the_loss_and_dropout_raises_the_variance(short):
    for each in short.runs:
        assert each.train_loss[0] > each.train_loss[-1]
    dropped, normalized = (short.run(base("bn", p), 3).shift for p in (0.5, 0.0))
    assert dropped[-1] > 1.15 > normalized[-1]


def test_scores_vary_among_mates_and_not_in_evaluation_mode(short):
    for noise in short.noises:
        assert noise.variance[0] > 4 * noise.variance[-1] > 0
        assert noise.evaluation == 0


def test_a_record_gives_the_result_back(short):
    assert schema.made(regularization.Result, schema.plain(short)) == short


def test_every_claim_names_its_experiment_and_ids_differ():
    assert len({claim.id for claim in CLAIMS}) == len(CLAIMS)
    assert all(claim.id.startswith("regularization.") for claim in CLAIMS)


def test_unknown_scale_and_no_seed_are_refused():
    with pytest.raises(ValueError, match=r"scale is 'huge'.*'live', 'paper'"):
        regularization.run("huge")
    with pytest.raises(ValueError, match="seeds is empty"):
        regularization.run(seeds=())


# The recorded run


@pytest.fixture(scope="module")
def recorded():
    return regularization.recorded(RESULTS)


def test_the_record_is_of_fashion_mnist_and_five_seeds(recorded):
    assert recorded.scale == "paper"
    assert recorded.provenance["data"]["name"] == "fashion-mnist-first-5000"
    assert not recorded.provenance["revision"].endswith("-dirty")
    assert recorded.seeds == (0, 1, 2, 3, 4)
    assert recorded.arms == regularization.SCALES["paper"].arms()
    assert len(recorded.runs) == 5 * len(recorded.arms)


def test_every_claim_can_be_judged_from_the_record(recorded):
    for claim in CLAIMS:
        effects = judge(claim, recorded, recorded.seeds).effects
        assert not all(np.isnan(e.value) for e in effects), claim.id


def test_the_record_satisfies_its_schema(recorded, tmp_path):
    records.save(tmp_path / "regularization.json", records.record(regularization.NAME, recorded))
    assert regularization.recorded(tmp_path) == recorded
