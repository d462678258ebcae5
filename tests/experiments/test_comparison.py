"""Whether a run comes to the verdicts of a record."""

from dataclasses import replace
from pathlib import Path

import pytest

from bn_core.experiments.claims import Claim, Effect, judge
from bn_core.experiments.comparison import compare, seeds_in_words
from bn_core.experiments.records import Summary

PROVENANCE = {
    "date": "2026-01-31",
    "versions": {"torch": "2.4"},
    "data": {"name": "coins", "sha256": "0" * 64},
}


def judged(name, *effects, threshold=1.0):
    claim = Claim(name, "", "", "size", "x", threshold, lambda _, s: Effect(s, effects[s]))
    return judge(claim, None, range(len(effects)))


def summary(*claims, **changes):
    made = Summary(Path("r/toss.json"), "toss", "", "live", (0, 1), PROVENANCE, claims)
    return replace(made, **changes)


def test_the_same_verdicts_agree_whatever_the_effects():
    found = compare(
        summary(judged("a", 2.0, 3.0), judged("b", 0.5, 0.5)),
        summary(judged("a", 9.0, 1.1), judged("b", 0.9, 0.1)),
    )
    assert found.agrees is True
    assert found.sentence == (
        "All 2 verdicts are the same as in r/toss.json (live scale, seeds 0 to 1, 2026-01-31)."
    )
    assert found.differences == ()


def test_one_other_verdict_is_named():
    found = compare(
        summary(judged("a", 2.0, 3.0), judged("b", 0.5, 2.0)),
        summary(judged("a", 9.0, 1.1), judged("b", 0.9, 0.1)),
    )
    assert found.agrees is False
    assert [claim.agrees for claim in found.claims] == [True, False]
    assert found.sentence.startswith("1 of 2 verdicts differs from r/toss.json")
    assert found.sentence.endswith(": b.")


def test_a_claim_that_only_one_has_is_not_compared():
    found = compare(
        summary(judged("a", 2.0, 3.0), judged("new", 2.0, 2.0)),
        summary(judged("a", 2.0, 3.0), judged("old", 2.0, 2.0)),
    )
    assert found.agrees is True
    assert {claim.id: claim.obstacle for claim in found.claims} == {
        "a": "",
        "new": "not in the record",
        "old": "only in the record",
    }


def test_a_claim_with_another_criterion_is_not_compared():
    found = compare(summary(judged("a", 2.0, 3.0)), summary(judged("a", 2.0, 3.0, threshold=2.5)))
    assert found.agrees is None
    assert "another criterion (more than 2.5× in every seed: size)" in found.claims[0].obstacle
    assert found.sentence.startswith("There is no claim to compare")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"scale": "paper"}, "it is of paper scale, and this run of live scale"),
        ({"experiment": "dice"}, "it is of dice, and this run of toss"),
    ],
)
def test_another_scale_or_experiment_is_not_compared(changes, words):
    found = compare(summary(judged("a", 2.0, 3.0)), summary(judged("a", 0.0, 0.0), **changes))
    assert found.agrees is None
    assert found.claims == ()
    assert found.sentence.startswith("Not compared with r/toss.json")
    assert words in found.sentence


def test_what_may_explain_another_verdict_is_told():
    there = {
        **PROVENANCE,
        "versions": {"torch": "2.5"},
        "data": {"name": "coins", "sha256": "1" * 64},
    }
    found = compare(summary(), summary(seeds=(0, 1, 2), provenance=there))
    assert found.differences == (
        "seeds 0 to 1 here, seeds 0 to 2 there",
        "data coins 000000000000 here, coins 111111111111 there",
        "torch 2.4 here, 2.5 there",
    )


@pytest.mark.parametrize(
    ("seeds", "words"),
    [
        ([3], "seed 3"),
        ([0, 1], "seeds 0 to 1"),
        ([2, 3, 4], "seeds 2 to 4"),
        ([5, 1], "seeds 5, 1"),
    ],
)
def test_seeds_are_told_in_words(seeds, words):
    assert seeds_in_words(seeds) == words
