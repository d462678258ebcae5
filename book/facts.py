"""Sphinx extension: facts about each chapter, computed from its notebook, never typed.

It does two things. The directive ``{build-status}`` draws two tables: the versions that the site
was built with and the chapters were executed with, and the chapters with their sizes and times.
And below the title of each chapter page goes one line: minutes to read, seconds to run, and a link
to the notebook.

What running a chapter cost is read from the notebook's metadata, where ``book.execute`` left it::

    nb["metadata"]["bn_core"] = {
        "execution_seconds": 41.2,
        "versions": {"python": "3.11.7", "torch": "2.13.0"},
        "threads": 1,
        "date": "2026-11-22",
    }
"""

from __future__ import annotations

import json
import math
import os
import platform
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import unescape
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform
from sphinx.util.docutils import SphinxDirective
from sphinx.util.typing import ExtensionMetadata

CHAPTERS = "chapters/"
WORDS_A_MINUTE = 200
CODE_LINES_A_MINUTE = 20
NOT_RECORDED = "not recorded"
NOT_USED = "not used"

# Distribution, and whether running a chapter uses it: the others only build the site.
SOFTWARE: tuple[tuple[str, bool], ...] = (
    ("bn-core", True),
    ("torch", True),
    ("numpy", True),
    ("pandas", True),
    ("matplotlib", True),
    ("mlxtend", True),
    ("jupyter-book", False),
    ("sphinx", False),
    ("myst-nb", False),
    ("myst-parser", False),
    ("sphinx-book-theme", False),
    ("pydata-sphinx-theme", False),
    ("sphinx-proof", False),
    ("sphinx-exercise", False),
    ("sphinxcontrib-bibtex", False),
    ("sphinx-mathjax-offline", False),
)

_FENCE = re.compile(r"^(?P<fence>`{3,}|~{3,}|:{3,})\s*(?P<info>.*)$")
_FIGURE = re.compile(r"^[`:~]{3,}\s*\{(?:figure|image)\}|!\[[^\]]*\]\(", re.M)
_EXERCISE = re.compile(r"^[`:~]{3,}\s*\{exercise(?:-start)?\}", re.M)
_WORD = re.compile(r"[^\W_][\w'\u2019.\-]*")
_MATH = re.compile(r"\$\$.+?\$\$|(?<![\\$])\$[^$\n]+\$", re.S)
_ROLE = re.compile(r"\{[\w:-]+\}(?=`)")
_ADDRESS = re.compile(r"\]\([^)]*\)")
_COMMENT = re.compile(r"<!--.*?-->|<style.*?</style>|<script.*?</script>", re.S)
_TAG = re.compile(r"<[^>]+>")
_PRE = re.compile(r"<pre[^>]*>(.*?)</pre>", re.S)
_HIDDEN = frozenset({"hide-cell", "hide-input", "remove-cell", "remove-input"})


@dataclass(frozen=True)
class ChapterFacts:
    """What the notebook of one chapter says about itself."""

    docname: str
    title: str
    words: int
    code_lines: int
    code_cells: int
    figures: int
    exercises: int
    seconds: float | None = None
    cores: int = 2
    date: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def minutes(self) -> int:
        """Minutes to read: prose at 200 words a minute, visible code at 20 lines a minute."""
        return max(
            1, math.ceil(self.words / WORDS_A_MINUTE + self.code_lines / CODE_LINES_A_MINUTE)
        )


def read_chapter(path: Path, docname: str) -> ChapterFacts:
    """Read the facts from the notebook at ``path``. Raises ValueError if it is not a notebook."""
    try:
        notebook = json.loads(path.read_text(encoding="utf-8"))
        cells = notebook["cells"]
    except (json.JSONDecodeError, KeyError) as error:
        raise ValueError(f"{docname}: not a notebook that can be read ({error})") from error
    markdown = [_text(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    outputs = [output for cell in code for output in cell.get("outputs", [])]
    drawn = sum(
        any(kind.startswith("image/") for kind in output.get("data", {})) for output in outputs
    )
    words, code_lines = _to_read(cells)
    record = notebook.get("metadata", {}).get("bn_core", {})
    seconds = record.get("execution_seconds")
    return ChapterFacts(
        docname=docname,
        title=_title(markdown) or docname,
        words=words,
        code_lines=code_lines,
        code_cells=len(code),
        figures=drawn + sum(len(_FIGURE.findall(text)) for text in markdown),
        exercises=sum(len(_EXERCISE.findall(text)) for text in markdown),
        seconds=None if seconds is None else float(seconds),
        cores=int(record.get("cores", 2)),
        date=record.get("date"),
        versions={str(name): str(number) for name, number in record.get("versions", {}).items()},
    )


def _text(source: str | list[str]) -> str:
    return source if isinstance(source, str) else "".join(source)


def _title(markdown: Iterable[str]) -> str | None:
    for text in markdown:
        if found := re.search(r"^#\s+(.+)$", text, re.M):
            return found.group(1).strip()
    return None


def _to_read(cells: Iterable[Mapping[str, Any]]) -> tuple[int, int]:
    """Words of prose and lines of code that a reader sees without unfolding anything."""
    words = lines = 0
    folded = False  # between {solution-start} and {solution-end}, which span cells
    for cell in cells:
        source = _text(cell["source"])
        tags = frozenset(cell.get("metadata", {}).get("tags", ()))
        if cell["cell_type"] == "markdown":
            if "{solution-start}" in source:
                folded = True
            if not folded:
                prose, code = _split(source)
                words, lines = words + _count_words(prose), lines + _count_lines(code)
            if "{solution-end}" in source:
                folded = False
        elif cell["cell_type"] == "code" and not folded:
            if not tags & _HIDDEN:
                lines += _count_lines(source)
            if tags & {"hide-cell", "remove-cell", "hide-output", "remove-output"}:
                continue
            for output in cell.get("outputs", []):
                data = output.get("data", {})
                if "text/markdown" in data:
                    prose, code = _split(_text(data["text/markdown"]))
                    words, lines = words + _count_words(prose), lines + _count_lines(code)
                elif "text/html" in data:
                    for listing in _PRE.findall(_text(data["text/html"])):
                        lines += _count_lines(unescape(_TAG.sub("", listing)))
    return words, lines


def _split(text: str) -> tuple[str, str]:
    """Separate prose from code; leave out solutions, mathematics blocks and directive options."""
    prose: list[str] = []
    code: list[str] = []
    open_fences: list[tuple[str, str]] = []  # (fence, kind), kind: prose, code or drop
    for line in text.splitlines():
        found = _FENCE.match(line.strip())
        if found:
            fence, info = found["fence"], found["info"].strip()
            if open_fences and not info and fence.startswith(open_fences[-1][0]):
                open_fences.pop()
                continue
            if not open_fences or open_fences[-1][1] == "prose":
                open_fences.append((fence, _kind(info)))
                continue
        kind = open_fences[-1][1] if open_fences else "prose"
        if kind == "code":
            code.append(line)
        elif kind == "prose" and not (open_fences and re.match(r"\s*:[\w-]+:", line)):
            prose.append(line)
    return "\n".join(prose), "\n".join(code)


def _kind(info: str) -> str:
    if not info.startswith("{"):
        return "code"
    name = info[1:].partition("}")[0]
    if name in {"code", "code-block", "code-cell", "literalinclude"}:
        return "code"
    if name.startswith("solution") or name in {"math", "image", "bibliography", "eval-rst"}:
        return "drop"
    return "prose"


def _count_words(prose: str) -> int:
    prose = _COMMENT.sub(" ", prose)
    prose = _MATH.sub(" formula ", prose)  # a formula is at least one word
    prose = _ADDRESS.sub("]", _ROLE.sub("", _TAG.sub(" ", prose)))
    return len(_WORD.findall(prose))


def _count_lines(code: str) -> int:
    return sum(bool(line.strip()) for line in code.splitlines())


def count(number: int, thing: str) -> str:
    """Say ``1 minute``, ``2 minutes``."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def say_cores(number: int) -> str:
    """Say ``one core``, ``two cores``."""
    words = {1: "one", 2: "two", 4: "four", 8: "eight"}
    return f"{words.get(number, number)} core{'' if number == 1 else 's'}"


def say_running_time(facts: ChapterFacts) -> str:
    """Say how long the chapter runs, in seconds below two minutes, else in minutes."""
    if facts.seconds is None:
        return f"running time {NOT_RECORDED}"
    if facts.seconds < 120:
        time = count(max(1, round(facts.seconds)), "second")
    else:
        time = count(round(facts.seconds / 60), "minute")
    return f"{time} to run on {say_cores(facts.cores)}"


def facts_line(facts: ChapterFacts) -> nodes.paragraph:
    """Make the line below a chapter's title."""
    notebook = facts.docname.rpartition("/")[2] + ".ipynb"
    download = addnodes.download_reference(
        "", "", nodes.Text("download this notebook"), reftarget=notebook, refdoc=facts.docname
    )
    line = nodes.paragraph(classes=["chapter-facts"])
    line += nodes.Text(f"{count(facts.minutes, 'minute')} to read · {say_running_time(facts)}")
    # Apart, since paper has no use for it.
    line += nodes.inline("", "", nodes.Text(" · "), download, classes=["on-screen"])
    return line


class ChapterFactsLine(SphinxTransform):
    """Insert the facts line below the title of each chapter."""

    # Before 880, at which Sphinx announces the page as read and collects its downloads.
    default_priority = 870

    def apply(self, **_: Any) -> None:
        """Change ``self.document`` in place, if it is a chapter."""
        docname = self.env.docname
        path = Path(self.env.doc2path(docname))
        if not docname.startswith(CHAPTERS) or path.suffix != ".ipynb":
            return
        self.env.note_dependency(__file__)
        for section in self.document.findall(nodes.section):
            section.insert(1, facts_line(read_chapter(path, docname)))
            return


class BuildStatus(SphinxDirective):
    """The directive ``{build-status}``: a table of versions and a table of chapters."""

    has_content: ClassVar[bool] = False

    def run(self) -> list[nodes.Node]:
        """Return the tables with their headings."""
        env = self.env
        env.note_reread()  # versions change without any file of the book changing
        env.note_dependency(__file__)
        chapters: list[ChapterFacts] = []
        for docname in sorted(env.found_docs):
            path = Path(env.doc2path(docname))
            if docname.startswith(CHAPTERS) and path.suffix == ".ipynb":
                env.note_dependency(str(path))
                chapters.append(read_chapter(path, docname))
        return [
            self._section("Chapters", _chapter_table(chapters)),
            self._section("Versions", _version_table(chapters)),
        ]

    def _section(self, title: str, *content: nodes.Node) -> nodes.section:
        section = nodes.section("", nodes.title("", title), *content)
        section["names"].append(nodes.fully_normalize_name(title))
        self.state.document.note_implicit_target(section, section)
        return section


def _chapter_table(chapters: Sequence[ChapterFacts]) -> nodes.Node:
    if not chapters:
        return nodes.paragraph("", "The book has no chapters yet.")
    header = (
        "Chapter",
        "Words",
        "Minutes to read",
        "Seconds to run",
        "Run on",
        "Code cells",
        "Figures",
        "Exercises",
    )
    rows: list[Sequence[str | nodes.Node]] = []
    for facts in chapters:
        seconds = NOT_RECORDED if facts.seconds is None else f"{facts.seconds:.0f}"
        rows.append(
            (
                _link(facts),
                f"{facts.words:,}",
                str(facts.minutes),
                seconds,
                facts.date or NOT_RECORDED,
                str(facts.code_cells),
                str(facts.figures),
                str(facts.exercises),
            )
        )
    return table("chapter-status", header, rows, widths=(40, 9, 9, 9, 12, 7, 7, 7))


def _link(facts: ChapterFacts) -> nodes.Node:
    link = addnodes.pending_xref(
        "",
        nodes.inline("", facts.title),
        refdomain="std",
        reftype="doc",
        reftarget="/" + facts.docname,
        refexplicit=True,
        refwarn=True,
    )
    return link


def _version_table(chapters: Sequence[ChapterFacts]) -> nodes.Node:
    machine = f"{platform.system()} {platform.machine()}, {count(os.cpu_count() or 1, 'core')}"
    rows: list[Sequence[str | nodes.Node]] = [
        ("Python", platform.python_version(), _executed_with("python", chapters)),
        ("Machine", machine, _executed_with("machine", chapters)),
    ]
    for name, used in SOFTWARE:
        rows.append((name, _installed(name), _executed_with(name, chapters) if used else NOT_USED))
    header = ("Software", "The site is built with", "The chapters were run with")
    return table("version-status", header, rows, widths=(30, 35, 35))


def _installed(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def _executed_with(name: str, chapters: Iterable[ChapterFacts]) -> str:
    """Say which versions of ``name`` the chapters recorded; several if they differ."""
    spellings = (name, name.replace("-", "_"))
    found = {
        facts.versions[spelling]
        for facts in chapters
        for spelling in spellings
        if spelling in facts.versions
    }
    return ", ".join(sorted(found)) or NOT_RECORDED


def table(
    name: str,
    header: Sequence[str],
    rows: Iterable[Sequence[str | nodes.Node]],
    widths: Sequence[int],
) -> nodes.table:
    """Make a table of one paragraph a cell; `name` becomes its class."""
    group = nodes.tgroup(cols=len(header))
    group += [nodes.colspec(colwidth=width) for width in widths]
    group += nodes.thead("", nodes.row("", *_entries(header)))
    group += nodes.tbody("", *(nodes.row("", *_entries(row)) for row in rows))
    return nodes.table("", group, classes=[name])


def _entries(cells: Iterable[str | nodes.Node]) -> Iterator[nodes.entry]:
    for cell in cells:
        content = nodes.Text(cell) if isinstance(cell, str) else cell
        yield nodes.entry("", nodes.paragraph("", "", content))


def setup(app: Sphinx) -> ExtensionMetadata:
    """Register the directive and the line with Sphinx."""
    app.add_directive("build-status", BuildStatus)
    app.add_transform(ChapterFactsLine)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
