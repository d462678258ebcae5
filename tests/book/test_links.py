"""Links that lead out of the book are found, asked and judged."""

from __future__ import annotations

from pathlib import Path

from book.links import addresses, ask, check

HERE = "https://example.org/here"


def test_only_links_that_lead_out_are_found(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(
        f'<a href="{HERE}#part">1</a><a href="{HERE}">2</a><a href="b.html">3</a>'
    )
    (tmp_path / "b.html").write_text(f'<a href="{HERE}">4</a><a href="mailto:a@b.org">5</a>')
    assert addresses(tmp_path) == {HERE: ["a.html", "b.html"]}


def test_what_is_gone_is_broken_and_what_refuses_robots_is_not_judged() -> None:
    answers = {"https://ok": 200, "https://gone": 404, "https://shy": 403, "https://mute": None}
    broken, unclear = check({address: ["a.html"] for address in answers}, answers.get)
    assert broken == ["404: https://gone (in a.html)", "no answer: https://mute (in a.html)"]
    assert unclear == ["403: https://shy (in a.html)"]


def test_a_server_that_is_not_there_gives_no_answer() -> None:
    assert ask("http://127.0.0.1:9/", pause=0) is None
