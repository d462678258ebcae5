"""What a chapter prints of its claims."""

import math
from pathlib import Path
from types import SimpleNamespace

import pytest

from bn_core.experiments import records, registry
from bn_core.experiments.claims import Claim, Effect, Verdict
from bn_core.experiments.report import (
    judge_all,
    scoreboard,
    shortfalls,
    spread,
    tally,
    verdict_table,
    written,
)

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
    assert spread([Effect(0, 3), Effect(1, 1.5), Effect(2, 2)], "x") == "1.50 to 3.00×"


def test_spread_of_equal_effects_is_one_number():
    assert spread([Effect(0, 2), Effect(1, 2)], " points") == "2.00\N{NO-BREAK SPACE}points"


def test_large_effects_have_one_decimal_and_negative_ones_a_minus_sign():
    assert spread([Effect(0, 18.46), Effect(1, -0.5)], "x") == "\N{MINUS SIGN}0.50 to 18.5×"


def test_very_large_effects_are_whole_numbers_and_very_small_ones_are_not_nothing():
    assert spread([Effect(0, 28997.4), Effect(1, -0.0042)], "x") == "\N{MINUS SIGN}0.004 to 28,997×"


def test_spread_keeps_bounds():
    assert spread([Effect(0, 2), Effect(1, 9, "at least")], "x") == "2.00 to at least 9.00×"


def test_seeds_that_cannot_be_told_are_counted_and_left_out():
    effects = [Effect(0, 2), Effect(1, math.nan), Effect(2, 1)]
    assert spread(effects, "x") == "1.00 to 2.00×; 1 of 3 cannot be told"
    assert spread(effects[1:2], "x") == "cannot be told"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0079, "0.008"),
        (-5e-5, "\N{MINUS SIGN}0.00005"),
        (0.012, "0.01"),
        (1e-9, "0.00"),
        (0, "0.00"),
    ],
)
def test_a_small_value_is_written_to_its_first_digit(value, text):
    assert written(Effect(0, value)) == text


@pytest.mark.parametrize(
    ("value", "threshold", "text"),
    [
        (1.004, 1, "1.004"),
        (1.004, 2, "1.00"),
        (1, 1, "1.00"),
        (0.99996, 1, "0.99996"),
        (10.04, 10, "10.04"),
    ],
)
def test_a_value_is_told_from_the_threshold(value, threshold, text):
    assert spread([Effect(0, value)], "x", threshold) == f"{text}×"


def test_the_table_has_a_row_for_each_claim_and_a_column_for_each_scale():
    table = verdict_table([CLAIM], {"paper": result(2, 3), "live": result(0.5)}).data
    head, rule, row = table.splitlines()
    assert head == "| Claim, source, criterion | paper | live |"
    assert rule.count("---") == 3
    assert "{cite:t}`ioffe2015`, section 4.1" in row
    assert "more than 1× in every seed: ratio of steps" in row
    assert row.endswith("| **holds**: 2.00 to 3.00× | **does not hold**: 0.50× |")


def test_all_claims_are_judged_by_id():
    assert judge_all([CLAIM], result(2, 0.5))["x.faster"].verdict == Verdict.MIXED


def test_the_scoreboard_has_a_row_for_every_claim_on_record(tmp_path, toss, monkeypatch):
    monkeypatch.setitem(registry.CHAPTERS, "toss", "07_coins")
    folder = tmp_path / "results"
    records.save(
        folder / "toss.json", records.record(toss.NAME, toss.result(2.0, 3.0, scale="paper"))
    )
    monkeypatch.chdir(tmp_path)
    title, _, origin, _, head, _, row = scoreboard(Path("results")).data.splitlines()
    assert title == "## Chapter 7: Tossing coins"
    assert origin == (
        "[The chapter](chapters/07_coins.ipynb); the {download}`record <results/toss.json>` of "
        "paper scale, 2 seeds, made on 2026-01-31 at revision `abc`."
    )
    assert head == "| Claim, source, criterion | Effect, lowest to highest | Verdict |"
    assert row == (
        "| Heads it is. ({cite:t}`ioffe2015`, section 0) "
        "*Holds if more than 1× in every seed: heads.* "
        "| 2.00 to 3.00× | **holds** |"
    )


def test_the_scoreboard_is_in_the_order_of_the_chapters():
    folder = Path(__file__).parents[2] / "results"
    lines = scoreboard(folder).data.splitlines()
    titles = [line.partition(": ")[2] for line in lines if line.startswith("## ")]
    in_order = [registry.get(name).TITLE for name in registry.NAMES]
    assert titles == [title for title in in_order if title in titles]


def test_claims_of_others_that_do_not_hold_are_listed(tmp_path, toss, monkeypatch):
    monkeypatch.setitem(registry.CHAPTERS, "toss", "07_coins")
    folder = tmp_path / "results"
    monkeypatch.chdir(tmp_path)
    records.save(folder / "toss.json", records.record(toss.NAME, toss.result(2.0, 3.0)))
    assert shortfalls(Path("results")).data == "None."
    records.save(folder / "toss.json", records.record(toss.NAME, toss.result(2.0, 0.5)))
    assert shortfalls(Path("results")).data == (
        "- **mixed** (0.50 to 2.00×): Heads it is. {cite:t}`ioffe2015`, section 0; "
        "[chapter 7](chapters/07_coins.ipynb)"
    )


def test_the_tally_counts_verdicts_by_source_and_in_all(tmp_path, toss):
    records.save(tmp_path / "toss.json", records.record(toss.NAME, toss.result(2.0, 0.5)))
    head, _, paper, everything = tally(tmp_path).data.splitlines()
    assert head == "| Claims of | in all | holds | does not hold | mixed |"
    assert paper == "| {cite:t}`ioffe2015` | 1 | 0 | 0 | 1 |"
    assert everything == "| **all** | 1 | 0 | 0 | 1 |"


def test_the_scoreboard_runs_and_judges_nothing(tmp_path, toss, monkeypatch):
    records.save(tmp_path / "toss.json", records.record(toss.NAME, toss.result(2.0, 3.0)))
    monkeypatch.setattr(registry, "NAMES", ())
    monkeypatch.setattr(registry, "get", lambda _: pytest.fail("it asked for the experiment"))
    assert scoreboard(tmp_path).data.endswith("| 2.00 to 3.00× | **holds** |")


def test_links_are_as_seen_from_the_page_that_sees_the_folder(tmp_path, toss, monkeypatch):
    monkeypatch.setitem(registry.CHAPTERS, "toss", "07_coins")
    records.save(tmp_path / "results" / "toss.json", records.record(toss.NAME, toss.result(2.0)))
    (tmp_path / "chapters").mkdir()
    monkeypatch.chdir(tmp_path / "chapters")
    board = scoreboard(Path("../results")).data
    assert "(../chapters/07_coins.ipynb)" in board
    assert "<../results/toss.json>" in board


def test_the_books_scoreboard_has_every_claim_of_the_books_records():
    folder = Path(__file__).parents[2] / "results"
    table = scoreboard(folder).data
    for summary in records.summaries(folder):
        for claim in summary.claims:
            for part in (claim.statement, f"*Holds if {claim.criterion}.*"):
                assert part.replace("|", "\\|") in table


def test_a_folder_without_records_has_no_scoreboard(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no record of an experiment"):
        scoreboard(tmp_path)


def test_a_pipe_does_not_end_a_cell():
    claim = Claim("x", "|a| is large.", "this book", "|a|", "", 0, lambda _, seed: Effect(seed, 1))
    row = verdict_table([claim], {"live": result(1)}).data.splitlines()[-1]
    assert row.replace("\\|", "").count("|") == 3
