"""Sphinx extension: signatures of the API reference name types as the source does.

Autodoc sees what an alias stands for, not the alias: `ArrayLike` comes out as a union of private
protocols, `NDArray[np.int64]` as `ndarray[tuple[Any, ...], dtype[int64]]`.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Any

from numpy.typing import ArrayLike
from sphinx.application import Sphinx
from sphinx.util.typing import ExtensionMetadata, stringify_annotation

_ARRAY_LIKE = stringify_annotation(ArrayLike, "smart")
_ANY = r"(?:~?typing\.)?Any"
_ARRAY = re.compile(
    rf"~?numpy\.ndarray\[(?:tuple\[{_ANY}, \.\.\.\]|{_ANY}), "
    r"~?numpy\.dtype\[((?:[^\[\]]|\[[^\[\]]*\])*)\]\]"
)
_FLOATING = re.compile(rf"(numpy\.floating)\[{_ANY}\]")
_MODULE = re.compile(r"(?<![\w.~])(?=(?:[a-z_]\w*\.)+\w)")
_NO_SIGNATURE = {"(*args, **kwargs)", "(*args: ~typing.Any, **kwargs: ~typing.Any)"}


def short(types: str) -> str:
    """The types of a signature, with numpy's aliases put back."""
    types = types.replace(_ARRAY_LIKE, "~numpy.typing.ArrayLike")
    types = _ARRAY.sub(r"~numpy.typing.NDArray[\1]", types)
    return _FLOATING.sub(r"\1", types)


def _shorten_signature(
    _: Sphinx, what: str, __: str, thing: Any, ___: Any, arguments: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """Of arguments and result; a class that is not to be called with any has none."""
    if what == "class" and (issubclass(thing, Enum) or arguments in _NO_SIGNATURE):
        return "", None
    if arguments is not None:
        arguments = short(arguments).replace("= <factory>", "= ...")
    return arguments, None if returns is None else short(returns)


def _shorten_variables(
    _: Sphinx, __: str, ___: str, ____: Any, _____: Any, lines: list[str]
) -> None:
    """Of what napoleon made of `Attributes:`; without the modules that the types are from."""
    for place, line in enumerate(lines):
        if line.startswith(":vartype "):
            head, types = line.split(": ", 1)
            lines[place] = f"{head}: {_MODULE.sub('~', short(types))}"


def setup(app: Sphinx) -> ExtensionMetadata:
    """Register both with Sphinx, after napoleon."""
    app.connect("autodoc-process-signature", _shorten_signature)
    app.connect("autodoc-process-docstring", _shorten_variables, priority=600)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
