"""Claims: a statement, where it comes from, how it is measured, and when it is said to hold."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Generic, TypeVar

Result = TypeVar("Result")

BOUNDS = ("", "at least", "at most")
OWN = "this book"  # the source of a question that nobody else raised


class Verdict(StrEnum):
    """What the seeds say of a claim: "holds", "does not hold" or "mixed"; see `Claim`."""

    HOLDS = "holds"
    DOES_NOT_HOLD = "does not hold"
    MIXED = "mixed"


@dataclass(frozen=True)
class Effect:
    """The size of what a claim is about, for one seed.

    Attributes:
        seed: the seed.
        value: the size, in the claim's unit; NaN where it cannot be told.
        bound: "at least" or "at most" where the records do not tell the exact value, else
            empty.

    Raises:
        ValueError: another bound.
    """

    seed: int
    value: float
    bound: str = field(default="", metadata={"enum": list(BOUNDS)})

    def __post_init__(self) -> None:
        if self.bound not in BOUNDS:
            raise ValueError(f"Effect: bound is {self.bound!r}; it must be one of {BOUNDS}")

    def exceeds(self, threshold: float) -> bool | None:
        """Whether the effect is greater than a threshold; None if that cannot be told.

        Of "at least 0.9" it cannot be told whether it exceeds 1, nor of "at most 1.1", nor of NaN.
        """
        if math.isnan(self.value):
            return None
        found = self.value > threshold
        return None if self.bound == ("at most" if found else "at least") else found


@dataclass(frozen=True)
class Claim(Generic[Result]):
    """A statement that an experiment can fail.

    The criterion is one rule for all claims: the claim *holds* when the effect exceeds `threshold`
    in every seed, *does not hold* when it does so in none, and is *mixed* otherwise, or when it
    cannot be told of a seed. Were the effect a coin toss, five seeds would agree on "holds" once
    in 32 times, three seeds once in 8.

    Attributes:
        id: short name, experiment first.
        statement: in our words, one sentence.
        source: key in references.bib and section; "this book" for a question of our own.
        effect: what is measured, in words.
        unit: of the effect, for printing.
        threshold: what the effect must exceed.
        measure: the effect of one seed, from the experiment's result.
    """

    id: str
    statement: str
    source: str
    effect: str
    unit: str
    threshold: float
    measure: Callable[[Result, int], Effect]

    @property
    def criterion(self) -> str:
        """The criterion in words."""
        threshold = f"{self.threshold:.4g}".replace("-", "\N{MINUS SIGN}")
        unit = self.unit.removesuffix("s") if self.threshold == 1 else self.unit
        return f"more than {threshold}{typeset(unit)} in every seed: {self.effect}"


def typeset(unit: str) -> str:
    """A unit as it stands behind a number: not torn from it, and x as the sign for times."""
    unit = "\N{MULTIPLICATION SIGN}" if unit == "x" else unit
    return f"\N{NO-BREAK SPACE}{unit[1:]}" if unit.startswith(" ") else unit


@dataclass(frozen=True)
class Judgement:
    """A claim's effects, seed by seed, and the verdict that the criterion gives.

    It repeats what the claim says, so that it can be stored and read without the code that made it.

    Attributes:
        id: the claim's.
        statement: the claim's.
        source: the claim's.
        criterion: in words.
        unit: of effects and threshold.
        threshold: what the effect must exceed.
        effects: one for each seed.
        verdict: what follows from the effects and the threshold, see `decide`.
    """

    id: str
    statement: str
    source: str
    criterion: str
    unit: str
    threshold: float
    effects: tuple[Effect, ...]
    verdict: Verdict


def decide(effects: Sequence[Effect], threshold: float) -> Verdict:
    """The verdict of some effects: the one rule that `Claim` states.

    Args:
        effects: one for each seed; at least one.
        threshold: what each must exceed.

    Raises:
        ValueError: no effect.
    """
    if not effects:
        raise ValueError("decide: effects is empty; a verdict needs at least one")
    exceeds = {effect.exceeds(threshold) for effect in effects}
    if exceeds == {True}:
        return Verdict.HOLDS
    return Verdict.DOES_NOT_HOLD if exceeds == {False} else Verdict.MIXED


def judge(claim: Claim[Result], result: Result, seeds: Sequence[int]) -> Judgement:
    """Measure a claim's effect in every seed and apply its criterion.

    Args:
        claim: of the experiment that the result is of.
        result: what the experiment's `run` returned.
        seeds: the seeds to judge by; at least one.

    Raises:
        ValueError: no seed.
    """
    if not seeds:
        raise ValueError("judge: seeds is empty; a verdict needs at least one seed")
    effects = tuple(claim.measure(result, seed) for seed in seeds)
    return Judgement(
        id=claim.id,
        statement=claim.statement,
        source=claim.source,
        criterion=claim.criterion,
        unit=claim.unit,
        threshold=claim.threshold,
        effects=effects,
        verdict=decide(effects, claim.threshold),
    )
