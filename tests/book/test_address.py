"""Addresses come from the environment; what needs one is there with it and absent without it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import nbformat
import pytest
from docutils import nodes
from docutils.utils import new_document
from IPython.core.inputtransformer2 import TransformerManager

from book.address import Address, description, installing, requirement

ROOT = Path(__file__).resolve().parents[2]
BASE = "https://someone.github.io/book/"
REPOSITORY = "https://github.com/someone/book"


def test_without_variables_nothing_is_known() -> None:
    address = Address.given({})
    assert address == Address("", "")
    assert address.prefix == "/"


def test_addresses_are_written_in_one_way() -> None:
    given = {"BOOK_BASE_URL": BASE.rstrip("/"), "BOOK_REPOSITORY": REPOSITORY + ".git"}
    address = Address.given(given)
    assert address == Address(BASE, REPOSITORY)
    assert address.prefix == "/book/"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BOOK_BASE_URL", "someone.github.io/book"),
        ("BOOK_BASE_URL", "ftp://someone.org/"),
        ("BOOK_REPOSITORY", "someone/book"),
        ("BOOK_REPOSITORY", "https://example.org/someone/book"),
    ],
)
def test_what_is_no_address_is_refused(name: str, value: str) -> None:
    with pytest.raises(ValueError, match=rf"{name} is '{re.escape(value)}'; it must be"):
        Address.given({name: value})


def test_the_first_cell_installs_the_package_only_where_it_is_missing() -> None:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1 + 1")])
    changed = installing(notebook, REPOSITORY)
    nbformat.validate(changed)
    assert [cell.source for cell in changed.cells[1:]] == ["1 + 1"]
    assert len(notebook.cells) == 1
    code = TransformerManager().transform_cell(changed.cells[0].source)
    installed: list[str] = []

    class Shell:
        @staticmethod
        def run_line_magic(name: str, line: str, **_: object) -> None:
            installed.append(f"{name} {line}")

    run = compile(code, "cell", "exec")
    exec(run, {"get_ipython": Shell})
    assert installed == []  # it is here
    absent = code.replace('"bn_core"', '"a_package_that_is_not_here"')
    exec(compile(absent, "cell", "exec"), {"get_ipython": Shell})
    assert installed == [f'pip install --quiet "{requirement(REPOSITORY)}"']


def test_a_description_is_of_the_text_and_not_of_the_line_of_facts() -> None:
    document = new_document("page")
    document += nodes.paragraph("", "3 minutes to read", classes=["chapter-facts"])
    document += nodes.paragraph("", "A question,\nasked " + "again and " * 40)
    assert description(document).startswith("A question, asked again")
    assert len(description(document)) <= 200
    assert description(new_document("empty")) == ""


@pytest.fixture(scope="module", params=["known", "unknown"])
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small book, built with the addresses known or not."""
    folder = tmp_path_factory.mktemp(request.param)
    for name in ("_config.yml", "references.bib"):
        shutil.copy(ROOT / name, folder)
    for name in ("_static", "_templates", "book", "bn_core"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "chapters").mkdir()
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_markdown_cell("# One\n\nThe first chapter.")],
        metadata={"kernelspec": {"display_name": "Python 3", "name": "python3"}},
    )
    nbformat.write(notebook, folder / "chapters" / "one.ipynb")
    (folder / "intro.md").write_text("# A small book\n\nOne picture.\n\n![A curve](figure1.png)\n")
    shutil.copy(ROOT / "_static" / "figure1.png", folder)
    (folder / "_toc.yml").write_text(
        "format: jb-book\nroot: intro\nchapters:\n  - file: chapters/one\n"
    )
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("BOOK_")
    }
    if request.param == "known":
        environment |= {"BOOK_BASE_URL": BASE, "BOOK_REPOSITORY": REPOSITORY}
    program = Path(sys.executable).with_name("jupyter-book")
    command = [str(program), "build", str(folder), "-W", "-n", "--keep-going"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "_build" / "html"


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def test_what_needs_an_address_is_there_with_it_and_absent_without(built: Path) -> None:
    known = built.parents[1].name.startswith("known")
    intro, chapter = read(built / "intro.html"), read(built / "chapters" / "one.html")
    canonical = f'<link rel="canonical" href="{BASE}intro.html" />'
    assert (canonical in intro) == known
    assert (f'property="og:image" content="{BASE}_images/figure1.png"' in intro) == known
    assert ("https://colab.research.google.com" in chapter) == known
    assert ("https://mybinder.org" in chapter) == known
    assert (f"{REPOSITORY}/edit/main/chapters/one.ipynb" in chapter) == known
    assert (built / "sitemap.xml").is_file() == known
    for page in (intro, chapter):
        assert "repository_url" not in page
        assert 'href=""' not in page


def test_every_page_describes_itself(built: Path) -> None:
    chapter = read(built / "chapters" / "one.html")
    assert '<meta name="description" content="The first chapter." />' in chapter


def test_launched_and_downloaded_notebooks_install_the_package(built: Path) -> None:
    known = built.parents[1].name.startswith("known")
    copies = [*built.glob("_sources/chapters/*.ipynb"), *built.glob("_downloads/*/*.ipynb")]
    assert len(copies) == 2
    for copy in copies:
        cells = json.loads(read(copy))["cells"]
        assert (cells[0]["cell_type"] == "code") == known
    branch = built.parent / "notebooks"
    assert branch.exists() == known
    if known:
        assert "/blob/notebooks/chapters/one.ipynb" in read(built / "chapters" / "one.html")
        assert (branch / "chapters" / "one.ipynb").is_file()
        assert requirement(REPOSITORY) in read(branch / "requirements.txt")


def test_the_sitemap_lists_the_pages_that_are_read(built: Path) -> None:
    if not (sitemap := built / "sitemap.xml").exists():
        return
    locations = {element.text for element in ET.parse(sitemap).iter() if "loc" in element.tag}
    assert {BASE + "intro.html", BASE + "chapters/one.html"} <= locations
    assert not any("404" in str(location) for location in locations)


def test_the_page_for_what_does_not_exist_works_at_any_depth(built: Path) -> None:
    prefix = "/book/" if built.parents[1].name.startswith("known") else "/"
    page = read(built / "404.html")
    assert 'rel="canonical"' not in page
    for address in re.findall(r'(?:href|src)="([^"]+)"', page):
        assert address.startswith((prefix, "#", "https://", "data:")), address
        if address.startswith(prefix):
            path = built / re.split(r"[?#]", address.removeprefix(prefix))[0]
            assert path.is_file(), address
