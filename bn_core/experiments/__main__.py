"""The command line of the experiments: `python -m bn_core.experiments list | run NAME`."""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from bn_core.experiments import records, registry
from bn_core.experiments.claims import Effect, judge
from bn_core.lab.data import DataError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m bn_core.experiments", description="Run the experiments of the book."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="the experiments and their claims")
    run = commands.add_parser("run", help="run one, print its verdicts, write its result")
    run.add_argument("name", choices=registry.NAMES)
    run.add_argument(
        "--scale",
        default="live",
        choices=("live", "paper"),
        help="live: embedded digits, about a minute; paper: the source's own size",
    )
    run.add_argument(
        "--seeds", type=_count, metavar="N", help="run seeds 0 to N-1 (default: the scale's)"
    )
    run.add_argument(
        "--out",
        type=Path,
        default=Path("runs"),
        metavar="DIR",
        help="folder for NAME.json (default: %(default)s)",
    )
    chosen = parser.parse_args(arguments)
    if chosen.command == "list":
        return _list()
    try:
        return _run(chosen.name, chosen.scale, chosen.seeds, chosen.out)
    except (DataError, OSError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{parser.prog}: interrupted; nothing was written", file=sys.stderr)
        return 130


def _list() -> int:
    for name in registry.NAMES:
        experiment = registry.get(name)
        print(f"{name}: {experiment.TITLE}")
        for claim in experiment.CLAIMS:
            print(f"  {claim.id} ({claim.source})")
            print(f"    {claim.statement}")
            print(f"    holds if: {claim.criterion}")
    return 0


def _run(name: str, scale: str, count: int | None, out: Path) -> int:
    experiment = registry.get(name)
    out.mkdir(parents=True, exist_ok=True)  # find out now, not after an hour, that it cannot be
    path = out / f"{name}.json"
    started = time.perf_counter()
    result = experiment.run(scale, None if count is None else tuple(range(count)), progress=True)
    records.save(path, experiment.to_record(result))
    for claim in experiment.CLAIMS:
        judgement = judge(claim, result, result.seeds)
        effects = ", ".join(_text(effect, claim.unit) for effect in judgement.effects)
        print(f"{claim.id}: {judgement.verdict} [{effects}]")
    print(f"{path} written after {time.perf_counter() - started:.0f} s")
    return 0


def _text(effect: Effect, unit: str) -> str:
    return f"{effect.bound} {effect.value:.2f}{unit}".strip()


def _count(text: str) -> int:
    count = int(text) if text.isdecimal() else 0
    if count < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seeds; give 1 or more")
    return count


if __name__ == "__main__":
    sys.exit(main())
