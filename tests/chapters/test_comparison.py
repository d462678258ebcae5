"""The comparison of notebooks bites: with the options of `make test`, a changed output fails."""

import subprocess

import nbformat
import pytest

from book.test_run import PARTS

COMMAND = [word for word in PARTS["notebooks"][-1] if word not in ("chapters", "-n", "2")]


def compared(tmp_path, source, output, tags=()):
    """The exit status of comparing one cell with what it is said to have printed."""
    cell = nbformat.v4.new_code_cell(source, execution_count=1)
    cell.metadata["tags"] = list(tags)
    cell.outputs = [output]
    path = tmp_path / "01_x.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), path)
    command = [*COMMAND, "-p", "no:cacheprovider", "-p", "no:xdist", path.name]
    command = [word for word in command if word not in ("--dist", "loadscope")]
    return subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode


def stdout(text):
    return nbformat.v4.new_output("stream", name="stdout", text=text)


def markdown(text):
    data = {"text/markdown": text, "text/plain": "<IPython.core.display.Markdown object>"}
    return nbformat.v4.new_output("execute_result", data=data, execution_count=1)


MARKDOWN = "from IPython.display import Markdown\nMarkdown(f'It is {6 * 7}.')"


@pytest.mark.parametrize(
    ("source", "output", "status"),
    [
        ("print(6 * 7)", stdout("42\n"), 0),
        ("print(6 * 7)", stdout("43\n"), 1),
        (MARKDOWN, markdown("It is 42."), 0),
        (MARKDOWN, markdown("It is 41."), 1),
        ("1 / 0", stdout("42\n"), 1),
    ],
    ids=["same text", "other text", "same prose", "other prose", "error"],
)
def test_an_output_that_changed_fails(tmp_path, source, output, status):
    assert compared(tmp_path, source, output) == status


def test_only_the_tag_lets_an_output_differ(tmp_path):
    tags = ["nbval-ignore-output"]
    assert compared(tmp_path, "print(6 * 7)", stdout("43\n"), tags) == 0
