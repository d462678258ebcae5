"""`make lab`: JupyterLab renders the chapters' MyST."""

import subprocess
import sys
from pathlib import Path


def test_the_myst_extension_works_with_this_jupyterlab():
    """An extension that does not fit is left out in silence, and directives show as code."""
    jupyter = Path(sys.executable).with_name("jupyter-labextension")
    listed = subprocess.run([jupyter, "list"], capture_output=True, text=True, check=True)
    line = next(
        text for text in (listed.stdout + listed.stderr).splitlines() if "jupyterlab-myst" in text
    )
    assert "OK" in line, line
