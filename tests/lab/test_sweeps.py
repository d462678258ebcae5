"""Many runs at once."""

import functools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import joblib
import pytest
import torch
from distributed import Client, LocalCluster
from torch import nn

from bn_core.lab.sweeps import run_all
from bn_core.lab.training import train

ROOT = Path(__file__).parents[2]


def threads_and_square(job, report):
    report(3)
    return torch.get_num_threads(), job**2


def fails_at_two(job, report):
    if job == 2:
        raise ZeroDivisionError("job two")
    return job


def process(job, report):
    return job, os.getpid()


def counted(job, report):
    """Writes down that it ran."""
    folder, number = job
    with (folder / "ran").open("a") as file:
        file.write(f"{number}\n")
    return number


def ran(folder):
    return sorted(int(line) for line in (folder / "ran").read_text().split())


def trained(job, report):
    """A training of 40 steps that writes down where it begins; slow in the process that says so."""
    folder, seed = job
    begun = []

    def slowly(step):
        if not begun:
            begun.append(step)
            with (folder / "ran").open("a") as file:
                file.write(f"{step}\n")
        if seed == 1:
            time.sleep(float(os.environ.get("SECONDS_A_STEP", "0")))
        report(step)

    torch.manual_seed(seed)
    model = nn.Linear(3, 2)
    record = train(
        model,
        torch.arange(30.0).view(10, 3),
        torch.arange(10) % 2,
        torch.optim.SGD(model.parameters(), lr=0.01),
        steps=40,
        batch_size=5,
        watch_at=[20, 40],
        report=slowly,
        checkpoint=report.checkpoint,
        checkpoint_seconds=0,
    )
    return record.losses


def test_outcomes_come_in_the_order_of_the_jobs_and_each_run_has_one_thread():
    outcomes = run_all(threads_and_square, [3, 1, 2], steps=3, workers=2)
    assert outcomes == [(1, 9), (1, 1), (1, 4)]


def test_no_job_has_no_outcome():
    assert run_all(threads_and_square, [], steps=3) == []


def test_one_worker_runs_here_and_gives_back_the_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert run_all(threads_and_square, [5], steps=3) == [(1, 25)]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_an_error_of_a_run_reaches_the_caller():
    with pytest.raises(ZeroDivisionError, match="job two"):
        run_all(fails_at_two, [1, 2], steps=1, workers=2)


def test_an_error_of_a_run_says_in_which_job():
    with pytest.raises(ZeroDivisionError) as error:
        run_all(fails_at_two, [1, 2], steps=1, workers=2)
    assert error.value.__notes__ == ["run_all: in job 1, 2"]


def test_jobs_may_come_from_a_generator():
    assert run_all(threads_and_square, (job for job in (3, 1)), steps=3) == [(1, 9), (1, 1)]


class Power:
    """A callable object with a method."""

    def __init__(self, exponent):
        self.exponent = exponent

    def __call__(self, job, report):
        return job**self.exponent

    def of(self, job, report):
        return job**self.exponent


@pytest.mark.parametrize(
    "run", [Power(2), Power(2).of, functools.partial(counted), lambda job, report: job]
)
def test_with_resume_run_is_a_function_whose_name_leads_to_it(run, tmp_path):
    with pytest.raises(TypeError, match="with resume it must be a function of a module"):
        run_all(run, [1], steps=1, resume=tmp_path / "store")
    assert not list(tmp_path.iterdir())


def unpicklable(job, report):
    return (i for i in range(job))


def test_an_outcome_that_cannot_be_stored_leaves_nothing_behind(tmp_path):
    with pytest.raises(TypeError, match="pickle"):
        run_all(unpicklable, [1], steps=1, workers=1, resume=tmp_path)
    assert not list(tmp_path.iterdir())


def test_resume_is_a_folder_also_as_a_string(tmp_path):
    jobs = [(tmp_path, 4)]
    for _ in range(2):
        assert run_all(counted, jobs, steps=1, workers=1, resume=str(tmp_path / "store")) == [4]
    assert ran(tmp_path) == [4]
    with pytest.raises(ValueError, match=r"resume is .*ran, which is not a folder"):
        run_all(counted, jobs, steps=1, resume=tmp_path / "ran")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"workers": 1.5, "steps": 1}, TypeError, "integer"),
        ({"steps": 2.5}, TypeError, "integer"),
        ({"steps": -2}, ValueError, "steps is -2; it must be at least 0"),
    ],
)
def test_steps_and_workers_are_whole_numbers(options, error, message):
    with pytest.raises(error, match=message):
        run_all(threads_and_square, [1], **options)


def test_progress_is_quiet_unless_asked_for(capfd):
    run_all(threads_and_square, [1], steps=3)
    assert capfd.readouterr().err == ""
    run_all(threads_and_square, [1], steps=3, progress="squares")
    assert "squares" in capfd.readouterr().err


def test_workers_must_be_positive():
    with pytest.raises(ValueError, match="workers is 0"):
        run_all(threads_and_square, [1], steps=3, workers=0)


def test_parallel_config_says_how_many_and_where():
    with joblib.parallel_config(n_jobs=1):
        assert run_all(process, [1, 2], steps=1) == [(1, os.getpid()), (2, os.getpid())]
    with joblib.parallel_config(backend="threading", n_jobs=2):
        assert run_all(process, [1, 2], steps=1) == [(1, os.getpid()), (2, os.getpid())]


def test_runs_in_threads_have_one_thread_each_and_give_them_back():
    before = torch.get_num_threads()
    with joblib.parallel_config(backend="threading", n_jobs=2):
        outcomes = run_all(threads_and_square, range(6), steps=3)
    assert outcomes == [(1, job**2) for job in range(6)]
    assert torch.get_num_threads() == before


def test_finished_jobs_are_not_run_again(tmp_path):
    jobs = [(tmp_path, number) for number in (3, 1, 2)]
    store = tmp_path / "store"
    assert run_all(counted, jobs[:2], steps=1, workers=1, resume=store) == [3, 1]
    assert run_all(counted, jobs, steps=1, workers=1, resume=store) == [3, 1, 2]
    assert ran(tmp_path) == [1, 2, 3]
    assert {file.suffix for file in store.iterdir()} == {".outcome"}


def test_equal_jobs_are_jobs_of_their_own(tmp_path):
    jobs = [(tmp_path, 4), (tmp_path, 4)]
    for _ in range(2):
        assert run_all(counted, jobs, steps=1, workers=1, resume=tmp_path / "store") == [4, 4]
    assert ran(tmp_path) == [4, 4]


def test_another_function_or_other_steps_are_other_jobs(tmp_path):
    jobs, store = [(tmp_path, 4)], tmp_path / "store"
    run_all(counted, jobs, steps=1, resume=store)
    run_all(counted, jobs, steps=2, resume=store)
    assert run_all(process, jobs, steps=1, resume=store)[0][0] == jobs[0]
    assert ran(tmp_path) == [4, 4]


def test_jobs_finished_before_an_error_are_kept(tmp_path):
    with pytest.raises(ZeroDivisionError):
        run_all(fails_at_two, [1, 2], steps=1, workers=1, resume=tmp_path)
    assert len(list(tmp_path.glob("*.outcome"))) == 1


def test_a_damaged_outcome_is_refused_with_what_to_do(tmp_path):
    run_all(process, [1], steps=1, resume=tmp_path)
    [file] = tmp_path.iterdir()
    file.write_bytes(b"not an outcome")
    with pytest.raises(ValueError, match=rf"{file.name} is not an outcome.*delete it"):
        run_all(process, [1], steps=1, resume=tmp_path)


def test_a_run_has_no_checkpoint_without_resume(tmp_path):
    run_all(trained, [(tmp_path, 0)], steps=40)
    assert [path.name for path in tmp_path.iterdir()] == ["ran"]


def sweep(folder):
    """Two trainings, one after the other, that can be stopped and resumed."""
    jobs = [(Path(folder), seed) for seed in (0, 1)]
    return run_all(trained, jobs, steps=40, workers=1, resume=Path(folder) / "store")


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGKILL])
def test_a_sweep_that_was_stopped_continues_where_it_was(stop, tmp_path):
    code = "import sys; from tests.lab.test_sweeps import sweep; sweep(sys.argv[1])"
    process = subprocess.Popen(
        [sys.executable, "-c", code, tmp_path],
        cwd=ROOT,
        env={**os.environ, "SECONDS_A_STEP": "0.1"},
        stderr=subprocess.PIPE,
        text=True,
    )
    while not (tmp_path / "ran").exists() or ran(tmp_path) != [1, 1]:
        assert process.poll() is None
        time.sleep(0.02)
    time.sleep(0.5)
    process.send_signal(stop)
    _, error = process.communicate()
    assert ("train: interrupted after step" in error) == (stop == signal.SIGINT)
    kept = {file.suffix for file in (tmp_path / "store").iterdir()} - {".part"}
    assert kept == {".outcome", ".checkpoint"}
    losses = sweep(tmp_path)
    begun = ran(tmp_path)
    assert begun[:2] == [1, 1]
    assert len(begun) == 3
    kept = {file.suffix for file in (tmp_path / "store").iterdir()} - {".part"}
    assert kept == {".outcome"}
    again = tmp_path / "again"
    again.mkdir()
    assert sweep(again) == losses


def worker(job, report):
    report(1)
    time.sleep(0.3)
    return job, os.getpid(), torch.get_num_threads()


def test_a_dask_cluster_of_two_workers_takes_the_jobs(capfd):
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster),
        joblib.parallel_config(backend="dask"),
    ):
        outcomes = run_all(worker, [1, 2, 3, 4], steps=1, progress="jobs")
    assert [job for job, _, _ in outcomes] == [1, 2, 3, 4]
    processes = {process for _, process, _ in outcomes}
    assert len(processes) == 2
    assert os.getpid() not in processes
    assert {threads for _, _, threads in outcomes} == {1}
    assert "jobs" in capfd.readouterr().err
