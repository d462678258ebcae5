"""What the tests of the laboratory share."""

import signal

import pytest


@pytest.fixture(autouse=True)
def ctrl_c_counts():
    """A shell lets what it starts in the background ignore Ctrl-C; here it counts, wherever."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
