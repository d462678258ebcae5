"""A small experiment of the tests' own, registered for as long as a test runs: coins are tossed."""

import sys
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from bn_core.experiments import records, registry
from bn_core.experiments.claims import Claim, Effect

PROVENANCE = {
    "date": "2026-01-31",
    "revision": "abc",
    "versions": {"python": "3.11", "torch": "2.4", "numpy": "2.0", "bn-core": "0.1.0"},
    "processor": {"machine": "x86_64", "cores": 2, "capability": "AVX2"},
    "data": {"name": "coins", "sha256": "0" * 64},
    "wall_seconds": 0.5,
}


@dataclass(frozen=True)
class Run:
    seed: int
    value: float
    stopped_at: int | None = None


@dataclass(frozen=True)
class Result:
    scale: str
    seeds: tuple[int, ...]
    runs: tuple[Run, ...]
    provenance: dict[str, Any]


def measure(result, seed):
    return Effect(seed, next(run.value for run in result.runs if run.seed == seed))


def result(*values, scale="live", provenance=PROVENANCE):
    runs = tuple(Run(seed, value) for seed, value in enumerate(values))
    return Result(scale, tuple(range(len(values))), runs, provenance)


@pytest.fixture
def toss(monkeypatch):
    """The experiment "toss": seed i tosses `outcomes[i]`, and its one claim asks for more than 1.

    `called` keeps what `run` was called with.
    """
    module = ModuleType("bn_core.experiments.toss")
    module.NAME, module.TITLE = "toss", "Tossing coins"
    module.SCALES = {"live": SimpleNamespace(seeds=2), "paper": SimpleNamespace(seeds=3)}
    module.CLAIMS = (
        Claim("toss.heads", "Heads it is.", "ioffe2015, section 0", "heads", "x", 1.0, measure),
    )
    module.Result, module.Run, module.result = Result, Run, result
    module.outcomes, module.called = [2.0, 3.0, 4.0], []

    def run(scale, seeds=None, progress=False, resume=None):
        seeds = registry.choose_seeds("toss", scale, module.SCALES, seeds)
        module.called.append({"scale": scale, "seeds": seeds, "resume": resume})
        if progress:
            print("tossing", file=sys.stderr)
        return result(*module.outcomes[: len(seeds)], scale=scale)

    module.run = run
    module.recorded = lambda folder: records.result(folder, "toss", Result)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(registry, "NAMES", (*registry.NAMES, "toss"))
    return module
