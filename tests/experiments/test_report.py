"""What a chapter prints of its claims."""

from types import SimpleNamespace

from bn_core.experiments.claims import Claim, Effect, Verdict
from bn_core.experiments.report import judge_all, spread, verdict_table

CLAIM = Claim(
    id="x.faster",
    statement="It is faster.",
    source="ioffe2015, section 4.1",
    effect="ratio of steps",
    unit="x",
    threshold=1.0,
    measure=lambda result, seed: Effect(seed, result.values[seed]),
)


def result(*values):
    return SimpleNamespace(seeds=tuple(range(len(values))), values=values)


def test_spread_goes_from_the_lowest_to_the_highest_seed():
    assert spread([Effect(0, 3), Effect(1, 1.5), Effect(2, 2)], "x") == "1.50 to 3.00x"


def test_spread_of_equal_effects_is_one_number():
    assert spread([Effect(0, 2), Effect(1, 2)], " points") == "2.00 points"


def test_large_effects_have_one_decimal_and_negative_ones_a_minus_sign():
    assert spread([Effect(0, 18.46), Effect(1, -0.5)], "x") == "\N{MINUS SIGN}0.50 to 18.5x"


def test_spread_keeps_bounds():
    assert spread([Effect(0, 2), Effect(1, 9, "at least")], "x") == "2.00 to at least 9.00x"


def test_the_table_has_a_row_for_each_claim_and_a_column_for_each_scale():
    table = verdict_table([CLAIM], {"paper": result(2, 3), "live": result(0.5)}).data
    head, rule, row = table.splitlines()
    assert head == "| Claim, source, criterion | paper | live |"
    assert rule.count("---") == 3
    assert "{cite:t}`ioffe2015`, section 4.1" in row
    assert "ratio of steps > 1x in every seed" in row
    assert row.endswith("| **holds**: 2.00 to 3.00x | **does not hold**: 0.50x |")


def test_all_claims_are_judged_by_id():
    assert judge_all([CLAIM], result(2, 0.5))["x.faster"].verdict == Verdict.MIXED
