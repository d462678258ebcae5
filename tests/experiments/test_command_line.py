"""`python -m bn_core.experiments`."""

from dataclasses import replace

import pytest

from bn_core.experiments import figure1, registry
from bn_core.experiments.__main__ import main
from bn_core.lab.data import DataError


def test_list_names_every_experiment_and_claim_with_its_criterion(capsys):
    assert main(["list"]) == 0
    printed = capsys.readouterr().out
    for name in registry.NAMES:
        assert f"{name}: {registry.get(name).TITLE}" in printed
        for claim in registry.get(name).CLAIMS:
            assert claim.id in printed
            assert claim.criterion in printed


def test_run_prints_verdicts_and_writes_the_result(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(figure1.SCALES, "live", replace(figure1.SCALES["live"], steps=100))
    assert main(["run", "figure1", "--seeds", "1", "--out", str(tmp_path / "new")]) == 0
    printed = capsys.readouterr()
    assert "figure1.higher-accuracy: " in printed.out
    assert "figure1, live scale" in printed.err
    assert figure1.recorded(tmp_path / "new").seeds == (0,)


@pytest.mark.parametrize("count", ["0", "-1", "two"])
def test_a_number_of_seeds_is_one_or_more(count, capsys):
    with pytest.raises(SystemExit):
        main(["run", "figure1", f"--seeds={count}"])
    assert "give 1 or more" in capsys.readouterr().err


def test_missing_data_is_an_error_without_a_traceback(tmp_path, capsys, monkeypatch):
    def fails(*_, **__):
        raise DataError("mnist: not found; set BN_CORE_DATA")

    monkeypatch.setattr(figure1, "run", fails)
    assert main(["run", "figure1", "--out", str(tmp_path)]) == 1
    assert "set BN_CORE_DATA" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_found_out_before_the_run(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(figure1, "run", lambda *_, **__: pytest.fail("it ran"))
    (tmp_path / "file").write_text("")
    assert main(["run", "figure1", "--out", str(tmp_path / "file")]) == 1
    assert "file" in capsys.readouterr().err


def test_an_interrupt_writes_nothing(tmp_path, capsys, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(figure1, "run", interrupted)
    assert main(["run", "figure1", "--out", str(tmp_path)]) == 130
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_experiment_is_refused():
    with pytest.raises(ValueError, match="no experiment 'figure2'; there is figure1"):
        registry.get("figure2")
