"""Types of signatures are named as the source names them."""

from enum import Enum
from typing import Any

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray
from sphinx.util.typing import stringify_annotation

from book import signatures


class Colour(Enum):
    RED = "red"


@pytest.mark.parametrize(
    ("kind", "named"),
    [
        (ArrayLike, "~numpy.typing.ArrayLike"),
        (NDArray[np.int64], "~numpy.typing.NDArray[~numpy.int64]"),
        (NDArray[np.floating[Any]], "~numpy.typing.NDArray[~numpy.floating]"),
        (tuple[NDArray[np.bool_], int], "tuple[~numpy.typing.NDArray[~numpy.bool], int]"),
        (list[int], "list[int]"),
    ],
    ids=str,
)
def test_a_type_has_the_name_that_it_is_written_by(kind: Any, named: str) -> None:
    assert signatures.short(stringify_annotation(kind, "smart")) == named


def signature(thing: Any, arguments: str) -> tuple[str | None, str | None]:
    return signatures._shorten_signature(None, "class", "", thing, None, arguments, None)


def test_what_is_not_called_shows_no_arguments() -> None:
    assert signature(Colour, "(value, names=None)") == ("", None)
    assert signature(dict, "(*args, **kwargs)") == ("", None)
    assert signature(dict, "(a: list[int] = <factory>)") == ("(a: list[int] = ...)", None)


def test_types_of_attributes_come_without_their_modules() -> None:
    lines = [":vartype runs: tuple[bn_core.experiments.figure1.Run, ...]", "Of bn_core.lab.plots."]
    signatures._shorten_variables(None, "", "", None, None, lines)
    assert lines == [
        ":vartype runs: tuple[~bn_core.experiments.figure1.Run, ...]",
        "Of bn_core.lab.plots.",
    ]
