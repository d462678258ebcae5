"""The sweep of what section 4.1 leaves out."""

from dataclasses import replace

import pytest

from bn_core.experiments import figure1_settings, records
from bn_core.experiments.figure1_settings import Result, Setting


@pytest.fixture
def sweep():
    """Two networks, two rates, three scales; the score grows with rate and falls with scale."""
    settings = tuple(
        Setting(bn, "sgd", lr, std) for bn in (True, False) for lr in (1, 2) for std in (1, 2, 3)
    )
    scores = [[s.lr / 10 - s.init_std / 100, s.lr / 10] for s in settings]
    return Result("paper", settings, (0, 1), scores, {})


def test_best_is_the_highest_mean_score_of_that_network(sweep):
    assert sweep.best(batch_norm=True) == Setting(True, "sgd", 2, 1)
    assert sweep.mean_scores(False)[Setting(False, "sgd", 1, 2)] == pytest.approx(0.09)


def test_the_edge_of_the_grid_is_named(sweep):
    assert sweep.at_edge(Setting(True, "sgd", 2, 1)) == ["lr", "init_std"]
    assert sweep.at_edge(Setting(True, "sgd", 2, 2)) == ["lr"]


def test_a_value_that_was_not_varied_has_no_edge(sweep):
    one_std = [s for s in sweep.settings if s.init_std == 1]
    narrow = replace(sweep, settings=tuple(one_std), scores=[[0.0]] * len(one_std))
    assert "init_std" not in narrow.at_edge(one_std[0])


def test_a_sweep_scores_every_setting_and_comes_back_from_its_record(tmp_path, monkeypatch):
    small = replace(
        figure1_settings.SCALES["live"], steps=40, rates={"adam": (0.01, 1e30)},
        init_stds={"adam": (0.1,)},
    )  # fmt: skip
    monkeypatch.setitem(figure1_settings.SCALES, "live", small)
    # One worker, so that it runs here and sees the smaller scale.
    monkeypatch.setattr("bn_core.lab.sweeps.cpu_count", lambda: 1)
    result = figure1_settings.run("live", seeds=(0,))
    assert len(result.scores) == len(result.settings) == 4
    assert all(0 <= score <= 1 for row in result.scores for score in row)
    assert result.provenance["data"]["name"].startswith("mnist-5k-binary-held-out")
    records.save(tmp_path / "figure1_settings.json", records.record(figure1_settings.NAME, result))
    assert figure1_settings.recorded(tmp_path) == result
