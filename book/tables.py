"""Sphinx extension: tables of the API reference that are computed, never typed.

The directive ``{speed}`` draws results/bench.json; ``{refusals}`` gives the package each bad input
of ``book.refusals`` and writes down what it says.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.typing import ExtensionMetadata

from bn_core.experiments import records
from book import bench, refusals
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
        return [drawn, nodes.paragraph("", said)]


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
                nodes.definition(
                    "", nodes.paragraph("", f"{row.error.__name__}: {refusals.meet(row)}")
                ),
            )
            for _, group in refusals.every()
            for row in group
        )
        return [nodes.definition_list("", *items, classes=["refusals"])]


def setup(app: Sphinx) -> ExtensionMetadata:
    """Register the directives with Sphinx."""
    app.add_directive("speed", Speed)
    app.add_directive("refusals", Refusals)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
