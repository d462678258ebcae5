"""Claims: a statement, where it comes from, how it is measured, and when it is said to hold."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

Result = TypeVar("Result")


class Verdict(StrEnum):
    """What the seeds say of a claim."""

    HOLDS = "holds"
    DOES_NOT_HOLD = "does not hold"
    MIXED = "mixed"


@dataclass(frozen=True)
class Effect:
    """The size of what a claim is about, for one seed.

    Attributes:
        seed: the seed.
        value: the size, in the claim's unit; NaN where it cannot be told.
        bound: "at least" or "at most" where the records do not tell the exact value.
    """

    seed: int
    value: float
    bound: str = ""


@dataclass(frozen=True)
class Claim(Generic[Result]):
    """A statement that an experiment can fail.

    The criterion is one rule for all claims: the claim *holds* when the effect exceeds `threshold`
    in every seed, *does not hold* when it does so in none, and is *mixed* otherwise, or when the
    effect of a seed cannot be told. Were the effect a coin toss, five seeds would agree on "holds"
    once in 32 times, three seeds once in 8.

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
        return f"{self.effect} > {self.threshold:g}{self.unit} in every seed"


@dataclass(frozen=True)
class Judgement:
    """A claim's effects, seed by seed, and the verdict that the criterion gives."""

    claim: str
    criterion: str
    effects: tuple[Effect, ...]
    verdict: Verdict


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
    exceeds = [effect.value > claim.threshold for effect in effects]
    if any(math.isnan(effect.value) for effect in effects) or any(exceeds) != all(exceeds):
        verdict = Verdict.MIXED
    else:
        verdict = Verdict.HOLDS if all(exceeds) else Verdict.DOES_NOT_HOLD
    return Judgement(claim.id, claim.criterion, effects, verdict)
