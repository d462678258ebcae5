"""Run the parts of the tests one after the other, all of them, and sum up: `make test`.

A part that fails does not stop the others. The last line counts tests over all parts; lint, types
and the strict build count as one test each.
"""

import os
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

PYTEST = [sys.executable, "-m", "pytest", "-q"]
WORKFLOWS = [str(path) for path in sorted(Path(".github/workflows").glob("*.yml"))]
IN_PARALLEL = ["-n", "2", "--dist", "loadscope"]
BY_PAGE = ["-n", "2", "--dist", "loadgroup"]  # see tests/site/conftest.py

PARTS: dict[str, list[list[str]]] = {
    "lint": [
        [sys.executable, "-m", "ruff", "format", "--check", "."],
        [sys.executable, "-m", "ruff", "check", "."],
        [str(Path(sys.executable).with_name("actionlint")), *WORKFLOWS],
    ],
    "types": [[sys.executable, "-m", "mypy"]],
    "unit": [[*PYTEST, *IN_PARALLEL, "tests", "--ignore=tests/site", "--ignore=tests/chapters"]],
    "notebooks": [
        [*PYTEST, *IN_PARALLEL, "tests/chapters"],
        [*PYTEST, *IN_PARALLEL, "--nbval", "--nbval-current-env", "--nbval-cell-timeout=600",
         "-W", "default", "chapters"]
    ],
    "build": [["make", "--no-print-directory", "book"]],
    "site": [[*PYTEST, *BY_PAGE, "tests/site"]],
}  # fmt: skip


@dataclass
class Outcome:
    """What one part came to."""

    part: str
    passed: int
    failed: int
    skipped: int
    seconds: float


def run(part: str) -> Outcome:
    """Run one part, its output on this terminal.

    Args:
        part: a key of `PARTS`.
    """
    print(f"\n=== {part}", flush=True)
    started = time.perf_counter()
    passed = failed = skipped = 0
    for command in PARTS[part]:
        if "pytest" not in command:
            ok = subprocess.run(command, check=False).returncode == 0
            passed, failed = passed + ok, failed + (not ok)
            continue
        with tempfile.TemporaryDirectory() as folder:
            report = Path(folder, "report.xml")
            code = subprocess.run([*command, f"--junit-xml={report}"], check=False).returncode
            counts = count(report) if report.exists() else (0, 0, 0)
        # Whatever pytest failed on, be it before the first test, is a failure.
        bad = counts[1] or int(code != 0)
        passed, failed, skipped = passed + counts[0], failed + bad, skipped + counts[2]
    return Outcome(part, passed, failed, skipped, time.perf_counter() - started)


def count(report: Path) -> tuple[int, int, int]:
    """Tests passed, failed (errors included) and skipped in a JUnit report."""
    passed = failed = skipped = 0
    for suite in ET.parse(report).getroot().iter("testsuite"):
        bad = int(suite.get("failures", 0)) + int(suite.get("errors", 0))
        left_out = int(suite.get("skipped", 0))
        failed += bad
        skipped += left_out
        passed += int(suite.get("tests", 0)) - bad - left_out
    return passed, failed, skipped


def main(parts: list[str]) -> int:
    """Run the parts and print the summary; returns 1 if anything failed."""
    os.environ.setdefault("PYTHONDONTWRITEBYTECODE", "1")
    outcomes = [run(part) for part in parts]
    print(f"\n{'part':<12}{'passed':>8}{'failed':>8}{'skipped':>9}{'seconds':>9}")
    for o in outcomes:
        print(f"{o.part:<12}{o.passed:>8}{o.failed:>8}{o.skipped:>9}{o.seconds:>9.0f}")
    passed, failed, skipped = (
        sum(getattr(o, name) for o in outcomes) for name in ("passed", "failed", "skipped")
    )
    print(f"\n{passed} passed, {failed} failed, {skipped} skipped", flush=True)
    return int(failed > 0 or passed == 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
