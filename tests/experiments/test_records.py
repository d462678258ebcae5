"""Records: whole or not there, of the right experiment, and what their schema asks for."""

import json
import math
import re
import subprocess
from pathlib import Path

import pytest

from bn_core.experiments import records, registry, schema
from bn_core.experiments.claims import Verdict, judge
from bn_core.experiments.records import RecordError

RESULTS = Path(__file__).parents[2] / "results"
RECORDED = sorted(RESULTS.glob("*.json"))


@pytest.fixture
def path(tmp_path, toss):
    """The record of two tosses, 2 and 3."""
    path = tmp_path / "deep" / "toss.json"
    records.save(path, records.record(toss.NAME, toss.result(2.0, 3.0)))
    return path


def edit(path, **changes):
    """Write the record with other values, past `save`; None takes a key out."""
    record = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({k: v for k, v in record.items() if v is not None}))


def test_what_is_saved_is_what_is_loaded(path, toss):
    assert toss.recorded(path.parent) == toss.result(2.0, 3.0)
    assert [file.name for file in path.parent.iterdir()] == ["toss.json"]


def test_a_record_has_a_line_for_every_run_and_claim(path):
    lines = path.read_text().splitlines()
    assert sum(line.startswith('{"seed"') for line in lines) == 2
    assert sum(line.startswith('{"id"') for line in lines) == 1


def test_a_float_that_is_no_number_is_null_in_the_file_and_nan_when_loaded(tmp_path, toss):
    path = tmp_path / "toss.json"
    records.save(path, records.record(toss.NAME, toss.result(math.nan, math.inf)))
    runs = json.loads(path.read_text())["runs"]
    assert [run["value"] for run in runs] == [None, "Infinity"]
    nan, infinite = (run.value for run in toss.recorded(tmp_path).runs)
    assert math.isnan(nan)
    assert infinite == math.inf


def test_a_record_tells_its_claims_as_they_were_judged(path, toss):
    (claim,) = records.summary(path).claims
    assert claim == judge(toss.CLAIMS[0], toss.result(2.0, 3.0), (0, 1))
    assert claim.verdict == Verdict.HOLDS


def test_a_failed_save_leaves_the_old_record_and_nothing_beside_it(path, toss, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", full)
    with pytest.raises(OSError, match="No space"):
        records.save(path, records.record(toss.NAME, toss.result(5.0)))
    assert toss.recorded(path.parent) == toss.result(2.0, 3.0)
    assert [file.name for file in path.parent.iterdir()] == ["toss.json"]


def test_what_is_against_the_schema_is_not_written(path, toss):
    before = path.read_text()
    wrong = records.record(toss.NAME, toss.result(1.0, "two"))
    with pytest.raises(RecordError, match=r"save: .*toss\.json: runs\[1\]\.value: 'two'"):
        records.save(path, wrong)
    assert path.read_text() == before


def test_a_claim_that_cannot_be_judged_is_named(path, toss):
    record = records.record(toss.NAME, toss.result(1.0, 2.0))
    record["runs"] = record["runs"][:1]
    with pytest.raises(RecordError, match=r"toss\.heads cannot be judged"):
        records.save(path, record)


def test_a_record_of_no_experiment_is_not_written(tmp_path):
    with pytest.raises(ValueError, match=r"no experiment 'other'; there is .*figure1"):
        records.save(tmp_path / "other.json", {"experiment": "other"})


def test_a_missing_record_says_how_to_make_it(tmp_path):
    with pytest.raises(FileNotFoundError, match="run figure1 --scale paper"):
        records.load(tmp_path / "figure1.json", "figure1")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "is not JSON"),
        ('{"a": NaN}', "NaN is not a JSON number"),
        ("[]", "is not a record; a record is"),
        ('{"schema": 2}', "is not a record; a record is"),
        ('{"schema": 2, "experiment": "other"}', "experiment 'other'; expected 'figure1'"),
        ('{"schema": 0, "experiment": "figure1"}', "schema 0 of .* reads 1 and 2"),
        ('{"schema": 3, "experiment": "figure1"}', "schema 3 of .* the version of bn-core that"),
        ('{"schema": 2, "experiment": "figure1"}', "is a required property"),
    ],
)
def test_another_file_is_refused(tmp_path, text, words):
    path = tmp_path / "figure1.json"
    path.write_text(text)
    with pytest.raises(RecordError, match=words):
        records.load(path, "figure1")


def test_a_file_that_is_not_text_is_refused(tmp_path):
    path = tmp_path / "figure1.json"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecordError, match="is not JSON"):
        records.load(path, "figure1")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"seeds": []}, r"seeds: \[\] should be non-empty"),
        ({"seeds": [0, 0]}, r"seeds: \[0, 0\] has non-unique elements"),
        ({"scale": "huge"}, "scale: 'huge' is not one of"),
        ({"claims": None}, "the record: 'claims' is a required property"),
        ({"provenance": {}}, "provenance: 'date' is a required property"),
        ({"seeds": [0, 1, 2]}, r"claims\[0\]\.effects: of seeds \[0, 1\]; .* are \[0, 1, 2\]"),
    ],
)
def test_what_is_against_the_schema_is_not_loaded(path, changes, words):
    edit(path, **changes)
    with pytest.raises(RecordError, match=rf"load: .*toss\.json: {words}"):
        records.load(path, "toss")


def test_a_verdict_that_does_not_follow_from_the_effects_is_refused(path):
    (claim,) = json.loads(path.read_text())["claims"]
    edit(path, claims=[{**claim, "verdict": "mixed"}])
    with pytest.raises(RecordError, match=r"verdict: 'mixed', but .* give 'holds'"):
        records.load(path, "toss")


def test_a_claim_that_is_there_twice_is_refused(path):
    claims = json.loads(path.read_text())["claims"]
    edit(path, claims=claims * 2)
    with pytest.raises(RecordError, match=r"claims\[1\]\.id: 'toss.heads' is there twice"):
        records.load(path, "toss")


def test_a_record_of_schema_1_is_loaded_with_the_claims_of_today(path):
    new = records.load(path, "toss")
    edit(path, schema=1, title=None, claims=None)
    assert records.load(path, "toss") == new
    assert records.summary(path).claims[0].verdict == Verdict.HOLDS


def test_rejudging_puts_a_reworded_claim_in_and_leaves_the_rest(path):
    (claim,) = json.loads(path.read_text())["claims"]
    new = path.read_text()
    edit(path, claims=[{**claim, "statement": "Tails."}])
    records.rejudge(path)
    assert path.read_text() == new
    edit(path, schema=1, title=None, claims=None)
    records.rejudge(path)
    assert path.read_text() == new


def test_a_summary_needs_no_code_of_the_experiment(path, monkeypatch):
    summary = records.summary(path)
    monkeypatch.setattr(registry, "NAMES", ())
    edit(path, runs="of another kind")
    assert records.summary(path) == summary


def test_a_record_of_schema_1_has_no_summary_without_its_experiment(path, monkeypatch):
    edit(path, schema=1, title=None, claims=None)
    monkeypatch.setattr(registry, "NAMES", ("figure1",))
    with pytest.raises(RecordError, match="there is no experiment 'toss'"):
        records.summary(path)


def test_a_table_of_times_has_no_summary():
    with pytest.raises(RecordError, match="is a table of times; it has no claims"):
        records.summary(RESULTS / "bench.json")


# What is in results/


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_every_file_of_results_satisfies_its_schema(path):
    loaded = records.load(path, path.stem)
    assert schema.fault(loaded, schema.document(path.stem)) is None


@pytest.mark.parametrize("summary", records.summaries(RESULTS), ids=lambda each: each.experiment)
def test_every_record_has_the_claims_that_follow_from_its_runs_today(summary):
    experiment = registry.get(summary.experiment)
    result = experiment.recorded(RESULTS)
    assert summary.title == experiment.TITLE
    assert [claim.id for claim in summary.claims] == [claim.id for claim in experiment.CLAIMS]
    for stored, claim in zip(summary.claims, experiment.CLAIMS, strict=True):
        now = judge(claim, result, result.seeds)
        # Where wording or criterion differ, `records.rejudge` brings the record up to date.
        for word in ("statement", "source", "criterion", "unit", "threshold", "verdict"):
            assert getattr(stored, word) == getattr(now, word), claim.id
        assert [effect.seed for effect in stored.effects] == [effect.seed for effect in now.effects]
        assert [effect.bound for effect in stored.effects] == [e.bound for e in now.effects]
        assert [effect.value for effect in stored.effects] == pytest.approx(
            [effect.value for effect in now.effects], rel=1e-9, nan_ok=True
        )


@pytest.mark.parametrize("name", registry.NAMES)
def test_a_result_read_from_results_is_what_stands_there(name):
    stored = json.loads((RESULTS / f"{name}.json").read_text())
    read = records.record(name, registry.get(name).recorded(RESULTS))
    for key, value in read.items():
        assert json.loads(json.dumps(value)) == stored.get(key), key
    assert set(stored) - set(read) == {"schema", "title", "claims"}


def test_simulated_data_are_identified_by_the_rule_they_are_drawn_by():
    with records.provenance(records.Simulated("coins", "heads with probability 0.5")) as made:
        pass
    with records.provenance(records.Simulated("coins", "heads with probability 0.6")) as other:
        pass
    assert made["data"]["name"] == other["data"]["name"] == "coins"
    assert made["data"]["sha256"] != other["data"]["sha256"]
    assert schema.fault(made, schema.COMMON["properties"]["provenance"]) is None


@pytest.fixture
def package(tmp_path):
    """A package in a git repository of its own, committed."""
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("one = 1")
    (tmp_path / "results.json").write_text("{}")
    git = ["git", "-C", str(tmp_path), "-c", "user.name=n", "-c", "user.email=e"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "first"]):
        subprocess.run([*git, *command], check=True)
    return package


def test_the_revision_is_dirty_if_the_package_changed_and_not_if_a_record_did(package):
    committed = records.revision(package)
    assert re.fullmatch("[0-9a-f]{12}", committed)
    (package.parent / "results.json").write_text("{1}")
    assert records.revision(package) == committed
    (package / "__init__.py").write_text("one = 2")
    assert records.revision(package) == f"{committed}-dirty"


def test_a_package_that_only_lies_inside_a_repository_has_its_version_as_revision(package):
    installed = package.parent / "lib" / "package"
    installed.mkdir(parents=True)
    (installed / "__init__.py").write_text("")
    assert records.revision(installed).startswith("bn-core ")
