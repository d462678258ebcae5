"""Criteria precede records: the history of the repository shows it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bn_core.experiments import figure1, records, registry
from book.repeats import NAME, repeats

ROOT = Path(__file__).parents[2]
RECORDED = {each.experiment: each for each in records.summaries(ROOT / "results") if each.claims}
# What the criteria were, in the code of an earlier commit.
CRITERIA = """
import importlib, json, sys
module = importlib.import_module(f"bn_core.experiments.{sys.argv[1]}")
criteria = {claim.id: [claim.effect, claim.threshold] for claim in module.CLAIMS}
print(json.dumps([module.__file__, criteria]))
"""


def git(*arguments: str) -> bytes:
    return subprocess.run(
        ["git", "-C", str(ROOT), *arguments], check=True, capture_output=True
    ).stdout


def has_history() -> bool:
    try:
        return git("rev-parse", "--is-shallow-repository").strip() == b"false"
    except (OSError, subprocess.CalledProcessError):
        return False


needs_history = pytest.mark.skipif(
    not has_history(), reason="needs a git checkout with its history"
)


@needs_history
@pytest.mark.parametrize("name", RECORDED)
def test_the_criteria_were_committed_before_the_recorded_run(name: str, tmp_path: Path) -> None:
    revision = RECORDED[name].provenance["revision"].removesuffix("-dirty")
    assert git("merge-base", "--is-ancestor", revision, "HEAD") == b""
    package = git("archive", revision, "bn_core")
    subprocess.run(["tar", "-x", "-C", str(tmp_path)], input=package, check=True)
    command = [sys.executable, "-c", CRITERIA, name]
    printed = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True).stdout
    file, before = json.loads(printed)
    assert Path(file).is_relative_to(tmp_path)
    now = {claim.id: [claim.effect, claim.threshold] for claim in registry.get(name).CLAIMS}
    assert before == now


@needs_history
def test_earlier_recordings_of_figure_1_are_those_of_the_history() -> None:
    stored = records.load(ROOT / "results" / f"{NAME}.json", NAME)["repeats"]
    assert stored == repeats(ROOT)
    now = figure1.recorded(ROOT / "results")
    for repeat in stored:
        assert repeat["revision"] != now.provenance["revision"]
        assert {arm: len(values) for arm, values in repeat["final_accuracy"].items()} == {
            arm.name: len(now.seeds) for arm in now.arms
        }
