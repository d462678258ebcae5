"""What the pages say about the chapters is computed from the notebooks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from book.facts import ChapterFacts, read_chapter, say_running_time


def facts_of(tmp_path: Path, *cells: Any, **record: Any) -> ChapterFacts:
    path = tmp_path / "01_name.ipynb"
    metadata = {"bn_core": record} if record else {}
    nbformat.write(new_notebook(cells=list(cells), metadata=metadata), path)
    return read_chapter(path, "chapters/01_name")


def test_prose_is_counted_in_words(tmp_path: Path) -> None:
    facts = facts_of(tmp_path, new_markdown_cell("# 1. A title\n\nFour words of prose."))
    assert facts.title == "1. A title"
    assert facts.words == 7


def test_a_formula_counts_as_a_word_and_an_address_does_not(tmp_path: Path) -> None:
    cell = new_markdown_cell("See [the page](https://example.org/a/b) for $x = Wu + b$.")
    assert facts_of(tmp_path, cell).words == 5


def test_computed_prose_is_counted(tmp_path: Path) -> None:
    output = new_output("display_data", data={"text/markdown": "Three computed words."})
    cell = new_code_cell("say()", outputs=[output])
    assert facts_of(tmp_path, cell).words == 3


def test_reading_takes_a_minute_for_200_words_or_20_lines_rounded_up(tmp_path: Path) -> None:
    prose = new_markdown_cell("word " * 200)
    code = new_code_cell("\n".join(["x = 1"] * 20))
    assert facts_of(tmp_path, prose).minutes == 1
    assert facts_of(tmp_path, prose, code).minutes == 2
    assert facts_of(tmp_path, prose, code, new_markdown_cell("word")).minutes == 3


def test_hidden_code_and_folded_solutions_take_no_time(tmp_path: Path) -> None:
    facts = facts_of(
        tmp_path,
        new_code_cell("x = 1", metadata={"tags": ["hide-input"]}),
        new_markdown_cell("```{solution-start} one\n:class: dropdown\n```"),
        new_markdown_cell("Folded."),
        new_code_cell("y = 2"),
        new_markdown_cell("```{solution-end}\n```"),
        new_markdown_cell("```{solution} two\n:class: dropdown\nFolded too.\n```"),
    )
    assert (facts.words, facts.code_lines, facts.code_cells) == (0, 0, 2)


def test_figures_and_exercises_are_counted(tmp_path: Path) -> None:
    image = new_output("display_data", data={"image/png": "AAAA", "text/plain": "<Figure>"})
    facts = facts_of(
        tmp_path,
        new_code_cell("plot()", outputs=[image]),
        new_markdown_cell("```{figure} a.png\n:alt: A\n```"),
        new_markdown_cell("```{exercise}\n:label: a\nDo.\n```\n\n```{exercise-start}\n```"),
    )
    assert facts.figures == 2
    assert facts.exercises == 2


def test_what_running_left_in_the_metadata_is_read(tmp_path: Path) -> None:
    facts = facts_of(
        tmp_path, execution_seconds=41.2, versions={"torch": "2.13.0"}, date="2026-11-22"
    )
    assert facts.seconds == 41.2
    assert facts.versions == {"torch": "2.13.0"}
    assert say_running_time(facts) == "41 seconds to run on two cores"


def test_a_chapter_that_was_never_run_says_so(tmp_path: Path) -> None:
    facts = facts_of(tmp_path, new_markdown_cell("# 1. A title"))
    assert facts.seconds is None
    assert say_running_time(facts) == "running time not recorded"


def test_a_long_run_is_told_in_minutes(tmp_path: Path) -> None:
    assert say_running_time(facts_of(tmp_path, execution_seconds=200)) == (
        "3 minutes to run on two cores"
    )


def test_a_file_that_is_no_notebook_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.ipynb"
    path.write_text("{}")
    with pytest.raises(ValueError, match=r"chapters/a: not a notebook"):
        read_chapter(path, "chapters/a")
