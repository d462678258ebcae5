"""The settings that section 4.1 leaves out: learning rate, initial weights and optimizer, swept.

Every combination trains the Figure 1 network with and without batch normalization on full MNIST,
and is scored on 10,000 digits held out of the training set: the test set is never looked at. The
score is the mean validation accuracy over the run, evenly over its steps, so it rewards learning
soon and learning well.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bn_core.experiments import records
from bn_core.experiments.claims import Claim
from bn_core.experiments.figure1 import BATCH_SIZE, stack_of_networks
from bn_core.experiments.registry import choose_seeds
from bn_core.lab.data import ImageSet, load
from bn_core.lab.sweeps import Report, run_all
from bn_core.lab.training import accuracy, predict, train_stack

NAME = "figure1_settings"
TITLE = "Learning rate, initial weights and optimizer of the Figure 1 network"

OPTIMIZERS: dict[str, Callable[[Any, float], torch.optim.Optimizer]] = {
    "sgd": lambda parameters, lr: torch.optim.SGD(parameters, lr=lr),
    "momentum": lambda parameters, lr: torch.optim.SGD(parameters, lr=lr, momentum=0.9),
    "adam": lambda parameters, lr: torch.optim.Adam(parameters, lr=lr),
}
"""What makes an optimizer of parameters and learning rate, by name ("sgd", "momentum", "adam");
momentum is 0.9.

:meta hide-value:
"""


@dataclass(frozen=True)
class Setting:
    """One combination.

    Attributes:
        batch_norm: with batch normalization or without.
        optimizer: a key of `OPTIMIZERS`.
        lr: learning rate.
        init_std: standard deviation of the initial weights.
    """

    batch_norm: bool
    optimizer: str
    lr: float
    init_std: float


@dataclass(frozen=True)
class Scale:
    """The size of a sweep.

    Attributes:
        data: name of the image set.
        hold_out: number of training digits kept for validation.
        steps: of training.
        seeds: how many, unless told otherwise.
        rates: learning rates for each optimizer.
        init_stds: standard deviations of the initial weights, for each optimizer.
    """

    data: str
    hold_out: int
    steps: int
    seeds: int
    rates: dict[str, tuple[float, ...]]
    init_stds: dict[str, tuple[float, ...]]


SCALES = {
    "live": Scale(
        data="mnist-5k",
        hold_out=1_000,
        steps=500,
        seeds=1,
        rates={"sgd": (0.1, 1.0)},
        init_stds={"sgd": (0.1, 1.0)},
    ),
    "paper": Scale(
        data="mnist",
        hold_out=10_000,
        steps=5_000,
        seeds=3,
        rates={
            "sgd": (0.03, 0.1, 0.3, 1.0, 3.0, 10.0),
            "momentum": (0.003, 0.01, 0.03, 0.1, 0.3, 1.0),
            "adam": (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1),
        },
        init_stds={
            "sgd": (0.01, 0.03, 0.1, 0.3, 1.0),
            "momentum": (0.1,),
            "adam": (0.1,),
        },
    ),
}


@dataclass(frozen=True)
class Result:
    """All scores of one sweep.

    Attributes:
        scale: "live" or "paper".
        settings: what was tried.
        seeds: the seeds.
        scores: (settings, seeds) mean validation accuracy over the run; after divergence, the
            accuracy counts as 0 for the rest of the run.
        provenance: what it was made with.
    """

    scale: str
    settings: tuple[Setting, ...]
    seeds: tuple[int, ...]
    scores: list[list[float]]
    provenance: dict[str, Any]

    def mean_scores(self, batch_norm: bool, optimizer: str = "sgd") -> dict[Setting, float]:
        """Mean score over the seeds, for each setting of one network and optimizer."""
        return {
            setting: float(np.mean(scores))
            for setting, scores in zip(self.settings, self.scores, strict=True)
            if (setting.batch_norm, setting.optimizer) == (batch_norm, optimizer)
        }

    def best(self, batch_norm: bool, optimizer: str = "sgd") -> Setting:
        """The setting of the highest mean score."""
        scores = self.mean_scores(batch_norm, optimizer)
        return max(scores, key=lambda setting: scores[setting])

    def at_edge(self, setting: Setting) -> list[str]:
        """Which of "lr" and "init_std" stand at the lowest or highest value tried, if several."""
        edges = []
        for name in ("lr", "init_std"):
            tried = {
                getattr(other, name)
                for other in self.mean_scores(setting.batch_norm, setting.optimizer)
            }
            if len(tried) > 1 and getattr(setting, name) in (min(tried), max(tried)):
                edges.append(name)
        return edges


CLAIMS: tuple[Claim[Result], ...] = ()  # it chooses; chapter 10 makes claims of rates and scales


def run(
    scale: str = "live",
    seeds: Sequence[int] | None = None,
    progress: bool = False,
    resume: Path | None = None,
) -> Result:
    """Score every setting with every seed.

    Args:
        scale: "live" (a handful of settings, seconds) or "paper" (the sweep the book uses).
        seeds: by default 0 at live scale and 0, 1, 2 at paper scale.
        progress: show a progress bar on stderr.
        resume: folder in which finished parts and checkpoints are kept and found again; None for
            none.

    Raises:
        ValueError: an unknown scale, or no seed.
        bn_core.lab.data.DataError: the data are not to be had.
    """
    seeds = choose_seeds(NAME, scale, SCALES, seeds)
    size = SCALES[scale]
    data = _digits(size.data, size.hold_out)
    settings = tuple(
        Setting(batch_norm, optimizer, lr, init_std)
        for optimizer, rates in size.rates.items()
        for init_std in size.init_stds[optimizer]
        for lr in rates
        for batch_norm in (True, False)
    )
    with records.provenance(data) as provenance:
        scores = run_all(
            _run_setting,
            [(setting, seeds, scale) for setting in settings],
            steps=size.steps,
            progress=f"{NAME}, {scale} scale" if progress else None,
            resume=resume,
        )
    rows = np.asarray(scores).round(4).tolist()
    return Result(scale, settings, seeds, rows, provenance)


def _run_setting(job: tuple[Setting, tuple[int, ...], str], report: Report) -> list[float]:
    """The score of each seed; a network that diverged counts 0 from there on."""
    setting, seeds, scale = job
    size = SCALES[scale]
    data = _digits(size.data, size.hold_out)
    stack = stack_of_networks(setting.batch_norm, setting.init_std, seeds)
    networks = [stack.unstack(s) for s in range(len(seeds))]
    record_at = range(size.steps // 20, size.steps + 1, size.steps // 20)
    trainings = train_stack(
        stack,
        data.train_images,
        data.train_labels,
        OPTIMIZERS[setting.optimizer](stack.parameters(), setting.lr),
        steps=size.steps,
        batch_size=BATCH_SIZE,
        generators=[torch.Generator().manual_seed(seed) for seed in seeds],
        watch=lambda _: [
            {"accuracy": accuracy(predict(network, data.test_images), data.test_labels)}
            for network in networks
        ],
        watch_at=record_at,
        report=report,
        checkpoint=report.checkpoint,
    )
    return [sum(t.measured.get("accuracy", [])) / len(record_at) for t in trainings]


@lru_cache(maxsize=1)
def _digits(name: str, hold_out: int) -> ImageSet:
    return load(name).binary().hold_out(hold_out)


def recorded(folder: Path) -> Result:
    """The recorded result in a folder such as the book's `results`."""
    return records.result(folder, NAME, Result)
