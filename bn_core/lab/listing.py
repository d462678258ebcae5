"""The book's own source, shown in a chapter: what is read is what is tested."""

import ast
import inspect
import textwrap
from collections.abc import Callable
from typing import Any

from IPython.display import Markdown


def source(thing: Callable[..., Any] | type, *, docstring: bool = True) -> Markdown:
    """The source of a function or class, as it stands in the package, for display in a notebook.

    Args:
        thing: a function, method or class of the package.
        docstring: with its docstring, or without where the text around it says the same.

    Raises:
        TypeError: it is not of `bn_core`, as what a notebook cell defines is not.
    """
    module = inspect.getmodule(thing)
    if module is None or not module.__name__.startswith("bn_core"):
        raise TypeError(
            f"source: {thing!r} is not of bn_core; only what the package's tests cover is shown"
        )
    text = textwrap.dedent(inspect.getsource(thing))
    if not docstring:
        text = _without_docstring(text)
    name = f"{module.__name__}.{thing.__qualname__}"
    return Markdown(f"*`{name}`*\n\n```python\n{text.rstrip()}\n```")


def _without_docstring(text: str) -> str:
    """Cut the lines of the first docstring; every other line stays as it is."""
    definition = ast.parse(text).body[0]
    assert isinstance(definition, ast.FunctionDef | ast.ClassDef)
    first = definition.body[0]
    if not (isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)):
        return text
    lines = text.splitlines()
    assert first.end_lineno is not None
    return "\n".join([*lines[: first.lineno - 1], *lines[first.end_lineno :]]).rstrip()
