"""Recorded results: one JSON file per experiment, with what is needed to judge and repeat it."""

import json
import math
import os
import platform
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from bn_core.lab.data import ImageSet

SCHEMA = 1


@contextmanager
def provenance(data: ImageSet) -> Iterator[dict[str, Any]]:
    """Say what a result was made with; what runs inside the `with` block is timed.

    Args:
        data: the set that is trained on.

    Yields:
        A dictionary: date, code revision (of a git checkout, else the package's version), library
        versions, processor, data name and SHA-256; after the block also the wall time in seconds.
    """
    started = time.perf_counter()
    # All of it now: by the end of a long run the checkout may have moved on.
    found = {**environment(), "data": {"name": data.name, "sha256": data.sha256}}
    yield found
    found["wall_seconds"] = round(time.perf_counter() - started, 1)


def environment() -> dict[str, Any]:
    """Date, code revision, library versions and processor, as they are now."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "revision": _revision(),
        "versions": {
            "python": platform.python_version(),
            **{name: _version(name) for name in ("torch", "numpy", "bn-core")},
        },
        "processor": {
            "machine": platform.machine(),
            "cores": os.cpu_count(),
            "capability": torch.backends.cpu.get_cpu_capability(),
        },
    }


def save(path: Path, record: Mapping[str, Any]) -> None:
    """Write a record beside its place and rename it there, so that no half of one is ever seen.

    NaN becomes null, since JSON has no NaN.

    Args:
        path: the JSON file; its folder is made if need be.
        record: what `json` can write.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(_without_nan({"schema": SCHEMA, **record}), allow_nan=False)
    # One list or number per line would be unreadable, one line for all a useless diff: break
    # before each run.
    text = text.replace('{"arm":', '\n{"arm":') + "\n"
    handle, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(beside).chmod(0o644)
        Path(beside).replace(path)
    except BaseException:
        Path(beside).unlink(missing_ok=True)
        raise


def load(path: Path, experiment: str) -> dict[str, Any]:
    """Read a record.

    Args:
        path: the JSON file.
        experiment: the experiment it must be of.

    Raises:
        FileNotFoundError: no such file; the message says how to make it.
        ValueError: not a record, of another experiment, or of another schema.
    """
    if not path.exists():
        raise FileNotFoundError(
            f"records.load: {path} does not exist; make it with "
            f"`python -m bn_core.experiments run {experiment} --scale paper --out {path.parent}`"
        )
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"records.load: {path} is not JSON ({error}); make it anew") from error
    found = (record.get("schema"), record.get("experiment"))
    if found != (SCHEMA, experiment):
        raise ValueError(
            f"records.load: {path} has schema {found[0]} of experiment {found[1]!r}; expected "
            f"schema {SCHEMA} of {experiment!r}. Make it anew"
        )
    return record


def _without_nan(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return value


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "not installed"


def _revision() -> str:
    here = Path(__file__).parent
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            cwd=here,
            capture_output=True,
            text=True,
            check=True,
        )
        return described.stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return f"bn-core {_version('bn-core')}"
