"""What a chapter prints of its claims: effects, verdicts and the table of both, as Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

from IPython.display import Markdown

from bn_core.experiments.claims import Claim, Effect, Judgement, judge


def spread(effects: Sequence[Effect], unit: str) -> str:
    """The effects of all seeds in a few words: lowest to highest.

    Args:
        effects: one for each seed; at least one.
        unit: written after the numbers.

    Returns:
        Such as "17.0 to 18.5x", with "at least" or "at most" where the records
        do not tell.
    """
    ordered = sorted(effects, key=lambda effect: effect.value)
    low, high = (_written(effect) for effect in (ordered[0], ordered[-1]))
    return f"{low}{unit}" if low == high else f"{low} to {high}{unit}"


def _written(effect: Effect) -> str:
    """The value to a hundredth, or a tenth from 10 on, with a true minus sign and its bound."""
    digits = 1 if abs(effect.value) >= 10 else 2
    return f"{effect.bound} {effect.value:.{digits}f}".strip().replace("-", "\N{MINUS SIGN}")


def judge_all(claims: Sequence[Claim[Any]], result: Any) -> dict[str, Judgement]:
    """Every claim judged by every seed of a result, by the claim's id.

    Args:
        claims: of the experiment that the result is of.
        result: what its `run` or `recorded` returned.
    """
    return {claim.id: judge(claim, result, result.seeds) for claim in claims}


def verdict_table(claims: Sequence[Claim[Any]], results: Mapping[str, Any]) -> Markdown:
    """A table of claims: statement, source, criterion, and effect and verdict at each scale.

    Args:
        claims: one for each row.
        results: for each scale's heading, a result of the claims' experiment.
    """
    head = ["Claim, source, criterion", *results]
    lines = ["| " + " | ".join(head) + " |", "| " + " | ".join("---" for _ in head) + " |"]
    for claim in claims:
        cells = [f"{claim.statement} *({_cited(claim.source)})* Holds if: {claim.criterion}."]
        for result in results.values():
            judgement = judge(claim, result, result.seeds)
            cells.append(f"**{judgement.verdict}**: {spread(judgement.effects, claim.unit)}")
        lines.append("| " + " | ".join(cells) + " |")
    return Markdown("\n".join(lines))


def _cited(source: str) -> str:
    """The source with its key as a citation, if it has one."""
    key, comma, section = source.partition(", ")
    return f"{{cite:t}}`{key}`, {section}" if comma else source
