"""A formula and the punctuation that touches it are kept on one line."""

import pytest
from docutils import nodes
from docutils.utils import new_document

from book.typography import keep_percents, keep_together


def paragraph(*parts: str | nodes.Node) -> nodes.paragraph:
    made = nodes.paragraph()
    made += [nodes.Text(part) if isinstance(part, str) else part for part in parts]
    new_document("page").append(made)
    return made


def math() -> nodes.math:
    return nodes.math("x", "x")


def together(made: nodes.paragraph) -> list[str]:
    return [n.astext() for n in made.findall(nodes.inline) if n["classes"] == ["formula"]]


@pytest.mark.parametrize(
    ("before", "after", "kept"),
    [
        ("For ", ", it is", ["x,"]),
        ("For ", " it is", []),
        ("It is ", ".", ["x."]),
        ("It is (", ").", ["(x)."]),
        ("An ", "-th", ["x-"]),
        ("For (as ", ") and", ["x)"]),
    ],
)
def test_punctuation_that_touches_a_formula_stays_with_it(before, after, kept):
    made = paragraph(before, math(), after)
    keep_together(made)
    assert together(made) == kept
    assert made.astext() == f"{before}x{after}"


def test_every_formula_of_a_paragraph_is_seen():
    made = paragraph(math(), ", ", math(), ";", math(), " end")
    keep_together(made)
    assert together(made) == ["x,", "x;"]
    assert made.astext() == "x, x;x end"


def test_what_is_not_text_is_left_where_it_is():
    link = nodes.reference("", "there")
    made = paragraph(math(), link, math())
    keep_together(made)
    assert together(made) == []
    assert made.astext() == "xtherex"


def test_a_percent_sign_stays_with_its_number_but_in_code():
    made = paragraph("Some 70 % of ", nodes.literal("", "5 % 3"), " and 7 % 3 or a %.")
    keep_percents(made)
    assert made.astext() == "Some 70\N{NO-BREAK SPACE}% of 5 % 3 and 7\N{NO-BREAK SPACE}% 3 or a %."
