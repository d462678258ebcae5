"""Where Figure 1's runs ended in earlier recordings: `python -m book.repeats` writes it.

The same seeds, trained again after a change that should have changed nothing but the rounding of
sums, end elsewhere; chapter 9 says how far. The earlier recordings are in the repository's history,
which readers of the book do not have.
"""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bn_core.experiments import figure1, records

NAME = "figure1_repeats"
RESULT = Path("results", f"{NAME}.json")
RECORD = f"results/{figure1.NAME}.json"


def repeats(root: Path) -> list[dict[str, Any]]:
    """The recordings before the present one, the first of them first.

    Args:
        root: a checkout of the book with its history.

    Raises:
        subprocess.CalledProcessError: it is no checkout.
    """
    commits = _git(root, "log", "--reverse", "--format=%H", "--", RECORD).split()
    versions = [json.loads(_git(root, "show", f"{commit}:{RECORD}")) for commit in commits]
    # A record may be committed again, with the same runs and another wording.
    runs = {version["provenance"]["revision"]: version for version in versions}
    runs.pop(versions[-1]["provenance"]["revision"])
    return [_repeat(version) for version in runs.values()]


def _repeat(record: Mapping[str, Any]) -> dict[str, Any]:
    made = record["provenance"]
    return {
        "date": made["date"],
        "revision": made["revision"],
        "capability": made["processor"]["capability"],
        "final_accuracy": {
            arm["name"]: [
                _final_accuracy(run) for run in record["runs"] if run["arm"] == arm["name"]
            ]
            for arm in record["arms"]
        },
    }


def _final_accuracy(run: Mapping[str, Any]) -> float:
    """As `bn_core.experiments.figure1.Run` has it, of a run of before that class."""
    pairs = zip(run["steps"], run["accuracy"], strict=True)
    return float(np.mean([accuracy for step, accuracy in pairs if step > 0.9 * run["steps"][-1]]))


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def main() -> int:
    """Write the table; return the exit code."""
    what = "test accuracy over the last tenth of training, by arm, one for each seed"
    table = {"experiment": NAME, "what": what, "repeats": repeats(Path())}
    records.save(RESULT, table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
