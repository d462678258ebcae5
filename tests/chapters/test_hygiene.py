"""Every notebook is executed, quiet, described and worked out; and the check of that bites."""

import copy
from pathlib import Path

import nbformat
import pytest

from tests.chapters.hygiene import faults

CHAPTERS = sorted(Path(__file__).parents[2].joinpath("chapters").glob("*.ipynb"))


@pytest.fixture(scope="module")
def sound():
    """A notebook with no fault, to break in one place at a time: a real chapter."""
    return nbformat.read(CHAPTERS[0], as_version=4)


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_chapter_has_no_fault(path):
    assert faults(nbformat.read(path, as_version=4)) == []


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def figure_cell(notebook):
    return next(
        cell
        for cell in code_cells(notebook)
        if any("image/png" in output.get("data", {}) for output in cell.outputs)
    )


def without_execution(notebook):
    code_cells(notebook)[2].execution_count = None


def executed_out_of_order(notebook):
    code_cells(notebook)[0].execution_count = 7


def with_stderr(notebook):
    code_cells(notebook)[0].outputs.append(
        nbformat.v4.new_output("stream", name="stderr", text="a progress bar")
    )


def with_error(notebook):
    code_cells(notebook)[0].outputs.append(
        nbformat.v4.new_output("error", ename="ValueError", evalue="", traceback=[])
    )


def without_alt_text(notebook):
    del figure_cell(notebook).metadata["mystnb"]["image"]


def with_alt_text_of_another_figure(notebook):
    figure_cell(notebook).metadata["mystnb"]["image"]["alt"] = "Something else."


def without_caption(notebook):
    figure_cell(notebook).metadata["mystnb"].pop("figure", None)


def without_a_solution(notebook):
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and "{solution" in cell.source:
            cell.source = "Left to the reader."
            return


def with_a_solution_that_did_not_run(notebook):
    cells = notebook.cells
    start = next(i for i, c in enumerate(cells) if "{solution-start}" in c.source)
    end = next(i for i, c in enumerate(cells) if "{solution-end}" in c.source)
    for cell in cells[start:end]:
        if cell.cell_type == "code":
            cell.outputs = []


def with_lax_comparison(notebook):
    for cell in code_cells(notebook):
        cell.metadata["tags"] = [*cell.metadata.get("tags", []), "nbval-ignore-output"]


def without_run_time(notebook):
    del notebook.metadata["bn_core"]


@pytest.mark.parametrize(
    ("damage", "word"),
    [
        (without_execution, "not executed"),
        (executed_out_of_order, "order"),
        (with_stderr, "stderr"),
        (with_error, "error"),
        (without_alt_text, "alternative text"),
        (with_alt_text_of_another_figure, "alternative text"),
        (without_caption, "caption"),
        (without_a_solution, "solution"),
        (with_a_solution_that_did_not_run, "solution"),
        (with_lax_comparison, "not compared"),
        (without_run_time, "run time"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_fault_is_seen(sound, damage, word):
    broken = copy.deepcopy(sound)
    damage(broken)
    assert any(word in fault for fault in faults(broken)), faults(broken)
