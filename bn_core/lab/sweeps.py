"""Many independent runs at once, on all cores or on a cluster, with one progress bar for all."""

import operator
import os
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import joblib
import numpy as np
import torch
from joblib import cpu_count
from joblib.parallel import LokyBackend, get_active_backend
from numpy.typing import NDArray
from tqdm import tqdm

Job = TypeVar("Job")
Outcome = TypeVar("Outcome")


class Report:
    """What `run_all` hands to a run: call it with the number of steps done.

    Attributes:
        checkpoint: file for the run to keep its state in, as `bn_core.lab.training.train` does;
            None without `resume`. `run_all` deletes it once the run's outcome is stored.
    """

    def __init__(self, checkpoint: Path | None, steps: NDArray[np.int64] | None) -> None:
        self.checkpoint = checkpoint
        self._steps = steps

    def __call__(self, step: int) -> None:
        """Move the progress bar."""
        if self._steps is not None:
            self._steps[...] = step


def run_all(
    run: Callable[[Job, Report], Outcome],
    jobs: Iterable[Job],
    *,
    steps: int,
    progress: str | None = None,
    workers: int | None = None,
    resume: str | os.PathLike[str] | None = None,
) -> list[Outcome]:
    """Call `run` for every job, in parallel, with one thread each.

    One thread each, because a small network keeps one core busy and no more, and because the bits
    of a result then depend neither on the number of workers nor on the cores of the machine.

    Where they run is joblib's affair: by default in processes of this machine, and inside
    `joblib.parallel_config(...)` where that says, for example on the Dask cluster that a
    `distributed.Client` is connected to with `parallel_config(backend="dask")`. The progress bar
    then moves when a job is finished; here it moves with the steps.

    With `resume`, each outcome is stored in that folder when it arrives. After Ctrl-C, an error or
    the death of this process, the same call takes finished jobs from there, and the others may
    continue from their checkpoints. A folder belongs to one state of the code: nothing notices
    when `run` itself has changed. On a cluster, the workers see `report.checkpoint` if the folder
    is on a file system that all share.

    Args:
        run: called as run(job, report); it calls report(steps done) as it goes. A function of a
            module, since other processes import it, and outcomes are stored under its name. What it
            raises comes with a note that says in which job.
        jobs: what to run, in order. With `resume`, values that `joblib.hash` can tell apart:
            numbers, strings, and tuples, lists, dictionaries and dataclasses of them.
        steps: steps that each job takes, for the progress bar.
        progress: label of the progress bar on stderr; None for none.
        workers: how many jobs at a time; by default what `parallel_config` says, or one for each
            core.
        resume: folder for outcomes, which are pickled, and checkpoints; made if missing.

    Returns:
        The outcomes, in the order of the jobs.

    Raises:
        ValueError: workers is not positive, steps is negative, `resume` is not a folder, or a file
            in it is damaged.
        TypeError: workers or steps is not an integer; or, with `resume`, run is not a function of a
            module.
    """
    jobs, steps = list(jobs), operator.index(steps)
    if steps < 0:
        raise ValueError(f"run_all: steps is {steps}; it must be at least 0")
    if workers is not None and operator.index(workers) < 1:
        raise ValueError(f"run_all: workers is {workers}; it must be at least 1, or None for all")
    outcomes: dict[int, Any] = {}
    files = [None] * len(jobs) if resume is None else _files(Path(resume), run, jobs, steps)
    for i, file in enumerate(files):
        if file is not None and file.exists():
            outcomes[i] = _stored(file)
    left = [i for i in range(len(jobs)) if i not in outcomes]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        # Every process writes its steps into its own cell of one shared file, and the bar reads
        # the sum: no queue or server, and a run does not wait for the bar.
        shared = Path(folder) / "steps"
        done = np.memmap(shared, dtype=np.int64, mode="w+", shape=(len(jobs) + 1,))
        done[list(outcomes)] = steps
        tasks = [
            joblib.delayed(_one)(
                run, jobs[i], i, shared, None if file is None else file.with_suffix(".checkpoint")
            )
            for i, file in ((i, files[i]) for i in left)
        ]
        with (
            _bar(progress, done, steps * len(jobs)),
            closing(_parallel(tasks, workers)) as arrivals,
        ):
            for i, outcome in arrivals:
                outcomes[i] = outcome
                done[i] = steps
                file = files[i]
                if file is not None:
                    _store(outcome, file)
                    file.with_suffix(".checkpoint").unlink(missing_ok=True)
    return [outcomes[i] for i in range(len(jobs))]


def _parallel(tasks: Sequence[Any], workers: int | None) -> Generator[tuple[int, Any], None, None]:
    """Results as they arrive."""
    if not tasks:
        return
    backend, configured = get_active_backend()
    everything = cpu_count() if isinstance(backend, LokyBackend) else -1
    n_jobs = joblib.effective_n_jobs(workers or configured or everything)
    yield from joblib.Parallel(
        n_jobs=min(n_jobs, len(tasks)), batch_size=1, return_as="generator_unordered"
    )(tasks)


def _one(
    run: Callable[[Any, Report], Any], job: Any, i: int, shared: Path, checkpoint: Path | None
) -> tuple[int, Any]:
    try:
        done = np.memmap(shared, dtype=np.int64, mode="r+")[i : i + 1]
    except OSError:  # on another machine
        done = None
    with _one_thread():
        try:
            return i, run(job, Report(checkpoint, done))
        except Exception as e:
            e.add_note(f"run_all: in job {i}, {repr(job)[:200]}")
            raise


_lock = threading.Lock()
_inside = 0  # runs in this process
_threads_outside = 1


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let torch compute with one thread, also where several runs share a process."""
    global _inside, _threads_outside
    with _lock:
        if _inside == 0:
            _threads_outside = torch.get_num_threads()
        _inside += 1
        torch.set_num_threads(1)
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                torch.set_num_threads(_threads_outside)


@contextmanager
def _bar(label: str | None, done: NDArray[np.int64], total: int) -> Iterator[None]:
    """A bar that follows the sum of `done`."""
    bar = tqdm(
        total=total,
        initial=int(done.sum()),
        desc=label,
        disable=label is None,
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
        yield
    finally:
        finished.set()
        follower.join()
        bar.close()


def _files(
    folder: Path, run: Callable[..., Any], jobs: Sequence[Any], steps: int
) -> list[Path | None]:
    """Where each outcome is stored: named after what was run; equal jobs are numbered."""
    if not _is_of_a_module(run):
        raise TypeError(
            f"run_all: run is {run!r}; with resume it must be a function of a module, whose name "
            "says which outcomes are its own. Put what it holds into the jobs"
        )
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"run_all: resume is {folder}, which is not a folder")
    folder.mkdir(parents=True, exist_ok=True)
    seen: Counter[str] = Counter()
    files: list[Path | None] = []
    for job in jobs:
        key = joblib.hash((run.__module__, run.__qualname__, steps, job))
        seen[key] += 1
        files.append(folder / f"{key}-{seen[key]}.outcome")
    return files


def _is_of_a_module(run: Callable[..., Any]) -> bool:
    """Whether its name leads to it."""
    try:
        return operator.attrgetter(run.__qualname__)(sys.modules[run.__module__]) is run
    except (AttributeError, KeyError):
        return False


def _store(outcome: Any, file: Path) -> None:
    """Whoever reads finds no file or the whole one."""
    beside = file.with_name(f"{file.name}.part")
    try:
        joblib.dump(outcome, beside)
        beside.replace(file)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def _stored(file: Path) -> Any:
    try:
        return joblib.load(file)
    except OSError:
        raise
    except Exception as e:
        raise ValueError(
            f"run_all: {file} is not an outcome that can be read ({type(e).__name__}: {e}); delete "
            "it, and that job runs again"
        ) from e
