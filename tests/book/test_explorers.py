"""The charts of a notebook's explorers get cells of their own."""

import json

from bn_core.lab.explorers import MIME
from book.explorers import with_explorers


def notebook(*data):
    cells = [{"cell_type": "code", "outputs": [{"data": dict(each)}]} for each in data]
    return json.dumps({"cells": cells})


def test_a_notebook_without_an_explorer_stays_as_it_is():
    text = notebook({"text/plain": "1"})
    assert with_explorers(text) is text


def test_the_chart_goes_into_a_cell_behind_and_the_picture_stays():
    explorer = {MIME: {"mark": "</script>"}, "image/png": "x", "text/plain": "A <chart>"}
    first, behind, last = json.loads(with_explorers(notebook(explorer, {"text/plain": "1"})))[
        "cells"
    ]
    assert first["outputs"] == [{"data": {"image/png": "x", "text/plain": "A <chart>"}}]
    assert behind["cell_type"] == "markdown"
    assert "A &lt;chart&gt;" in behind["source"]
    assert behind["source"].count("</script>") == 1  # the element's own end
    assert last["cell_type"] == "code"
