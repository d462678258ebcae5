"""A claim's criterion and its verdict."""

import math
from dataclasses import replace

import pytest

from bn_core.experiments.claims import Claim, Effect, Verdict, decide, judge, typeset


def claim(effects, threshold=1.0):
    return Claim(
        id="x",
        statement="It is large.",
        source="this book",
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
        ([-math.inf], Verdict.DOES_NOT_HOLD),
    ],
)
def test_holds_in_every_seed_or_in_none_or_is_mixed(effects, verdict):
    judgement = judge(claim(effects), None, range(len(effects)))
    assert judgement.verdict == verdict
    assert [effect.seed for effect in judgement.effects] == list(range(len(effects)))


@pytest.mark.parametrize(
    ("value", "bound", "exceeds_one"),
    [
        (1.5, "", True),
        (1.0, "", False),
        (1.5, "at least", True),
        (0.5, "at least", None),
        (1.0, "at least", None),
        (0.5, "at most", False),
        (1.0, "at most", False),
        (1.5, "at most", None),
        (math.nan, "", None),
    ],
)
def test_a_bound_tells_of_one_side_only(value, bound, exceeds_one):
    assert Effect(0, value, bound).exceeds(1.0) is exceeds_one


def test_an_effect_that_cannot_be_told_from_the_threshold_makes_a_claim_mixed():
    assert decide([Effect(0, 0.5), Effect(1, 0.9, "at least")], 1.0) == Verdict.MIXED
    assert decide([Effect(0, 1.5), Effect(1, 1.1, "at most")], 1.0) == Verdict.MIXED


def test_another_bound_is_refused():
    with pytest.raises(ValueError, match="bound is 'about'; it must be one of"):
        Effect(0, 1.0, "about")


@pytest.mark.parametrize(
    ("unit", "text"), [("x", "×"), (" points", "\N{NO-BREAK SPACE}points"), ("", ""), ("%", "%")]
)
def test_a_unit_is_kept_with_its_number(unit, text):
    assert typeset(unit) == text


def test_the_criterion_says_the_threshold():
    assert judge(claim([2.0]), None, [0]).criterion == "more than 1× in every seed: size"


@pytest.mark.parametrize(
    ("threshold", "said"), [(1.0, "1\N{NO-BREAK SPACE}point"), (2.0, "2\N{NO-BREAK SPACE}points")]
)
def test_one_of_a_unit_is_singular(threshold, said):
    found = replace(claim([2.0]), unit=" points", threshold=threshold)
    assert found.criterion == f"more than {said} in every seed: size"


def test_a_judgement_repeats_what_the_claim_says():
    judged, of = judge(claim([2.0]), None, [0]), claim([2.0])
    for word in ("id", "statement", "source", "criterion", "unit", "threshold"):
        assert getattr(judged, word) == getattr(of, word)


def test_no_seed_no_verdict():
    with pytest.raises(ValueError, match="seeds is empty"):
        judge(claim([]), None, [])
    with pytest.raises(ValueError, match="effects is empty"):
        decide([], 1.0)
