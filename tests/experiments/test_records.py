"""Records: whole or not there, and of the right experiment."""

import json
import math

import pytest

from bn_core.experiments import records


def test_what_is_saved_is_what_is_loaded(tmp_path):
    path = tmp_path / "deep" / "figure1.json"
    records.save(path, {"experiment": "figure1", "values": [1, 0.5, "x"]})
    assert records.load(path, "figure1")["values"] == [1, 0.5, "x"]
    assert [file.name for file in path.parent.iterdir()] == ["figure1.json"]


def test_not_a_number_becomes_null(tmp_path):
    path = tmp_path / "r.json"
    records.save(path, {"experiment": "r", "values": [math.nan, {"x": math.inf}]})
    assert json.loads(path.read_text())["values"] == [None, {"x": None}]


def test_a_failed_save_leaves_the_old_record_and_nothing_beside_it(tmp_path, monkeypatch):
    path = tmp_path / "r.json"
    records.save(path, {"experiment": "r", "value": 1})

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", full)
    with pytest.raises(OSError, match="No space"):
        records.save(path, {"experiment": "r", "value": 2})
    assert records.load(path, "r")["value"] == 1
    assert [file.name for file in tmp_path.iterdir()] == ["r.json"]


def test_a_missing_record_says_how_to_make_it(tmp_path):
    with pytest.raises(FileNotFoundError, match="run figure1 --scale paper"):
        records.load(tmp_path / "figure1.json", "figure1")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "is not JSON"),
        ('{"schema": 1, "experiment": "other"}', "experiment 'other'; expected schema 1"),
        ('{"schema": 0, "experiment": "figure1"}', "schema 0 of"),
    ],
)
def test_another_file_is_refused(tmp_path, text, words):
    path = tmp_path / "figure1.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=words):
        records.load(path, "figure1")
