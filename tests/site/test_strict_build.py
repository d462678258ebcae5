"""The strict build fails where a plain one would only warn."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_a_broken_cross_reference_fails_the_build(tmp_path: Path) -> None:
    for name in ("_config.yml", "references.bib"):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("_static", "_templates", "book"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "_toc.yml").write_text("format: jb-book\nroot: intro\nchapters:\n  - file: two\n")
    (tmp_path / "intro.md").write_text("# One\n\nSee [the other](two.md).\n")
    (tmp_path / "two.md").write_text("# Two\n\nSee {ref}`a-label-that-is-not-there`.\n")
    program = Path(sys.executable).with_name("jupyter-book")
    command = [str(program), "build", str(tmp_path)]
    built = subprocess.run(
        [*command, "-W", "-n", "--keep-going"], capture_output=True, text=True, check=False
    )
    output = built.stdout + built.stderr
    assert built.returncode != 0
    assert "a-label-that-is-not-there" in output
    assert "1 warning." in output  # and nothing else was wrong
