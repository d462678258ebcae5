"""A claim's criterion and its verdict."""

import math

import pytest

from bn_core.experiments.claims import Claim, Effect, Verdict, judge


def claim(effects, threshold=1.0):
    return Claim(
        id="x",
        statement="",
        source="",
        effect="size",
        unit="x",
        threshold=threshold,
        measure=lambda _, seed: Effect(seed, effects[seed]),
    )


@pytest.mark.parametrize(
    ("effects", "verdict"),
    [
        ([1.1, 2.0, 3.0], Verdict.HOLDS),
        ([0.9, 0.5, 1.0], Verdict.DOES_NOT_HOLD),
        ([1.1, 0.9, 2.0], Verdict.MIXED),
        ([1.1, math.nan, 2.0], Verdict.MIXED),
        ([0.9, math.nan], Verdict.MIXED),
        ([math.inf], Verdict.HOLDS),
    ],
)
def test_holds_in_every_seed_or_in_none_or_is_mixed(effects, verdict):
    judgement = judge(claim(effects), None, range(len(effects)))
    assert judgement.verdict == verdict
    assert [effect.seed for effect in judgement.effects] == list(range(len(effects)))


def test_the_criterion_says_the_threshold():
    assert judge(claim([2.0]), None, [0]).criterion == "size > 1x in every seed"


def test_no_seed_no_verdict():
    with pytest.raises(ValueError, match="seeds is empty"):
        judge(claim([]), None, [])
