"""Every bad input in the table is refused, by name, with what it got and what would do."""

import pytest

from book.refusals import Refusal, every, meet

ROWS = [row for _, rows in every() for row in rows]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.code)
def test_bad_input_is_refused_in_words(row: Refusal) -> None:
    message = meet(row)
    speaker = row.code.split("(")[0]
    assert message.startswith(f"{speaker}: "), "the message does not say who speaks"
    for words in row.words:
        assert words in message


def test_the_table_has_at_least_forty_rows() -> None:
    assert len(ROWS) >= 40


def test_input_that_is_not_refused_is_an_error_of_the_table() -> None:
    with pytest.raises(AssertionError, match="was not refused"):
        meet(Refusal("batch_norm(x)", ValueError, ()))
