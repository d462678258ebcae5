"""Executing a chapter and storing what it prints."""

import nbformat
import pytest

from book.execute import execute, main
from tests.chapters.hygiene import faults

FIGURE = """
class Drawing:
    def _repr_mimebundle_(self, **_):
        return {"image/png": "aGk=", "text/plain": "A line that rises."}
Drawing()
"""
IN_PIECES = """
import time
print("one", flush=True)
time.sleep(0.3)
print("two")
"""


def notebook(path, *sources):
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    return path


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    path = notebook(
        tmp_path_factory.mktemp("chapters") / "01_x.ipynb", "print(6 * 7)", FIGURE, IN_PIECES
    )
    execute(path)
    return nbformat.read(path, as_version=4)


def test_outputs_are_stored(executed):
    assert executed.cells[0].outputs[0].text == "42\n"
    assert [cell.execution_count for cell in executed.cells] == [1, 2, 3]


def test_what_a_cell_prints_is_one_output_however_it_arrives(executed):
    assert [output.text for output in executed.cells[2].outputs] == ["one\ntwo\n"]


def test_a_figures_description_becomes_its_alternative_text(executed):
    assert executed.cells[1].metadata.mystnb.image.alt == "A line that rises."


def test_run_time_and_versions_are_stored(executed):
    record = executed.metadata.bn_core
    assert record.execution_seconds > 0
    assert record.versions.torch.startswith("2.")


def test_time_stamps_are_not_stored(executed):
    assert all("execution" not in cell.metadata for cell in executed.cells)


def test_the_hygiene_check_finds_only_what_a_chapter_has_and_this_has_not(executed):
    assert faults(executed) == [
        "code cell 2 has a figure without a caption",
        "0 exercises; there must be at least 3",
    ]


def test_a_notebook_that_fails_stays_as_it_was(tmp_path, capsys):
    path = notebook(tmp_path / "01_x.ipynb", "1 / 0")
    before = path.read_bytes()
    assert main([str(path)]) == 1
    assert path.read_bytes() == before
    assert "ZeroDivisionError" in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["01_x.ipynb"]


def test_no_notebook_is_an_error(capsys):
    assert main([]) == 2
    assert "no notebook" in capsys.readouterr().err
