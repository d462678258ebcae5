"""The command line of the experiments: `python -m bn_core.experiments COMMAND`.

`list` names them; `run` runs one and `all` runs every one; `show` prints a record, `schema` what a
record may hold.

What was asked for is printed on standard output, as text or with `--json` as one JSON value;
progress and errors go to standard error. The exit status is one of `Status`.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from enum import IntEnum
from pathlib import Path
from typing import Any

from bn_core.experiments import records, registry, schema
from bn_core.experiments.comparison import Comparison, compare, seeds_in_words
from bn_core.experiments.records import Summary
from bn_core.experiments.report import spread
from bn_core.lab.data import DataError

RESULTS = Path("results")  # the book's records, seen from the root of its repository


class Status(IntEnum):
    """The exit status."""

    OK = 0
    ERROR = 1
    USAGE = 2
    VERDICTS_DIFFER = 3
    INTERRUPTED = 130


_STATUS = (
    "exit status: 0 done; 1 error; 2 wrong usage; 3 done, and a verdict is not the one on record; "
    "130 interrupted"
)

_OF_A_CLAIM = ("id", "statement", "source", "effect", "unit", "threshold", "criterion")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = _parser()
    chosen = parser.parse_args(arguments)
    try:
        status: Status = chosen.do(chosen)
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # who reads has read enough, as in `list | head`
        with Path(os.devnull).open("w") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())  # for what is flushed at the end
        return Status.OK
    except (DataError, OSError, records.RecordError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return Status.ERROR
    except KeyboardInterrupt:
        hint = ""
        if chosen.command == "all" or (chosen.command == "run" and chosen.resume):
            hint = "; the same command goes on from the parts that were finished"
        elif chosen.command == "run":
            hint = "; nothing was written (with --resume, finished parts are kept)"
        print(f"{parser.prog}: interrupted{hint}", file=sys.stderr)
        return Status.INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bn_core.experiments",
        description="Run the experiments of the book, and show what was recorded of them.",
        epilog=_STATUS,
    )
    commands = parser.add_subparsers(dest="command", required=True)

    def command(name: str, does: Callable[[Any], Status], what: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=what, description=what, epilog=_STATUS)
        added.set_defaults(do=does, refuse=added.error)
        return added

    listing = command("list", _list, "the experiments and their claims")
    run = command(
        "run", _run, "run one, print its verdicts, write its result, compare it with the record"
    )
    run.add_argument("name", choices=registry.NAMES)
    run.add_argument(
        "--scale",
        default="live",
        help="live: embedded digits, about a minute; paper: the source's own size "
        "(default: %(default)s)",
    )
    run.add_argument(
        "--seeds", type=_count, metavar="N", help="run seeds 0 to N-1 (default: the scale's)"
    )
    run.add_argument(
        "--out",
        type=Path,
        default=Path("runs"),
        metavar="DIR",
        help="folder for NAME.json, replaced when the run is done (default: %(default)s)",
    )
    run.add_argument(
        "--compare",
        type=Path,
        metavar="DIR",
        help=f"folder of the record to compare with (default: {RESULTS}, if it holds one)",
    )
    run.add_argument(
        "--resume",
        action="store_true",
        help="keep finished parts in OUT/NAME.SCALE.parts until the run is done, and go on from "
        "those that an interrupted run left there",
    )
    every = command(
        "all",
        _all,
        "run every experiment that has no result of this revision in OUT, compare each with its "
        "record, and print one table",
    )
    every.add_argument(
        "--scale", choices=("live", "paper"), default="paper", help="(default: %(default)s)"
    )
    every.add_argument(
        "--out",
        type=Path,
        default=Path("runs"),
        metavar="DIR",
        help="folder for the results, and for the parts of an interrupted run; not the records' "
        "(default: %(default)s)",
    )
    show = command("show", _show, "the claims and verdicts of a recorded result")
    show.add_argument("name")
    show.add_argument(
        "--from",
        dest="folder",
        type=Path,
        default=RESULTS,
        metavar="DIR",
        help="folder of NAME.json (default: %(default)s)",
    )
    for each in (listing, run, show):
        each.add_argument("--json", action="store_true", help="print JSON instead of text")
    document = command("schema", _schema, "the JSON Schema of an experiment's record")
    document.add_argument("name", choices=(*registry.NAMES, *schema.TABLES))
    return parser


def _list(chosen: argparse.Namespace) -> Status:
    experiments = {name: registry.get(name) for name in registry.NAMES}
    if chosen.json:
        _print_json(
            [
                {
                    "name": name,
                    "title": experiment.TITLE,
                    "chapter": registry.CHAPTERS.get(name),
                    "scales": {
                        scale: {"seeds": size.seeds} for scale, size in experiment.SCALES.items()
                    },
                    "claims": [
                        {key: getattr(claim, key) for key in _OF_A_CLAIM}
                        for claim in experiment.CLAIMS
                    ],
                }
                for name, experiment in experiments.items()
            ]
        )
        return Status.OK
    for name, experiment in experiments.items():
        print(f"{name}: {experiment.TITLE}")
        for scale, size in experiment.SCALES.items():
            print(f"  {scale} scale: {seeds_in_words(range(size.seeds))}")
        for claim in experiment.CLAIMS:
            print(f"  {claim.id} ({claim.source})")
            print(f"    {claim.statement}")
            print(f"    holds if {claim.criterion}")
    return Status.OK


def _run(chosen: argparse.Namespace) -> Status:
    scales = registry.get(chosen.name).SCALES
    if chosen.scale not in scales:
        chosen.refuse(
            f"argument --scale: {chosen.name} has no scale {chosen.scale!r}; "
            f"choose from {', '.join(scales)}"
        )
    path: Path = chosen.out / f"{chosen.name}.json"
    # Before the run: what is wrong with a folder is to be found out now, not after an hour, and the
    # record to compare with may be the one that is replaced.
    recorded = _record(chosen.name, chosen.compare)
    started = time.perf_counter()
    here = _run_into(path, chosen.scale, chosen.seeds, resume=chosen.resume)
    seconds = time.perf_counter() - started
    comparison = None if recorded is None else compare(here, recorded)
    if chosen.json:
        _print_json(
            {
                **schema.plain(here),
                "seconds": round(seconds, 1),
                "comparison": None if comparison is None else _as_json(comparison),
            }
        )
    else:
        _print_run(here, comparison)
        print(f"{path} written after {seconds:.0f} s")
    differ = comparison is not None and comparison.agrees is False
    return Status.VERDICTS_DIFFER if differ else Status.OK


def _all(chosen: argparse.Namespace) -> Status:
    if chosen.out.resolve() == RESULTS.resolve():
        chosen.refuse(f"argument --out: {chosen.out} holds the records to compare with")
    head = ("experiment", "seconds", "verdicts", "as on record")
    rows = [head]
    differing: list[str] = []
    seconds = 0.0
    for name in registry.NAMES:
        recorded = _record(name, None)
        path = chosen.out / f"{name}.json"
        here = _finished(path, chosen.scale)
        if here is None:
            print(f"{name}: running", file=sys.stderr)
            here = _run_into(path, chosen.scale, resume=True)
        comparison = None if recorded is None else compare(here, recorded)
        agree = [] if comparison is None else [c for c in comparison.claims if c.agrees]
        rows.append(
            (
                name,
                f"{here.provenance['wall_seconds']:.0f}",
                str(len(here.claims)),
                str(len(agree)) if comparison and not comparison.obstacle else "not compared",
            )
        )
        seconds += here.provenance["wall_seconds"]
        if comparison is not None and comparison.agrees is False:
            differing += [
                f"{c.id}: {c.here.verdict} here, {c.recorded.verdict} on record"
                for c in comparison.claims
                if c.agrees is False and c.here and c.recorded
            ]
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    for row in rows:
        print(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        )
    print(f"{seconds / 60:.0f} minutes in all; the results are in {chosen.out}")
    for line in differing:
        print(f"DOES NOT AGREE: {line}")
    return Status.VERDICTS_DIFFER if differing else Status.OK


def _finished(path: Path, scale: str) -> Summary | None:
    """The result of an earlier call, if this revision of the package made it at this scale."""
    if not path.exists():
        return None
    found = records.summary(path)
    now = records.revision()
    made = found.provenance["revision"]
    return found if found.scale == scale and made == now and "-dirty" not in now else None


def _run_into(path: Path, scale: str, count: int | None = None, *, resume: bool) -> Summary:
    """Run the experiment that a file is named after, and write its result there.

    With `resume`, finished parts are kept beside it until then, and found again.
    """
    _check_writable(path)
    experiment = registry.get(path.stem)
    parts = path.with_suffix(f".{scale}.parts") if resume else None
    seeds = None if count is None else tuple(range(count))
    result = experiment.run(scale, seeds, progress=True, resume=parts)
    records.save(path, records.record(experiment.NAME, result))
    if parts is not None:  # all in the result now
        shutil.rmtree(parts, ignore_errors=True)
    return records.summary(path)


def _record(name: str, folder: Path | None) -> Summary | None:
    """The record to compare with: it must be there if asked for, and need not be otherwise."""
    path = (folder or RESULTS) / f"{name}.json"
    if folder is None and not path.exists():
        return None
    try:
        return records.summary(path)
    except FileNotFoundError:
        raise FileNotFoundError(
            f"--compare {folder}: there is no {path}; leave the option out, or name a folder that "
            "holds one"
        ) from None
    except records.RecordError as error:
        if folder is not None:
            raise
        # Running anew is what mends a bad record, so it must not stand in the way.
        print(f"nothing to compare with: {error}", file=sys.stderr)
        return None


def _check_writable(path: Path) -> None:
    """Raise OSError if a record could not be written there."""
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; move it, or give another --out")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise OSError(
            f"--out {path.parent} is not a folder that can be written to ({error.strerror}); "
            "give another"
        ) from error


def _print_run(here: Summary, comparison: Comparison | None) -> None:
    print(f"{here.experiment}, {here.scale} scale, {seeds_in_words(here.seeds)}")
    beside = {} if comparison is None else {each.id: each for each in comparison.claims}
    for claim in here.claims:
        print(f"{claim.id}: {claim.verdict}, {spread(claim.effects, claim.unit)}")
        if claim.id not in beside:
            continue
        compared = beside[claim.id]
        if compared.recorded is None or compared.obstacle:
            print(f"  cannot be compared: {compared.obstacle}")
        else:
            there, same = compared.recorded, "agrees" if compared.agrees else "DOES NOT AGREE"
            print(f"  on record: {there.verdict}, {spread(there.effects, there.unit)}: {same}")
    for id_, each in beside.items():
        if each.here is None and each.recorded is not None:
            print(f"{id_}: {each.obstacle} ({each.recorded.verdict})")
    if comparison is None:
        print("There is no record to compare with.")
        return
    print(comparison.sentence)
    for difference in comparison.differences:
        print(f"  not the same: {difference}")


def _as_json(comparison: Comparison) -> dict[str, Any]:
    return {
        "record": comparison.recorded.path.as_posix(),
        "sentence": comparison.sentence,
        "agrees": comparison.agrees,
        "obstacle": comparison.obstacle,
        "differences": list(comparison.differences),
        "claims": [
            {
                "id": each.id,
                "here": each.here and each.here.verdict.value,
                "recorded": each.recorded and each.recorded.verdict.value,
                "recorded_effects": each.recorded and schema.plain(each.recorded.effects),
                "agrees": each.agrees,
                "obstacle": each.obstacle,
            }
            for each in comparison.claims
        ],
    }


def _show(chosen: argparse.Namespace) -> Status:
    path: Path = chosen.folder / f"{chosen.name}.json"
    if not path.exists():
        there = {file.stem for file in chosen.folder.glob("*.json")} - set(schema.TABLES)
        raise FileNotFoundError(
            f"there is no {path}; {chosen.folder} holds {', '.join(sorted(there)) or 'no record'}. "
            f"`run NAME --out {chosen.folder}` makes one"
        )
    summary = records.summary(path)
    if chosen.json:
        _print_json(schema.plain(summary))
        return Status.OK
    made = summary.provenance
    processor, data = made["processor"], made["data"]
    print(f"{summary.experiment}: {summary.title}")
    print(f"  {summary.scale} scale, {seeds_in_words(summary.seeds)}")
    print(f"  recorded on {made['date']} at revision {made['revision']}")
    print(f"  data: {data['name']}, sha256 {data['sha256']}")
    print(f"  with {', '.join(f'{name} {version}' for name, version in made['versions'].items())}")
    print(
        f"  in {made['wall_seconds']:.0f} s on {processor['cores']} cores "
        f"({processor['machine']}, {processor['capability']})"
    )
    for claim in summary.claims:
        print(f"\n{claim.id}: {claim.verdict}, {spread(claim.effects, claim.unit)}")
        print(f"  {claim.statement} ({claim.source})")
        print(f"  holds if {claim.criterion}")
        for effect in claim.effects:
            print(f"  seed {effect.seed}: {spread([effect], claim.unit)}")
    if not summary.claims:
        print("\nIt makes no claims.")
    return Status.OK


def _schema(chosen: argparse.Namespace) -> Status:
    _print_json(schema.document(chosen.name))
    return Status.OK


def _print_json(value: Any) -> None:
    print(json.dumps(schema.plain(value), indent=2, allow_nan=False))


def _count(text: str) -> int:
    count = int(text) if text.isdecimal() else 0
    if count < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seeds; give 1 or more")
    return count


if __name__ == "__main__":
    sys.exit(main())
