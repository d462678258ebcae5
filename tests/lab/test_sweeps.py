"""Many runs at once."""

import pytest
import torch

from bn_core.lab.sweeps import run_all


def threads_and_square(job, report):
    report(3)
    return torch.get_num_threads(), job**2


def fails_at_two(job, report):
    if job == 2:
        raise ZeroDivisionError("job two")
    return job


def test_outcomes_come_in_the_order_of_the_jobs_and_each_run_has_one_thread():
    outcomes = run_all(threads_and_square, [3, 1, 2], steps=3, workers=2)
    assert outcomes == [(1, 9), (1, 1), (1, 4)]


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


def test_progress_is_quiet_unless_asked_for(capfd):
    run_all(threads_and_square, [1], steps=3)
    assert capfd.readouterr().err == ""
    run_all(threads_and_square, [1], steps=3, progress="squares")
    assert "squares" in capfd.readouterr().err
