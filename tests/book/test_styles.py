"""Style sheets lose what no page can use, and nothing else."""

import io
from pathlib import Path

import pytest
from fontTools import ttLib

from book import styles

USED = frozenset({"card", "card-title", "btn", "open"})


@pytest.mark.parametrize(
    ("css", "kept"),
    [
        (".card{color:red}", ".card{color:red}"),
        (".badge{color:red}", ""),
        (".badge,.card{color:red}", ".card{color:red}"),
        (".card .badge{color:red}", ""),
        (".card.open > a.btn:hover{color:red}", ".card.open > a.btn:hover{color:red}"),
        ("p::before{content:'x'}", 'p::before{content:"x"}'),
        (".btn:not(.badge){color:red}", ".btn:not(.badge){color:red}"),
        ("[class*=badge]{color:red}", "[class*=badge]{color:red}"),
        ("@media print{.badge{color:red}.card{color:red}}", "@media print{.card{color:red}}"),
        ("@media print{.badge{color:red}}", ""),
        ("@keyframes badge{from{top:0}}", "@keyframes badge{from{top:0}}"),
        ("@font-face{font-family:badge}", "@font-face{font-family:badge}"),
        (":root{--badge:1}", ":root{--badge:1}"),
    ],
)
def test_a_rule_goes_if_each_selector_needs_a_class_that_is_not_there(css, kept):
    assert styles.without_unused(css, USED).strip() == kept


def test_a_sheet_that_cannot_be_read_is_an_error():
    with pytest.raises(ValueError, match=r"styles: .* at line 2"):
        styles.without_unused(".card{color:red}\n.btn", USED)


def test_names_are_used_if_a_page_or_a_script_names_them(tmp_path):
    (tmp_path / "a.html").write_text('<p class="card card-title">words</p>')
    (tmp_path / "_static" / "mathjax").mkdir(parents=True)
    (tmp_path / "_static" / "a.js").write_text('e.classList.add("open")')
    (tmp_path / "_static" / "mathjax" / "b.js").write_text('"badge"')
    found = styles.words(tmp_path)
    assert {"card", "card-title", "open"} <= found
    assert "badge" not in found


def font() -> bytes:
    """Some font as TrueType: matplotlib brings one."""
    import matplotlib

    return Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf").read_bytes()


def test_a_font_keeps_the_glyphs_that_are_asked_for():
    cut = styles.with_glyphs(font(), {ord("B"), ord("N"), 0xE123})
    assert cut[:4] == b"wOF2"
    assert set(ttLib.TTFont(io.BytesIO(cut)).getBestCmap()) == {ord("B"), ord("N")}


def test_a_site_keeps_what_its_pages_show(tmp_path):
    icons = tmp_path / "_static/vendor/fontawesome/6/css/all.min.css"
    fonts = icons.parent.parent / "webfonts"
    fonts.mkdir(parents=True)
    icons.parent.mkdir()
    for name in ("fa-solid-900.woff2", "fa-solid-900.ttf", "fa-brands-400.woff2"):
        (fonts / name).write_bytes(font())
    icons.write_text(
        '@font-face{font-family:a;src:url(../webfonts/fa-solid-900.woff2) format("woff2"),'
        'url(../webfonts/fa-solid-900.ttf) format("truetype")}'
        "@font-face{font-family:b;src:url(../webfonts/fa-brands-400.woff2)}"
        '.fa-bars:before{content:"\\41"}.fa-moon:before{content:"\\42"}'
    )
    (tmp_path / "_static/book.css").write_text(
        ':root{--icon: "\\f000"} .box::after{content: "\\43"; top: 0} .in{content: var(--icon)}'
    )
    (tmp_path / "index.html").write_text('<i class="fa-bars"></i><p class="box"></p>')
    before, after = styles.shrink(tmp_path)
    assert after < before / 10
    kept = icons.read_text()
    assert "fa-bars" in kept
    assert "fa-moon" not in kept
    assert "brands" not in kept
    assert "ttf" not in kept
    assert [file.name for file in fonts.iterdir()] == ["fa-solid-900.woff2"]
    shown = ttLib.TTFont(fonts / "fa-solid-900.woff2").getBestCmap()
    assert set(shown) == {ord("A"), ord("C"), 0xF000}  # DejaVu has that one
