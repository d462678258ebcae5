"""Many independent runs at once, on all cores, with one progress bar for all of them."""

import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from joblib import Parallel, cpu_count, delayed
from tqdm import tqdm

Job = TypeVar("Job")
Outcome = TypeVar("Outcome")


def run_all(
    run: Callable[[Job, Callable[[int], object]], Outcome],
    jobs: Sequence[Job],
    *,
    steps: int,
    progress: str | None = None,
    workers: int | None = None,
) -> list[Outcome]:
    """Call `run` for every job, in parallel processes of one thread each.

    One thread each, because a small network keeps one core busy and no more, and because the bits
    of a result then depend neither on the number of workers nor on the cores of the machine.

    Args:
        run: called as run(job, report); it calls report(steps done) as it goes. A function of a
            module, since other processes import it.
        jobs: what to run, in order.
        steps: steps that each job takes, for the progress bar.
        progress: label of the progress bar on stderr; None for none.
        workers: processes; by default one for each core, at most one for each job.

    Returns:
        The outcomes, in the order of the jobs.
    """
    workers = min(workers or cpu_count(), len(jobs))
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        # Every process writes its steps into its own cell of one shared file, and the bar reads
        # the sum: no queue or server, and a run does not wait for the bar.
        shared = Path(folder) / "steps"
        done = np.memmap(shared, dtype=np.int64, mode="w+", shape=(len(jobs),))
        bar = tqdm(
            total=steps * len(jobs),
            desc=progress,
            disable=progress is None,
            unit="step",
            leave=False,
        )
        finished = threading.Event()

        def follow() -> None:
            while not finished.wait(0.5):
                bar.update(int(done.sum()) - bar.n)

        follower = threading.Thread(target=follow, daemon=True)
        follower.start()
        try:
            outcomes: list[Outcome] = Parallel(n_jobs=workers)(
                delayed(_one)(run, job, i, shared, len(jobs)) for i, job in enumerate(jobs)
            )
        finally:
            finished.set()
            follower.join()
            bar.close()
    return outcomes


def _one(run: Callable[[Any, Any], Any], job: Any, i: int, shared: Path, jobs: int) -> Any:
    done = np.memmap(shared, dtype=np.int64, mode="r+", shape=(jobs,))

    def report(step: int) -> None:
        done[i] = step

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return run(job, report)
    finally:
        torch.set_num_threads(threads)
