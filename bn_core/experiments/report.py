"""What is printed of claims: effects, verdicts and tables of both, as Markdown."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from os.path import normpath
from pathlib import Path
from typing import Any

from IPython.display import Markdown

from bn_core.experiments import records, registry
from bn_core.experiments.claims import OWN, Claim, Effect, Judgement, Verdict, judge, typeset


def spread(effects: Sequence[Effect], unit: str, threshold: float | None = None) -> str:
    """The effects of all seeds in a few words: lowest to highest.

    Args:
        effects: one for each seed; at least one.
        unit: written after the numbers.
        threshold: a number that they are to be told from, see `written`.

    Returns:
        Such as "17.0 to 18.5×", with "at least" or "at most" where the records
        do not tell, and the number of seeds whose effect cannot be told, if any.
    """
    known = sorted((e for e in effects if not math.isnan(e.value)), key=lambda each: each.value)
    unknown = len(effects) - len(known)
    if not known:
        return "cannot be told"
    low, high = (written(effect, threshold) for effect in (known[0], known[-1]))
    told = f"{low}{typeset(unit)}" if low == high else f"{low} to {high}{typeset(unit)}"
    return f"{told}; {unknown} of {len(effects)} cannot be told" if unknown else told


def written(effect: Effect, threshold: float | None = None) -> str:
    """The value as short as it can be read, with a true minus sign and its bound.

    To a hundredth; to a tenth from 10 on, to a whole number from 1,000 on; and what is less than a
    hundredth, and not 0 but for rounding, to its first digit.

    Args:
        effect: the effect of one seed.
        threshold: a number from which the value is told by as many digits as it takes, up to six.
    """
    if math.isnan(effect.value):
        return "cannot be told"
    size = abs(effect.value)
    form = ",.0f" if size >= 1000 else ".1f" if size >= 10 else ".2f"
    if 1e-6 < size < 0.01:
        form = f".{-math.floor(math.log10(size))}f"
    text = f"{effect.value:{form}}"
    for digits in range(1, 7):
        if threshold is None or float(text.replace(",", "")) != threshold:
            break
        text = f"{effect.value:.{digits}f}" if effect.value != threshold else text
    return f"{effect.bound} {text}".strip().replace("-", "\N{MINUS SIGN}")


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
    rows = []
    for claim in claims:
        cells = [f"{claim.statement} *({_cited(claim.source)})* Holds if {claim.criterion}."]
        for result in results.values():
            judgement = judge(claim, result, result.seeds)
            cells.append(
                f"**{judgement.verdict}**: {spread(judgement.effects, claim.unit, claim.threshold)}"
            )
        rows.append(cells)
    return _table(["Claim, source, criterion", *results], rows)


def tally(folder: Path) -> Markdown:
    """How many claims of every record in a folder hold, by whose claims they are.

    Args:
        folder: as for `scoreboard`.

    Raises:
        bn_core.experiments.records.RecordError: one of its JSON files is not a record.
        FileNotFoundError: it holds no record of an experiment.
    """
    claims = [claim for summary in _summaries(folder) for claim in summary.claims]
    counts: dict[str, Counter[str]] = {}
    for claim in claims:
        key = claim.source.partition(", ")[0]
        counts.setdefault(key, Counter())[claim.verdict] += 1
    ordered = sorted(counts, key=lambda key: (key == OWN, -counts[key].total(), key))
    rows = [[_cited(key), *_row(counts[key])] for key in ordered]
    rows.append(["**all**", *_row(Counter(claim.verdict for claim in claims))])
    return _table(["Claims of", "in all", *Verdict], rows)


def _row(counts: Counter[str]) -> list[str]:
    return [str(counts.total()), *(str(counts[verdict]) for verdict in Verdict)]


def scoreboard(folder: Path) -> Markdown:
    """Every claim of every record in a folder: a section for each, in the order of the chapters.

    Made of the records alone, without running or judging anything. The links lead to the chapter
    and to the record as seen from where the folder is seen.

    Args:
        folder: the book's `results`, relative to the page that shows the table.

    Raises:
        bn_core.experiments.records.RecordError: one of its JSON files is not a record.
        FileNotFoundError: it holds no record of an experiment.
    """
    sections = []
    for each in _summaries(folder):
        if not each.claims:
            continue
        rows = [
            [
                f"{claim.statement} ({_cited(claim.source)}) *Holds if {claim.criterion}.*",
                spread(claim.effects, claim.unit, claim.threshold),
                f"**{claim.verdict}**",
            ]
            for claim in each.claims
        ]
        head = ["Claim, source, criterion", "Effect, lowest to highest", "Verdict"]
        number = _number(each.experiment)
        title = f"Chapter {number}: {each.title}" if number else each.title
        sections += [f"## {title}", _origin(each, folder), _table(head, rows).data]
    return Markdown("\n\n".join(sections))


def shortfalls(folder: Path) -> Markdown:
    """The claims of others that do not hold, or only in some seeds, as a list.

    Args:
        folder: as for `scoreboard`.

    Raises:
        bn_core.experiments.records.RecordError: one of its JSON files is not a record.
        FileNotFoundError: it holds no record of an experiment.
    """
    lines = [
        f"- **{claim.verdict}** ({spread(claim.effects, claim.unit)}): {claim.statement} "
        f"{_cited(claim.source)}{_see(each.experiment, folder)}"
        for each in _summaries(folder)
        for claim in each.claims
        if claim.verdict != Verdict.HOLDS and claim.source != OWN
    ]
    return Markdown("\n".join(lines or ["None."]))


def _see(experiment: str, folder: Path) -> str:
    number = _number(experiment)
    return f"; [chapter {number}]({_chapter(experiment, folder)})" if number else ""


def _number(experiment: str) -> int | None:
    """Of the chapter that shows an experiment, if there is one."""
    if experiment not in registry.CHAPTERS:
        return None
    return int(registry.CHAPTERS[experiment].partition("_")[0])


def _chapter(experiment: str, folder: Path) -> str:
    """The path to that chapter, as seen from where the folder is seen."""
    chapters = normpath(folder / ".." / "chapters")
    return Path(chapters, f"{registry.CHAPTERS[experiment]}.ipynb").as_posix()


def _summaries(folder: Path) -> list[records.Summary]:
    found = records.summaries(folder)
    if not found:
        raise FileNotFoundError(
            f"report: {folder} holds no record of an experiment; `make paper` makes them"
        )
    return found


def _origin(summary: records.Summary, folder: Path) -> str:
    """Where an experiment is shown, and what its record is of."""
    made = summary.provenance
    seeds = f"{len(summary.seeds)} seed" + "s" * (len(summary.seeds) > 1)
    record = (
        f"{{download}}`record <{summary.path.as_posix()}>` of {summary.scale} scale, {seeds}, made "
        f"on {made['date']} at revision `{made['revision']}`"
    )
    if _number(summary.experiment) is None:
        return f"The {record}."
    return f"[The chapter]({_chapter(summary.experiment, folder)}); the {record}."


def _cited(source: str) -> str:
    """The source with its key as a citation, if it has one, and the section, if it names one."""
    if source == OWN:
        return source
    key, comma, section = source.partition(", ")
    return f"{{cite:t}}`{key}`{comma}{section}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Markdown:
    lines = [list(head), ["---"] * len(head)]
    lines += [[cell.replace("|", "\\|") for cell in row] for row in rows]
    return Markdown("\n".join(f"| {' | '.join(line)} |" for line in lines))
