"""Recorded results: one JSON file per experiment, with what is needed to judge and repeat it."""

import hashlib
import json
import os
import platform
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch

import bn_core
from bn_core.experiments import registry, schema
from bn_core.experiments.claims import Judgement, decide, judge

SCHEMA = schema.VERSION

Kind = TypeVar("Kind")


class RecordError(ValueError):
    """A file is not the record it should be, or a record is not what its schema asks for."""


class Identified(Protocol):
    """Data that can be told from others, such as a `bn_core.lab.data.ImageSet`."""

    @property
    def name(self) -> str:
        """What they are called."""
        ...

    @property
    def sha256(self) -> str:
        """64 hex digits that stand for them."""
        ...


@dataclass(frozen=True)
class Simulated:
    """Data that are drawn and not loaded: the rule they are drawn by identifies them.

    Attributes:
        name: short name.
        rule: how they are drawn, with every number in it; a seed does the rest.
    """

    name: str
    rule: str

    @property
    def sha256(self) -> str:
        """The digest of the rule."""
        return hashlib.sha256(self.rule.encode()).hexdigest()


@contextmanager
def provenance(data: Identified) -> Iterator[dict[str, Any]]:
    """Say what a result was made with; what runs inside the `with` block is timed.

    Args:
        data: what is trained on: an image set, or what is `Simulated`.

    Yields:
        Date, code revision (of a git checkout, else the package's version), library versions,
        processor, data name and SHA-256, by name; after the block also the wall time in seconds.
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
        "revision": revision(),
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
    """Check a record, write it beside its place and rename it there: no half of one is ever seen.

    The title and the claims, unless the record has them, are put in by the registered experiment.
    The claims are judged from what is stored, so that whoever reads the file comes to the same
    effects.

    Args:
        path: the JSON file; its folder is made if need be.
        record: what `record` returned.

    Raises:
        RecordError: the record does not satisfy its schema; nothing was written.
    """
    text = _text(_completed(schema.plain(record), f"records.save: {path}"))
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(beside).chmod(0o644)
        Path(beside).replace(path)
    except BaseException:
        Path(beside).unlink(missing_ok=True)
        raise


def record(experiment: str, result: Any) -> dict[str, Any]:
    """What `save` takes: a result as JSON can write it, and whose it is.

    Args:
        experiment: the experiment's name.
        result: what its `run` returned.
    """
    return {"experiment": experiment, **schema.plain(result)}


def result(folder: Path, experiment: str, kind: type[Kind]) -> Kind:
    """The result that is recorded in a folder.

    Args:
        folder: such as the book's `results`.
        experiment: the experiment's name, which is also its file's.
        kind: the experiment's `Result`.

    Raises:
        FileNotFoundError: no such file; the message says how to make it.
        RecordError: not a record, of another experiment or schema, or against its schema.
    """
    found: Kind = schema.made(kind, load(folder / f"{experiment}.json", experiment))
    return found


def load(path: Path, experiment: str) -> dict[str, Any]:
    """Read a record and check it.

    A record of schema 1 had neither title nor claims. It is read all the same: they are put in by
    the code as it is now. `rejudge` writes it anew as one of today's schema.

    Args:
        path: the JSON file.
        experiment: the experiment it must be of.

    Returns:
        The record as JSON has it, with null for NaN; `result` makes the experiment's `Result` of
        it.

    Raises:
        FileNotFoundError: no such file; the message says how to make it.
        RecordError: not a record, of another experiment or schema, or against its schema.
        ValueError: there is no such experiment.
    """
    document = schema.document(experiment)
    if not path.exists():
        raise FileNotFoundError(
            f"records.load: {path} does not exist; make it with "
            f"`python -m bn_core.experiments run {experiment} --scale paper --out {path.parent}`"
        )
    record = _read(path)
    if record["experiment"] != experiment:
        raise RecordError(
            f"records.load: {path} is of experiment {record['experiment']!r}; expected "
            f"{experiment!r}. Make it anew"
        )
    if record["schema"] == 1:
        record = _completed(_without(record, "schema"), f"records.load: {path}")
    else:
        _check(record, document, f"records.load: {path}")
    return record


def shipped() -> Path:
    """The folder of the book's own records.

    It is `results` in a checkout of the book; an installed package carries a copy.

    Raises:
        FileNotFoundError: there is neither.
    """
    package = Path(bn_core.__file__).parent
    folders = (package / "results", package.parent / "results")
    for folder in folders:
        if (folder / "figure1.json").is_file():
            return folder
    raise FileNotFoundError(
        f"records.shipped: the book's records are in neither {folders[0]} nor {folders[1]}; "
        "install bn-core anew, from its repository"
    )


def rejudge(path: Path) -> None:
    """Put today's title and claims in a record, judged from what it stores; nothing is run.

    For a claim that was reworded, or added to an experiment that need not be run for it.

    Args:
        path: the JSON file.

    Raises:
        OSError: it cannot be read or written.
        RecordError: not a record, or against its schema.
    """
    save(path, _without(_read(path), "schema", "title", "claims"))


@dataclass(frozen=True)
class Summary:
    """What a record says without its measurements.

    Attributes:
        path: the file.
        experiment: its name.
        title: what it is about.
        scale: such as "live" or "paper".
        seeds: the seeds.
        provenance: what it was made with.
        claims: as they were judged when the record was written.
    """

    path: Path
    experiment: str
    title: str
    scale: str
    seeds: tuple[int, ...]
    provenance: dict[str, Any]
    claims: tuple[Judgement, ...]


def summary(path: Path) -> Summary:
    """The claims of a record, and how it was made, with no need of the experiment's code.

    Only for a record of schema 1, which has no claims, they are judged now.

    Args:
        path: the JSON file.

    Raises:
        OSError: it cannot be read.
        RecordError: not a record of an experiment, or against the schema.
    """
    record = _read(path)
    if record["experiment"] in schema.TABLES:
        raise RecordError(f"records.summary: {path} is a table of times; it has no claims")
    if record["schema"] == SCHEMA:
        _check(record, schema.COMMON, f"records.summary: {path}")
    elif record["experiment"] in registry.NAMES:
        record = load(path, record["experiment"])
    else:
        raise RecordError(
            f"records.summary: {path} has schema 1, which has no claims, and they cannot be judged "
            f"now: there is no experiment {record['experiment']!r}"
        )
    return Summary(
        path=path,
        **{key: record[key] for key in ("experiment", "title", "scale", "provenance")},
        seeds=tuple(record["seeds"]),
        claims=_judgements(record["claims"]),
    )


def summaries(folder: Path) -> list[Summary]:
    """All records of experiments in a folder, in the order of the registry, then by name.

    Args:
        folder: such as the book's `results`.

    Raises:
        RecordError: one of its JSON files is not a record.
    """
    order = {name: place for place, name in enumerate(registry.NAMES)}
    found = [summary(p) for p in sorted(folder.glob("*.json")) if p.stem not in schema.TABLES]
    return sorted(found, key=lambda each: order.get(each.experiment, len(order)))


def _read(path: Path) -> dict[str, Any]:
    """What is in a file, if it says which experiment it is of, in a schema known here."""

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not a JSON number")

    try:
        record = json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)
    except ValueError as error:
        raise RecordError(f"records: {path} is not JSON ({error}); make it anew") from error
    if not isinstance(record, dict) or not isinstance(record.get("experiment"), str):
        raise RecordError(
            f"records: {path} is not a record; a record is a JSON object with schema and experiment"
        )
    if record.get("schema") not in (1, SCHEMA):
        raise RecordError(
            f"records: {path} has schema {record.get('schema')} of experiment "
            f"{record['experiment']!r}; this version of bn-core reads 1 and {SCHEMA}. "
            "Make it anew, or use the version of bn-core that made it"
        )
    return record


def _without(record: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key not in keys}


def _completed(record: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The record with schema number, title and claims where it lacks them, checked."""
    name = str(record.get("experiment"))
    document = schema.document(name)
    whole = {"schema": SCHEMA, **record}
    missing = [key for key in ("title", "claims") if key not in whole]
    if missing and name not in schema.TABLES:
        # Checked before it is judged: `made` and `measure` may rely on what the schema says.
        needed = [key for key in document["required"] if key not in missing]
        _check({"claims": [], **whole}, {**document, "required": needed}, where)
        added = {"title": registry.get(name).TITLE, "claims": _judged(whole, where), **whole}
        whole = {key: added[key] for key in document["properties"]}  # long lists last
        document = schema.COMMON  # the rest was checked above
    _check(whole, document, where)
    return whole


def _judged(record: Mapping[str, Any], where: str) -> list[Any]:
    """The claims of a record's experiment, judged from what the record stores."""
    experiment = registry.get(record["experiment"])
    found = schema.made(experiment.Result, record)
    judged = []
    for claim in experiment.CLAIMS:
        try:
            judged.append(schema.plain(judge(claim, found, record["seeds"])))
        except Exception as error:
            raise RecordError(f"{where}: {claim.id} cannot be judged: {error!r}") from error
    return judged


def _check(record: Mapping[str, Any], document: Mapping[str, Any], where: str) -> None:
    """Raise RecordError if a record is against its schema, or if its claims contradict it."""
    fault = schema.fault(record, document)
    if fault is None and record["experiment"] not in schema.TABLES:
        claims = _judgements(record["claims"])
        fault = next(_contradictions(claims, record["seeds"]), None)
    if fault is not None:
        raise RecordError(f"{where}: {fault}")


def _contradictions(claims: Sequence[Judgement], seeds: Sequence[int]) -> Iterator[str]:
    """What a JSON Schema cannot say: how the parts of a record fit together."""
    known: set[str] = set()
    for i, claim in enumerate(claims):
        judged = [effect.seed for effect in claim.effects]
        if claim.id in known:
            yield f"claims[{i}].id: {claim.id!r} is there twice"
        known.add(claim.id)
        if judged != list(seeds):
            yield f"claims[{i}].effects: of seeds {judged}; the record's seeds are {list(seeds)}"
        elif claim.verdict != (verdict := decide(claim.effects, claim.threshold)):
            yield (
                f"claims[{i}].verdict: {str(claim.verdict)!r}, but the effects of {claim.id} and "
                f"its threshold give {str(verdict)!r}"
            )


def _judgements(claims: Sequence[Mapping[str, Any]]) -> tuple[Judgement, ...]:
    return tuple(schema.made(Judgement, claim) for claim in claims)


def _text(record: Mapping[str, Any]) -> str:
    """JSON with a line for each key, and for each item of a list of objects.

    One number to a line would be unreadable, one line for all a useless diff.
    """
    parts = []
    for key, value in record.items():
        written = json.dumps(value, allow_nan=False)
        if isinstance(value, list) and value and isinstance(value[0], dict):
            written = "[\n" + ",\n".join(json.dumps(v, allow_nan=False) for v in value) + "\n]"
        parts.append(f"{json.dumps(key)}: {written}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "not installed"


def revision(package: Path = Path(__file__).parents[1]) -> str:
    """The commit of a package's code, with "-dirty" if the package is not as committed.

    Only the package counts: the record of the experiment before, just written, has no part in this
    one. Outside of a git checkout that has the package's files, it is the package's version.
    """

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(package), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "__init__.py")  # not just any repository around it
        commit = git("rev-parse", "--short=12", "HEAD")
        changed = git("status", "--porcelain", "--untracked-files=no", "--", ".")
    except (OSError, subprocess.CalledProcessError):
        return f"bn-core {_version('bn-core')}"
    return f"{commit}-dirty" if changed else commit
