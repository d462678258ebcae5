"""Whether a run comes to the verdicts of a record."""

from collections.abc import Sequence
from dataclasses import dataclass

from bn_core.experiments.claims import Judgement
from bn_core.experiments.records import Summary


@dataclass(frozen=True)
class Compared:
    """One claim in a run and in a record.

    Attributes:
        id: the claim's.
        here: as judged by the run; None if the run does not judge it.
        recorded: as the record has it; None if it does not.
    """

    id: str
    here: Judgement | None
    recorded: Judgement | None

    @property
    def obstacle(self) -> str:
        """Why the two verdicts cannot be compared; empty if they can."""
        if self.recorded is None:
            return "not in the record"
        if self.here is None:
            return "only in the record"
        if self.here.criterion != self.recorded.criterion:
            return f"the record has another criterion ({self.recorded.criterion})"
        return ""

    @property
    def agrees(self) -> bool | None:
        """Whether the verdicts are the same; None if they cannot be compared."""
        if self.here is None or self.recorded is None or self.obstacle:
            return None
        return self.here.verdict == self.recorded.verdict


@dataclass(frozen=True)
class Comparison:
    """A run beside a record, claim by claim.

    Attributes:
        recorded: the record.
        obstacle: why the two cannot be compared; empty if they can.
        claims: one for each claim of either; empty if the two cannot be compared.
        differences: what else is not the same, such as the seeds; it may explain a verdict.
    """

    recorded: Summary
    obstacle: str
    claims: tuple[Compared, ...]
    differences: tuple[str, ...]

    @property
    def agrees(self) -> bool | None:
        """Whether all verdicts that can be compared are the same; None if none can be."""
        found = [claim.agrees for claim in self.claims if claim.agrees is not None]
        return all(found) if found else None

    @property
    def sentence(self) -> str:
        """What the comparison comes to."""
        record = self.recorded
        about = f"{record.scale} scale, {seeds_in_words(record.seeds)}"
        of = f"{record.path} ({about}, {record.provenance['date']})"
        if self.obstacle:
            return f"Not compared with {of}: {self.obstacle}."
        can = [claim for claim in self.claims if claim.agrees is not None]
        if not can:
            return f"There is no claim to compare with {of}."
        differ = [claim.id for claim in can if not claim.agrees]
        if differ:
            verb = "differs" if len(differ) == 1 else "differ"
            verdicts = "verdict" if len(can) == 1 else "verdicts"
            return f"{len(differ)} of {len(can)} {verdicts} {verb} from {of}: {', '.join(differ)}."
        if len(can) == 1:
            return f"The verdict is the same as in {of}."
        return f"All {len(can)} verdicts are the same as in {of}."


def compare(here: Summary, recorded: Summary) -> Comparison:
    """Put the verdicts of a run beside those of a record.

    Verdicts of different scales answer different questions: then nothing is compared.

    Args:
        here: of the run.
        recorded: of the record.
    """
    obstacle = ""
    if here.experiment != recorded.experiment:
        obstacle = f"it is of {recorded.experiment}, and this run of {here.experiment}"
    elif here.scale != recorded.scale:
        obstacle = f"it is of {recorded.scale} scale, and this run of {here.scale} scale"
    if obstacle:
        return Comparison(recorded, obstacle, (), ())
    ours, theirs = ({claim.id: claim for claim in each.claims} for each in (here, recorded))
    return Comparison(
        recorded,
        obstacle,
        tuple(Compared(id, ours.get(id), theirs.get(id)) for id in {**ours, **theirs}),
        tuple(_differences(here, recorded)),
    )


def _differences(here: Summary, recorded: Summary) -> list[str]:
    """What may explain another verdict, in words."""
    found = []
    if here.seeds != recorded.seeds:
        found.append(f"{seeds_in_words(here.seeds)} here, {seeds_in_words(recorded.seeds)} there")
    data, other = here.provenance["data"], recorded.provenance["data"]
    if data != other:
        found.append(
            f"data {data['name']} {data['sha256'][:12]} here, "
            f"{other['name']} {other['sha256'][:12]} there"
        )
    versions, others = here.provenance["versions"], recorded.provenance["versions"]
    for name in {**versions, **others}:
        version, there = (each.get(name, "no version") for each in (versions, others))
        if version != there:
            found.append(f"{name} {version} here, {there} there")
    return found


def seeds_in_words(seeds: Sequence[int]) -> str:
    """Seeds such as "seed 3", "seeds 0 to 4" or "seeds 1, 5, 7"."""
    if len(seeds) == 1:
        return f"seed {seeds[0]}"
    if list(seeds) == list(range(seeds[0], seeds[0] + len(seeds))):
        return f"seeds {seeds[0]} to {seeds[-1]}"
    return f"seeds {', '.join(map(str, seeds))}"
