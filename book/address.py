"""Sphinx extension: what depends on where the book is published and where its source is.

Neither address is written in the repository. Both are given when the site is built, as the
workflow that publishes it does:

- ``BOOK_BASE_URL``, such as ``https://someone.github.io/book/``: pages then name their canonical
  address and a picture for previews of links, and there is a sitemap.
- ``BOOK_REPOSITORY``, such as ``https://github.com/someone/book``: pages then offer to suggest an
  edit, and to open the chapter in Colab or on Binder, from the branch ``notebooks`` of that
  repository. It holds `_build/notebooks`: each chapter with a first cell that installs the package
  where it is missing. The notebooks that the site offers to download have that cell too.

Without them there is none of this, for a button that leads nowhere is worse than none. A page for
addresses that do not exist is always there.
"""

from __future__ import annotations

import copy
import html
import os
import re
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import nbformat
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.util.typing import ExtensionMetadata

NOTEBOOKS_BRANCH = "notebooks"
EXTRAS = "lab"
NOT_FOUND = (
    "<h1>This page does not exist</h1>"
    "<p>The address may be mistyped, or the page may have another name by now. The contents are "
    "in the menu; the <a href='{prefix}intro.html'>first page</a> lists the chapters, and the "
    "<a href='{prefix}search.html'>search</a> finds words, symbols and functions.</p>"
)
_REPOSITORY = re.compile(r"https://github\.com/[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class Address:
    """Where the book is read and where its source is; empty where that is not known."""

    base: str = ""
    repository: str = ""

    @property
    def prefix(self) -> str:
        """The path of the first page's folder on its server, with slashes at both ends."""
        return urlsplit(self.base).path or "/"

    @classmethod
    def given(cls, environment: Mapping[str, str]) -> Address:
        """Read both from environment variables.

        Raises:
            ValueError: one of them is no address of its kind.
        """
        base = environment.get("BOOK_BASE_URL", "").strip()
        repository = environment.get("BOOK_REPOSITORY", "").strip().removesuffix(".git").rstrip("/")
        if base:
            parts = urlsplit(base)
            if parts.scheme not in {"http", "https"} or not parts.netloc or parts.query:
                raise ValueError(
                    f"BOOK_BASE_URL is {base!r}; it must be the address of the first page's "
                    "folder, such as https://someone.github.io/book/"
                )
            base = base.rstrip("/") + "/"
        if repository and not _REPOSITORY.fullmatch(repository):
            raise ValueError(
                f"BOOK_REPOSITORY is {repository!r}; it must be a repository on GitHub, such as "
                "https://github.com/someone/book"
            )
        return cls(base, repository)


def requirement(repository: str) -> str:
    """What pip installs the package from."""
    return f"bn-core[{EXTRAS}] @ git+{repository}"


def installing(notebook: Any, repository: str) -> Any:
    """The notebook with a first cell that installs the package where it is missing."""
    source = (
        "# Where the book's package is not installed, as on Colab, this installs it.\n"
        "import importlib.util\n\n"
        'if importlib.util.find_spec("bn_core") is None:\n'
        f'    %pip install --quiet "{requirement(repository)}"'
    )
    changed = copy.deepcopy(notebook)
    cell = nbformat.v4.new_code_cell(source, id="install", metadata={"tags": ["remove-cell"]})
    changed.cells.insert(0, cell)
    return changed


def _configure(app: Sphinx, config: Config) -> None:
    address = Address.given(os.environ)
    config.notfound_urls_prefix = address.prefix
    config.notfound_context = {
        "title": "This page does not exist",
        "body": NOT_FOUND.format(prefix=address.prefix),
    }
    if address.base:
        config.html_baseurl = address.base
        config.ogp_site_url = address.base
        config.ogp_site_name = config.html_title
        config.ogp_use_first_image = True
        config.ogp_enable_meta_description = False  # `_describe` does it
        config.ogp_social_cards = {"enable": False}
        config.sitemap_url_scheme = "{link}"
        config.sitemap_locales = [None]
        config.sitemap_excludes = ["404.html", "genindex.html", "search.html", "index.html"]
    if address.repository:
        options = config.html_theme_options
        options["repository_url"] = address.repository
        options["use_repository_button"] = True
        options["use_edit_page_button"] = True
        options["use_issues_button"] = True
        options["launch_buttons"] = {
            **options.get("launch_buttons", {}),
            "notebook_interface": "jupyterlab",
            "binderhub_url": "https://mybinder.org",
            "colab_url": "https://colab.research.google.com",
        }


def description(doctree: nodes.document, most: int = 200) -> str:
    """The beginning of the first paragraph, in whole words; the line of facts is not one."""
    for paragraph in doctree.findall(nodes.paragraph):
        text = " ".join(paragraph.astext().split())
        if "chapter-facts" not in paragraph["classes"] and text:
            return textwrap.shorten(text, most, placeholder="…")
    return ""


def _describe(
    app: Sphinx, name: str, template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Say in a page's head what it is about, for search engines and previews of links."""
    if name == "404":
        context["pageurl"] = None  # it stands for any address, so it has none of its own
    if doctree is None or not (text := description(doctree)):
        return
    context["meta"] = {**(context.get("meta") or {}), "og:description": text}
    context["metatags"] += f'<meta name="description" content="{html.escape(text)}" />\n'


def _launch_from_notebooks(
    app: Sphinx, name: str, template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Point the launch buttons at the branch that the workflow publishes notebooks to."""
    for button in context.get("header_buttons", ()):
        if button.get("label") != "launch-buttons":
            continue
        for link in button["buttons"]:
            for before in ("/blob/master/", "/blob/main/"):
                link["url"] = link["url"].replace(before, f"/blob/{NOTEBOOKS_BRANCH}/")
            for before in ("/master?", "/main?"):
                link["url"] = link["url"].replace(before, f"/{NOTEBOOKS_BRANCH}?")


def _write_notebooks(app: Sphinx, exception: Exception | None) -> None:
    """Give the notebooks that are downloaded or launched their first cell."""
    address = Address.given(os.environ)
    if exception is not None or app.builder.format != "html" or not address.repository:
        return
    site = Path(app.outdir)
    branch = site.parent / "notebooks"
    for notebook in sorted(site.glob("_sources/**/*.ipynb")):
        changed = installing(nbformat.read(notebook, as_version=4), address.repository)
        copies = [notebook, *site.glob(f"_downloads/*/{notebook.name}")]
        copies.append(branch / notebook.relative_to(site / "_sources"))
        for path in copies:
            path.parent.mkdir(parents=True, exist_ok=True)
            nbformat.write(changed, path)
    branch.mkdir(parents=True, exist_ok=True)
    (branch / "requirements.txt").write_text(
        "--extra-index-url https://download.pytorch.org/whl/cpu\n"
        f"{requirement(address.repository)}\njupyterlab-myst\n"
    )
    (branch / "README.md").write_text(
        f"The chapters of the book, to be launched. They are written in {address.repository}, and "
        "this branch is made anew each time the book is published.\n"
    )


def setup(app: Sphinx) -> ExtensionMetadata:
    """Set up the extensions that need an address, if there is one, and the notebooks."""
    app.setup_extension("notfound.extension")
    if Address.given(os.environ).base:
        app.setup_extension("sphinxext.opengraph")
        app.setup_extension("sphinx_sitemap")
    app.connect("config-inited", _configure, priority=100)
    app.connect("html-page-context", _describe, priority=450)
    app.connect("html-page-context", _launch_from_notebooks, priority=600)
    app.connect("build-finished", _write_notebooks)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
