"""Source shown in a chapter is the package's own."""

import inspect

import pytest

from bn_core import BatchNorm1d, batch_norm_forward
from bn_core.lab.listing import source


def test_shows_the_source_as_it_stands_in_the_file():
    assert inspect.getsource(batch_norm_forward).rstrip() in source(batch_norm_forward).data
    assert "bn_core.algorithms.batch_norm_forward" in source(batch_norm_forward).data


def test_without_docstring_every_other_line_stays():
    shown = source(batch_norm_forward, docstring=False).data
    assert "Source: Ioffe" not in shown
    assert "# line 4: scale and shift" in shown
    compile(shown.split("```python\n")[1].split("```")[0], "listing", "exec")


def test_methods_are_set_flush_left():
    assert "```python\ndef extra_repr(self)" in source(BatchNorm1d.extra_repr).data


def test_what_is_not_the_packages_is_refused():
    with pytest.raises(TypeError, match="not of bn_core"):
        source(inspect.getsource)
