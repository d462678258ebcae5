"""The JSON Schema of recorded results."""

import json
import math
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

import pytest
from jsonschema import Draft202012Validator

from bn_core.experiments import registry, schema
from bn_core.experiments.claims import Effect


class Colour(StrEnum):
    RED = "red"


@dataclass
class Inner:
    lengths: list[float]
    stopped_at: int | None


@dataclass
class Outer:
    inner: tuple[Inner, ...]
    by_name: dict[str, float]
    colour: Colour
    side: Literal["left", "right"]
    anything: Any
    share: float = field(metadata={"maximum": 1})
    since: list[int] = field(default_factory=list)


GOOD = {
    "inner": [{"lengths": [1, 0.5, None, "Infinity"], "stopped_at": None}],
    "by_name": {"a": 1.5},
    "colour": "red",
    "side": "left",
    "anything": [{}],
    "share": 0.5,
}


def test_a_value_of_the_right_types_has_no_fault():
    assert schema.fault(GOOD, schema.of(Outer)) is None


def test_a_field_with_a_default_may_be_absent_but_not_of_another_type():
    assert schema.fault({**GOOD, "since": [2]}, schema.of(Outer)) is None
    assert schema.fault({**GOOD, "since": 2}, schema.of(Outer)).startswith("since: 2")


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"inner": [{"lengths": [1, "2"], "stopped_at": 3}]}, "inner[0].lengths[1]: '2'"),
        ({"inner": [{"lengths": [], "stopped_at": 0.5}]}, "inner[0].stopped_at: 0.5"),
        ({"inner": [{"lengths": []}]}, "inner[0]: 'stopped_at' is a required"),
        ({"by_name": {"a": True}}, "by_name.a: True is not of type 'number'"),
        ({"colour": "blue"}, "colour: 'blue' is not one of ['red']"),
        ({"side": "up"}, "side: 'up' is not one of ['left', 'right']"),
        ({"share": 2}, "share: 2 is greater than the maximum of 1"),
        ({"more": 1}, "the record: Additional properties are not allowed ('more'"),
    ],
)
def test_a_fault_is_named_with_its_place(change, fault):
    assert schema.fault({**GOOD, **change}, schema.of(Outer)).startswith(fault)


def test_a_value_is_made_of_its_types_again():
    outer = Outer(
        inner=(Inner([1.0, math.inf], None), Inner([], 3)),
        by_name={"a": 1.5},
        colour=Colour.RED,
        side="left",
        anything=[{}],
        share=0.5,
        since=[2],
    )
    written = json.loads(json.dumps(schema.plain(outer)))
    again = schema.made(Outer, {**written, "other": 1})
    assert again == outer
    assert isinstance(again.colour, Colour)
    assert isinstance(again.inner, tuple)


def test_what_is_absent_has_its_default_when_it_is_made():
    assert schema.made(Outer, GOOD).since == []


def test_a_fault_does_not_quote_a_whole_record():
    fault = schema.fault({**GOOD, "inner": "x" * 10_000}, schema.of(Outer))
    assert fault.startswith("inner: 'xxx")
    assert fault.endswith("is not of type 'array'")
    assert len(fault) < 300


@pytest.mark.parametrize("kind", [set[int], tuple[int, int], int | str, float | None, bytes])
def test_a_type_that_json_cannot_tell_is_refused(kind):
    with pytest.raises(TypeError, match="has no JSON Schema here"):
        schema.of(kind)


@pytest.mark.parametrize("value", [math.inf, -math.inf, 0.5, -3.0])
def test_every_float_comes_back_through_json(value):
    written = json.loads(json.dumps(schema.plain({"a": [value]}), allow_nan=False))
    assert schema.made(dict[str, list[float]], written) == {"a": [value]}


def test_null_is_nan_where_there_is_a_float_and_none_elsewhere():
    inner = Inner([math.nan], None)
    back = schema.made(Inner, schema.plain(inner))
    assert math.isnan(back.lengths[0])
    assert back.stopped_at is None


def test_an_effect_has_one_of_three_bounds():
    kind = schema.of(Effect)
    assert schema.fault({"seed": 0, "value": 1, "bound": "at least"}, kind) is None
    assert schema.fault({"seed": 0, "value": 1, "bound": "about"}, kind).startswith(
        "bound: 'about'"
    )


@pytest.mark.parametrize("name", [*registry.NAMES, *schema.TABLES])
def test_every_document_is_a_json_schema_of_its_draft(name):
    document = schema.document(name)
    assert document["$schema"] == Draft202012Validator.META_SCHEMA["$id"]
    Draft202012Validator.check_schema(document)
    assert json.loads(json.dumps(document)) == document


@pytest.mark.parametrize("name", registry.NAMES)
def test_a_document_knows_every_field_of_its_result(name):
    document = schema.document(name)
    assert set(registry.get(name).Result.__annotations__) < set(document["required"])
    assert document["additionalProperties"] is False


def test_the_documents_of_the_results_folder_are_those_of_its_files():
    stems = {path.stem for path in (Path(__file__).parents[2] / "results").glob("*.json")}
    assert stems <= {*registry.NAMES, *schema.TABLES}
