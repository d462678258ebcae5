"""A downloaded notebook runs where the package is installed, with nothing else of the book."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[2]
CHAPTER = "01_covariate_shift"
PACKAGED = ("bn_core", "results", "pyproject.toml", "README.md", "LICENSE", "LICENSE-TEXT")


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A folder into which pip has installed the package, from a copy of its files alone."""
    source, folder = tmp_path / "source", tmp_path / "installed"
    for name in PACKAGED:
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, source / name, ignore=ignored)
        else:
            shutil.copy(ROOT / name, source / name)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    subprocess.run(
        [*pip, "--no-deps", "--target", str(folder), str(source)],
        check=True,
        env={**os.environ, "PIP_ROOT_USER_ACTION": "ignore"},
    )
    return folder


def test_a_downloaded_chapter_runs_where_the_package_is_installed(
    site: Path, installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [download] = site.glob(f"_downloads/*/{CHAPTER}.ipynb")
    notebook = nbformat.read(download, as_version=4)
    where = nbformat.v4.new_code_cell("import bn_core; print(bn_core.__file__)")
    notebook.cells.insert(0, where)
    monkeypatch.setenv("PYTHONPATH", str(installed))  # in front of the one that is being tested
    elsewhere = tmp_path / "downloads"
    elsewhere.mkdir()
    resources = {"metadata": {"path": str(elsewhere)}}
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources=resources).execute()
    assert str(installed) in notebook.cells[0].outputs[0].text
    assert any("paper scale" in str(cell.get("outputs")) for cell in notebook.cells)
