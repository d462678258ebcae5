"""Which experiments there are, and what every one of them offers."""

import importlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

from bn_core.experiments.claims import Claim

NAMES = ("figure1", "figure1_settings")


class Size(Protocol):
    """What every scale of every experiment has."""

    @property
    def seeds(self) -> int:
        """How many seeds, unless told otherwise."""
        ...


class Experiment(Protocol):
    """What a module of an experiment offers."""

    NAME: str
    TITLE: str
    SCALES: Mapping[str, Size]
    CLAIMS: Sequence[Claim[Any]]
    run: Callable[..., Any]
    to_record: Callable[[Any], dict[str, Any]]
    recorded: Callable[[Path], Any]


def get(name: str) -> Experiment:
    """The module of one experiment.

    Args:
        name: one of `NAMES`.

    Raises:
        ValueError: another name.
    """
    if name not in NAMES:
        raise ValueError(
            f"registry.get: there is no experiment {name!r}; there is {', '.join(NAMES)}"
        )
    return cast(Experiment, importlib.import_module(f"bn_core.experiments.{name}"))


def choose_seeds(
    experiment: str, scale: str, scales: Mapping[str, Size], seeds: Sequence[int] | None
) -> tuple[int, ...]:
    """The seeds of a run: those given, or 0, 1, ... as many as the scale has.

    Args:
        experiment: its name, for the message.
        scale: a key of `scales`.
        scales: the experiment's.
        seeds: those asked for, or None.

    Raises:
        ValueError: an unknown scale, or no seed.
    """
    if scale not in scales:
        raise ValueError(f"{experiment}.run: scale is {scale!r}; it must be one of {list(scales)}")
    if seeds is None:
        return tuple(range(scales[scale].seeds))
    if not seeds:
        raise ValueError(f"{experiment}.run: seeds is empty; give at least one")
    return tuple(seeds)
