"""`python -m bn_core.experiments`."""

import json
import math
import os
import sys
from pathlib import Path

import pytest

from bn_core.experiments import records, registry, schema
from bn_core.experiments.__main__ import main
from bn_core.experiments.claims import Verdict
from bn_core.lab.data import DataError

RESULTS = Path(__file__).parents[2] / "results"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    """In a folder of its own, so that no test compares with the book's records or writes there."""
    monkeypatch.chdir(tmp_path)


def keep(toss, *values, folder="results", scale="live"):
    """Put a record in a folder."""
    records.save(
        Path(folder, "toss.json"), records.record(toss.NAME, toss.result(*values, scale=scale))
    )


# list


def test_list_names_every_experiment_and_claim_with_its_criterion(capsys):
    assert main(["list"]) == 0
    printed = capsys.readouterr().out
    for name in registry.NAMES:
        assert f"{name}: {registry.get(name).TITLE}" in printed
        for claim in registry.get(name).CLAIMS:
            assert claim.id in printed
            assert claim.criterion in printed


def test_list_as_json_says_the_same(capsys):
    assert main(["list", "--json"]) == 0
    listed = {each["name"]: each for each in json.loads(capsys.readouterr().out)}
    assert list(listed) == list(registry.NAMES)
    for name, each in listed.items():
        experiment = registry.get(name)
        assert each["title"] == experiment.TITLE
        assert each["scales"]["live"]["seeds"] == experiment.SCALES["live"].seeds
        assert [c["criterion"] for c in each["claims"]] == [c.criterion for c in experiment.CLAIMS]


# run


def test_run_prints_verdicts_and_writes_the_result(toss, capsys):
    assert main(["run", "toss", "--out", "new/folder"]) == 0
    printed = capsys.readouterr()
    assert "toss.heads: holds, 2.00 to 3.00×" in printed.out
    assert "There is no record to compare with." in printed.out
    assert printed.err == "tossing\n"
    assert toss.recorded(Path("new/folder")) == toss.result(2.0, 3.0)


def test_run_asks_for_the_seeds_and_scale_it_was_told(toss):
    assert main(["run", "toss", "--seeds", "3", "--scale", "paper"]) == 0
    assert toss.called == [{"scale": "paper", "seeds": (0, 1, 2), "resume": None}]
    assert toss.recorded(Path("runs")).scale == "paper"


def test_verdicts_as_on_record_agree(toss, capsys):
    keep(toss, 1.5, 1.1)
    assert main(["run", "toss"]) == 0
    printed = capsys.readouterr().out
    assert "on record: holds, 1.10 to 1.50×: agrees" in printed
    assert "The verdict is the same as in results/toss.json (live scale, seeds 0 to 1" in printed


def test_another_verdict_than_on_record_has_an_exit_status_of_its_own(toss, capsys):
    keep(toss, 0.5, 0.7)
    assert main(["run", "toss"]) == 3
    printed = capsys.readouterr().out
    assert "toss.heads: holds, 2.00 to 3.00×" in printed
    assert "on record: does not hold, 0.50 to 0.70×: DOES NOT AGREE" in printed
    assert "1 of 1 verdict differs from results/toss.json" in printed


def test_a_run_does_not_touch_the_record_it_is_compared_with(toss):
    keep(toss, 0.5, 0.7)
    before = Path("results/toss.json").read_text()
    main(["run", "toss"])
    assert Path("results/toss.json").read_text() == before


def test_a_run_into_the_folder_of_the_record_is_compared_with_the_old_one(toss, capsys):
    keep(toss, 0.5, 0.7)
    assert main(["run", "toss", "--out", "results"]) == 3
    assert "on record: does not hold" in capsys.readouterr().out
    assert records.summary(Path("results/toss.json")).claims[0].verdict == Verdict.HOLDS


def test_another_scale_is_not_compared(toss, capsys):
    keep(toss, 0.5, 0.7, scale="paper")
    assert main(["run", "toss"]) == 0
    printed = capsys.readouterr().out
    assert "Not compared with results/toss.json" in printed
    assert "it is of paper scale, and this run of live scale" in printed
    assert "agree" not in printed.lower()


def test_other_seeds_are_compared_and_told(toss, capsys):
    keep(toss, 2.0, 2.0, 2.0)
    assert main(["run", "toss"]) == 0
    assert "not the same: seeds 0 to 1 here, seeds 0 to 2 there" in capsys.readouterr().out


def test_a_folder_to_compare_with_can_be_named(toss, capsys):
    keep(toss, 2.0, 2.0)
    keep(toss, 0.0, 0.0, folder="mine")
    assert main(["run", "toss", "--compare", "mine"]) == 3
    assert "mine/toss.json" in capsys.readouterr().out


def test_a_named_folder_must_hold_the_record_before_anything_runs(toss, capsys):
    assert main(["run", "toss", "--compare", "mine"]) == 1
    assert "--compare mine: there is no mine/toss.json" in capsys.readouterr().err
    Path("mine").mkdir()
    Path("mine/toss.json").write_text("{")
    assert main(["run", "toss", "--compare", "mine"]) == 1
    assert "mine/toss.json is not JSON" in capsys.readouterr().err
    assert toss.called == []


def test_a_damaged_record_does_not_stop_the_run_that_replaces_it(toss, capsys):
    Path("results").mkdir()
    Path("results/toss.json").write_text("{")
    assert main(["run", "toss", "--out", "results"]) == 0
    assert "nothing to compare with: " in capsys.readouterr().err
    assert toss.recorded(Path("results")) == toss.result(2.0, 3.0)


def test_run_as_json_is_one_value_on_stdout_and_progress_on_stderr(toss, capsys):
    keep(toss, 0.5, 0.7)
    toss.outcomes = [2.0, math.inf]
    assert main(["run", "toss", "--json"]) == 3
    printed = capsys.readouterr()
    assert "tossing" in printed.err
    told = json.loads(printed.out)
    assert told["path"] == "runs/toss.json"
    assert told["seeds"] == [0, 1]
    assert told["claims"][0]["verdict"] == "holds"
    assert [effect["value"] for effect in told["claims"][0]["effects"]] == [2.0, "Infinity"]
    comparison = told["comparison"]
    assert (comparison["record"], comparison["agrees"]) == ("results/toss.json", False)
    claim = comparison["claims"][0]
    assert (claim["here"], claim["recorded"]) == ("holds", "does not hold")


def test_run_as_json_without_a_record_has_no_comparison(toss, capsys):
    assert main(["run", "toss", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["comparison"] is None


def test_resume_names_a_folder_of_parts_and_removes_it_when_all_is_written(toss, monkeypatch):
    parts = Path("runs/toss.live.parts")
    plain = toss.run

    def keeps_parts(*arguments, resume, **options):
        resume.mkdir(parents=True)
        (resume / "0").write_text("")
        return plain(*arguments, resume=resume, **options)

    monkeypatch.setattr(toss, "run", keeps_parts)
    assert main(["run", "toss", "--resume"]) == 0
    assert toss.called[0]["resume"] == parts
    assert not parts.exists()


def test_without_resume_the_parts_of_another_run_are_left_alone(toss):
    parts = Path("runs/toss.live.parts")
    parts.mkdir(parents=True)
    assert main(["run", "toss"]) == 0
    assert toss.called[0]["resume"] is None
    assert parts.exists()


# all


@pytest.fixture
def only_toss(toss, monkeypatch):
    """The toss is all there is, and the package is as committed, at revision abc."""
    monkeypatch.setattr(registry, "NAMES", ("toss",))
    monkeypatch.setattr(records, "revision", lambda: "abc")
    return toss


def test_all_runs_at_paper_scale_and_tells_how_many_verdicts_agree(only_toss, capsys):
    keep(only_toss, 1.5, 1.1, 1.2, scale="paper")
    assert main(["all"]) == 0
    printed = capsys.readouterr().out
    assert only_toss.called[0]["scale"] == "paper"
    assert only_toss.recorded(Path("runs")) == only_toss.result(2.0, 3.0, 4.0, scale="paper")
    assert [line.split() for line in printed.splitlines()[:2]] == [
        ["experiment", "seconds", "verdicts", "as", "on", "record"],
        ["toss", "0", "1", "1"],
    ]
    assert "0 minutes in all; the results are in runs" in printed


def test_all_names_the_verdicts_that_differ_and_leaves_the_records(only_toss, capsys):
    keep(only_toss, 0.5, 0.7, 0.6, scale="paper")
    before = Path("results/toss.json").read_text()
    assert main(["all"]) == 3
    printed = capsys.readouterr().out
    assert "DOES NOT AGREE: toss.heads: holds here, does not hold on record" in printed
    assert Path("results/toss.json").read_text() == before


def test_all_does_not_run_again_what_this_revision_has_run(only_toss, monkeypatch):
    assert main(["all"]) == 0
    assert main(["all"]) == 0
    assert len(only_toss.called) == 1
    assert main(["all", "--scale", "live"]) == 0
    assert len(only_toss.called) == 2
    monkeypatch.setattr(records, "revision", lambda: "abd")
    assert main(["all", "--scale", "live"]) == 0
    assert len(only_toss.called) == 3


def test_all_keeps_the_parts_of_an_interrupted_run(only_toss, monkeypatch, capsys):
    def interrupted(*_, resume, **__):
        resume.mkdir(parents=True)
        raise KeyboardInterrupt

    monkeypatch.setattr(only_toss, "run", interrupted)
    assert main(["all"]) == 130
    assert "goes on from the parts that were finished" in capsys.readouterr().err
    assert Path("runs/toss.paper.parts").is_dir()


def test_all_does_not_write_over_the_records(only_toss, capsys):
    with pytest.raises(SystemExit) as exit_:
        main(["all", "--out", "results"])
    assert exit_.value.code == 2
    assert "holds the records to compare with" in capsys.readouterr().err
    assert only_toss.called == []


@pytest.mark.parametrize("count", ["0", "-1", "two", "1.5"])
def test_a_number_of_seeds_is_one_or_more(count, toss, capsys):
    with pytest.raises(SystemExit) as exit_:
        main(["run", "toss", f"--seeds={count}"])
    assert exit_.value.code == 2
    assert "give 1 or more" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "figure2"], "invalid choice: 'figure2' (choose from"),
        (["run", "toss", "--scale", "huge"], "has no scale 'huge'; choose from live, paper"),
        ([], "the following arguments are required: command"),
    ],
)
def test_wrong_usage_has_an_exit_status_of_its_own(arguments, words, toss, capsys):
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 2
    assert words in capsys.readouterr().err
    assert toss.called == []


def test_missing_data_is_an_error_without_a_traceback(toss, capsys, monkeypatch):
    def fails(*_, **__):
        raise DataError("mnist: not found; set BN_CORE_DATA")

    monkeypatch.setattr(toss, "run", fails)
    assert main(["run", "toss"]) == 1
    assert "set BN_CORE_DATA" in capsys.readouterr().err
    assert list(Path("runs").iterdir()) == []


def test_a_folder_that_cannot_be_written_to_is_found_out_before_the_run(toss, capsys):
    Path("file").write_text("")
    assert main(["run", "toss", "--out", "file"]) == 1
    assert "--out file is not a folder that can be written to" in capsys.readouterr().err
    Path("runs/toss.json").mkdir(parents=True)
    assert main(["run", "toss"]) == 1
    assert "runs/toss.json is a folder" in capsys.readouterr().err
    assert toss.called == []


@pytest.mark.parametrize(
    ("options", "hint"),
    [([], "with --resume, finished parts are kept"), (["--resume"], "the same command goes on")],
)
def test_an_interrupt_writes_nothing_and_leaves_the_record(
    options, hint, toss, capsys, monkeypatch
):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    keep(toss, 0.5, 0.7)
    before = Path("results/toss.json").read_text()
    monkeypatch.setattr(toss, "run", interrupted)
    assert main(["run", "toss", "--out", "results", *options]) == 130
    assert hint in capsys.readouterr().err
    assert [file.name for file in Path("results").iterdir()] == ["toss.json"]
    assert Path("results/toss.json").read_text() == before


# show


def test_show_tells_claims_effects_and_provenance(toss, capsys):
    keep(toss, 2.0, math.nan, folder="mine")
    assert main(["show", "toss", "--from", "mine"]) == 0
    printed = capsys.readouterr().out
    for words in (
        "toss: Tossing coins",
        "live scale, seeds 0 to 1",
        "recorded on 2026-01-31 at revision abc",
        "torch 2.4",
        f"coins, sha256 {'0' * 64}",
        "toss.heads: mixed, 2.00×; 1 of 2 cannot be told",
        "Heads it is. (ioffe2015, section 0)",
        "holds if more than 1× in every seed: heads",
        "seed 0: 2.00×",
        "seed 1: cannot be told",
    ):
        assert words in printed


def test_show_as_json_is_the_record_without_its_runs(toss, capsys):
    keep(toss, 2.0, 3.0)
    assert main(["show", "toss", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    stored = json.loads(Path("results/toss.json").read_text())
    assert told.pop("path") == "results/toss.json"
    assert told == {key: stored[key] for key in stored if key not in ("schema", "runs")}


@pytest.mark.parametrize("name", registry.NAMES)
def test_show_reads_the_books_records(name, capsys):
    assert main(["show", name, "--from", str(RESULTS)]) == 0
    printed = capsys.readouterr().out
    assert all(claim.id in printed for claim in registry.get(name).CLAIMS)


def test_show_says_what_there_is(toss, capsys):
    assert main(["show", "toss"]) == 1
    assert "no results/toss.json; results holds no record" in capsys.readouterr().err
    keep(toss, 2.0)
    assert main(["show", "figure2"]) == 1
    assert "no results/figure2.json; results holds toss" in capsys.readouterr().err


def test_show_of_a_damaged_record_is_an_error(toss, capsys):
    keep(toss, 2.0)
    Path("results/toss.json").write_text('{"schema": 2, "experiment": "toss", "seeds": []}')
    assert main(["show", "toss"]) == 1
    assert "toss.json: " in capsys.readouterr().err


# schema, and the program as a whole


@pytest.mark.parametrize("name", [*registry.NAMES, *schema.TABLES])
def test_schema_prints_the_document(name, capsys):
    assert main(["schema", name]) == 0
    assert json.loads(capsys.readouterr().out) == schema.document(name)


def test_the_exit_status_is_told_by_help(capsys):
    with pytest.raises(SystemExit):
        main(["run", "--help"])
    printed = " ".join(capsys.readouterr().out.split())
    assert "3 done, and a verdict is not the one on record; 130 interrupted" in printed


def test_a_reader_that_has_read_enough_is_no_error(capsys, monkeypatch):
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as closed:
        monkeypatch.setattr(sys, "stdout", closed)
        assert main(["schema", "figure1"]) == 0
    assert capsys.readouterr().err == ""
