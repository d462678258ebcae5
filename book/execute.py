"""Execute chapters from top to bottom and store what they print: `python -m book.execute FILE...`.

What is stored is ready to be compared (nbval) and published: outputs, without the time stamps that
would change in every commit; the text form of each figure as its alternative text; and how long it
took, with which versions.
"""

import os
import platform
import sys
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

CELL_SECONDS = 600
SOFTWARE = ("bn-core", "torch", "numpy", "pandas", "matplotlib", "mlxtend")


def execute(path: Path) -> float:
    """Execute one notebook in place; on an error the file stays as it was.

    Args:
        path: the .ipynb file.

    Returns:
        Seconds it took.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed.
    """
    notebook = nbformat.read(path, as_version=4)
    started = time.perf_counter()
    client = NotebookClient(
        notebook,
        timeout=CELL_SECONDS,
        kernel_name="python3",
        record_timing=False,
        coalesce_streams=True,  # what is printed is one output, however busy the machine is
        resources={"metadata": {"path": str(path.parent)}},
    )
    client.execute()
    seconds = time.perf_counter() - started
    for cell in notebook.cells:
        if cell.cell_type == "code" and (text := alternative_text(cell)):
            cell.metadata.setdefault("mystnb", {}).setdefault("image", {})["alt"] = text
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
        "bn_core": {
            "execution_seconds": round(seconds, 1),
            "date": datetime.now(UTC).date().isoformat(),
            "cores": os.cpu_count(),
            "versions": {
                "python": platform.python_version(),
                "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
                **{name: version(name) for name in SOFTWARE},
            },
        },
    }
    beside = path.with_suffix(".ipynb.new")
    nbformat.write(notebook, beside)
    beside.replace(path)
    return seconds


def alternative_text(cell: Any) -> str:
    """The descriptions that a cell's figures print as text; empty without a figure.

    Args:
        cell: an executed code cell.
    """
    return " ".join(
        output.data["text/plain"]
        for output in cell.outputs
        if "image/png" in output.get("data", {})
    )


def main(paths: list[str]) -> int:
    """Execute each file; returns 1 if one failed, after the others."""
    if not paths:
        print("book.execute: no notebook given", file=sys.stderr)
        return 2
    failed = False
    for path in paths:
        try:
            print(f"{path}: {execute(Path(path)):.0f} s", flush=True)
        except Exception as error:
            failed = True
            print(f"{path}: not stored, since it failed\n{error}", file=sys.stderr)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
