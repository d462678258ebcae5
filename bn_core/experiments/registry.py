"""Which experiments there are, and what every one of them offers."""

import importlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

from bn_core.experiments.claims import Claim

# Each experiment, and the chapter that shows it.
CHAPTERS = {
    "covariate_shift": "01_covariate_shift",
    "internal_shift": "02_internal_covariate_shift",
    "saturation": "03_saturation",
    "outside_the_gradient": "04_why_not_just_normalize",
    "simplifications": "05_algorithm_1",
    "projected_gradient": "06_the_gradient",
    "population_statistics": "07_algorithm_2",
    "feature_maps": "08_convolutions",
    "figure1": "09_activations_over_time",
    "figure1_settings": "09_activations_over_time",
    "higher_learning_rates": "10_higher_learning_rates",
    "regularization": "11_normalization_or_regularization",
    "sigmoid_depth": "12_saturating_nonlinearities",
    "accelerating": "13_accelerating",
    "inside_a_network": "14_inside_a_network",
}
NAMES = tuple(CHAPTERS)
"""The names of all experiments, in the order of the chapters."""


class Size(Protocol):
    """What every scale of every experiment has."""

    @property
    def seeds(self) -> int:
        """How many seeds, unless told otherwise."""
        ...


class Experiment(Protocol):
    """What a module of an experiment offers.

    Attributes:
        NAME: as in `NAMES`.
        TITLE: what it is about.
        SCALES: the sizes in which it can be run.
        CLAIMS: the claims it bears on, if any.
        Result: the dataclass that `run` returns, of such fields as
            `bn_core.experiments.schema.of` knows; among them scale, seeds and provenance.
        run: called as run(scale, seeds, progress, resume); `resume` is a folder in which finished
            parts of an interrupted run are kept and found again, or None.
        recorded: the recorded result in a folder.
    """

    NAME: str
    TITLE: str
    SCALES: Mapping[str, Size]
    CLAIMS: Sequence[Claim[Any]]
    Result: type
    run: Callable[..., Any]
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


def all_claims() -> dict[str, Claim[Any]]:
    """The claims of all experiments by their id, in the order of the registry."""
    return {claim.id: claim for name in NAMES for claim in get(name).CLAIMS}


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
