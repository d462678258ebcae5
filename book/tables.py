"""Sphinx extension: what the API reference shows is computed, never typed.

The directive ``{speed}`` draws results/bench.json; ``{refusals}`` gives the package each bad input
of ``book.refusals`` and writes down what it says; ``{instruments}`` runs ``book.instruments`` and
shows its source and its pictures. The scoreboard's tables are Markdown, with headings, citations
and links, and are put into its page before that is read.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Sequence
from contextlib import chdir
from pathlib import Path
from typing import Any, ClassVar

import torch
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective
from sphinx.util.typing import ExtensionMetadata

from bn_core.experiments import records, report
from bn_core.lab.plots import PIXELS
from book import bench, instruments, refusals
from book.facts import table


class Speed(SphinxDirective):
    """The directive ``{speed}``."""

    has_content: ClassVar[bool] = False

    def run(self) -> list[nodes.Node]:
        """Return the table and what it was measured with."""
        path = Path(self.env.srcdir) / bench.RESULT
        for used in (path, __file__, bench.__file__):
            self.env.note_dependency(str(used))
        record = records.load(path, "bench")
        rows: list[Sequence[str]] = [
            (
                " × ".join(str(size) for size in row["shape"]),
                f"{row['microseconds']['torch']:,.0f}",
                *(f"{row['ratio_to_torch'][column]:.2f}" for column in bench.COLUMNS),
            )
            for row in record["rows"]
        ]
        header = ("Shape", "torch, µs", *bench.COLUMNS)
        said = (
            f"Measured on {record['date']}, {record['processor']['machine']}, "
            f"{record['threads']} thread{'' if record['threads'] == 1 else 's'}, torch "
            f"{record['versions']['torch']}, revision {record['revision']}."
        )
        drawn = table("speed-table", header, rows, (22, 12, *[13] * len(bench.COLUMNS)))
        recorder = record["recorder"]
        overhead = (
            f"A {recorder['what']}, takes {100 * recorder['overhead']:.0f} % longer than one "
            "without a recorder."
        )
        return [
            drawn,
            _training_table(record),
            nodes.paragraph("", overhead),
            nodes.paragraph("", said),
        ]


def _training_table(record: dict[str, Any]) -> nodes.table:
    rows: list[Sequence[str]] = [
        (
            row["what"],
            f"{row['milliseconds']['plain loop']:.2f} ms",
            f"{row['milliseconds']['stack']:.2f} ms",
            f"{row['plain_loop_over_ours']:.1f}",
            f"{row['ours_over_bare_products']:.1f}",
        )
        for row in record["training"]
    ]
    epoch = record["epoch"]
    rows.append(
        (
            epoch["what"],
            f"{epoch['seconds']['plain loop']:.2f} s",
            f"{epoch['seconds']['ours']:.2f} s",
            f"{epoch['plain_loop_over_ours']:.1f}",
            f"{epoch['ours_over_bare_products']:.1f}",
        )
    )
    header = ("Training", "Plain loop", "Ours", "Plain loop / ours", "Ours / bare products")
    return table("training-speed-table", header, rows, (40, 15, 15, 15, 15))


class Instruments(SphinxDirective):
    """The directive ``{instruments}``."""

    has_content: ClassVar[bool] = False

    def run(self) -> list[nodes.Node]:
        """Return the example's source and what it draws."""
        self.env.note_dependency(instruments.__file__)
        self.env.note_reread()  # the pictures change with the package's code
        shown = (
            instruments.convolutional_network,
            instruments.train_and_watch,
            instruments.draw,
        )
        source = "\n\n".join(inspect.getsource(function) for function in shown)
        found: list[nodes.Node] = [nodes.literal_block(source, source, language="python")]
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            drawings = instruments.draw(instruments.train_and_watch())
        finally:
            torch.set_num_threads(threads)
        # In the build folder, from where Sphinx takes it like any picture of the book.
        folder = Path(self.env.app.outdir).parent / "instruments"
        folder.mkdir(parents=True, exist_ok=True)
        for number, drawing in enumerate(drawings):
            picture = folder / f"instruments-{number}.png"
            picture.write_bytes(drawing.png())
            found.append(
                nodes.image(
                    uri="/" + Path(os.path.relpath(picture, self.env.srcdir)).as_posix(),
                    alt=drawing.description,
                    width=f"{PIXELS}px",
                    classes=["figure-plot"],
                )
            )
        return found


def _said(message: str) -> nodes.paragraph:
    """A message letter by letter: quotes stay as they are, names in backticks are code."""
    said = nodes.paragraph(support_smartquotes=False)
    for place, piece in enumerate(message.split("`")):
        said += nodes.literal("", piece) if place % 2 else nodes.Text(piece)
    return said


class Refusals(SphinxDirective):
    """The directive ``{refusals}``."""

    has_content: ClassVar[bool] = False

    def run(self) -> list[nodes.Node]:
        """Return a list of calls and what each raises: a table would not fit on a phone."""
        self.env.note_reread()  # messages change with the package's code
        items = (
            nodes.definition_list_item(
                "",
                nodes.term("", "", nodes.literal("", row.code)),
                nodes.definition("", _said(f"{row.error.__name__}: {refusals.meet(row)}")),
            )
            for _, group in refusals.every()
            for row in group
        )
        return [nodes.definition_list("", *items, classes=["refusals"])]


def _fill_scoreboard(app: Sphinx, page: str, source: list[str]) -> None:
    """Put the tables made of results/ where the page of the scoreboard asks for them."""
    if page != "scoreboard":
        return
    for make in (report.tally, report.shortfalls, report.scoreboard):
        marker = f"<!-- {make.__name__} -->"
        count = source[0].count(marker)
        if count != 1:
            raise ExtensionError(f"scoreboard.md: {marker} is there {count} times; put it once")
        with chdir(app.srcdir):  # links are written as seen from the page
            source[0] = source[0].replace(marker, make(Path("results")).data)


def setup(app: Sphinx) -> ExtensionMetadata:
    """Register the directives with Sphinx."""
    app.add_directive("speed", Speed)
    app.add_directive("refusals", Refusals)
    app.add_directive("instruments", Instruments)
    app.connect("source-read", _fill_scoreboard)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
