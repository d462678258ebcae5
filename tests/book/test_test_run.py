"""The summary of `make test` counts what really happened."""

import sys

import pytest

from book import test_run as runner

PYTEST = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]


@pytest.fixture
def parts(tmp_path, monkeypatch):
    """A part of each kind: tests that pass, fail and are skipped; no test; commands."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # plugins take seconds to load
    (tmp_path / "test_some.py").write_text(
        "import pytest\n"
        "def test_good(): pass\n"
        "def test_bad(): assert False\n"
        "@pytest.mark.skip(reason='why')\n"
        "def test_later(): pass\n"
    )
    (tmp_path / "test_good.py").write_text("def test_good(): pass\n")
    (tmp_path / "test_broken.py").write_text("import does_not_exist\n")
    (tmp_path / "empty").mkdir()
    table = {
        "some": [[*PYTEST, str(tmp_path / "test_some.py")]],
        "good": [[*PYTEST, str(tmp_path / "test_good.py")]],
        "broken": [[*PYTEST, str(tmp_path / "test_broken.py")]],
        "none": [[*PYTEST, str(tmp_path / "empty")]],
        "command": [["true"]],
        "wrong": [["false"]],
    }
    monkeypatch.setattr(runner, "PARTS", table)


def last_line(capfd):
    return capfd.readouterr().out.strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("names", "summary", "status"),
    [
        (["good", "command"], "2 passed, 0 failed, 0 skipped", 0),
        (["some", "good"], "2 passed, 1 failed, 1 skipped", 1),
        (["wrong", "good"], "1 passed, 1 failed, 0 skipped", 1),
        (["broken", "good"], "1 passed, 1 failed, 0 skipped", 1),
        (["none"], "0 passed, 1 failed, 0 skipped", 1),
    ],
)
def test_every_part_runs_and_any_failure_fails(parts, capfd, names, summary, status):
    assert runner.main(names) == status
    assert last_line(capfd) == summary
