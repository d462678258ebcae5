"""The JSON Schema of recorded results: what every record says, and what each experiment adds.

The common part is written out below; an experiment's own part follows from the types of its
`Result`. `python -m bn_core.experiments schema NAME` prints the whole document (draft 2020-12) for
those who read `results/` without Python.

JSON has numbers for finite values only. In a place for a float, null stands for NaN, and the
strings "Infinity" and "-Infinity" for what they say.
"""

import math
import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

from bn_core.experiments import registry
from bn_core.experiments.claims import Judgement

DIALECT = "https://json-schema.org/draft/2020-12/schema"
VERSION = 2

_FLOAT = {"type": ["number", "null", "string"], "pattern": "^-?Infinity$"}
_PLAIN: dict[Any, dict[str, Any]] = {
    Any: {},
    str: {"type": "string"},
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: _FLOAT,
}


def of(kind: Any) -> dict[str, Any]:
    """The JSON Schema of a type.

    Args:
        kind: str, bool, int, float, an enumeration, `Literal`, `list[X]`, `tuple[X, ...]`,
            `dict[str, X]`, `X | None`, or a dataclass of such. The metadata of a dataclass's field
            are further keywords of its schema, and a field that has a default may be absent.

    Raises:
        TypeError: another type, or one in which null would have two meanings.
    """
    if isinstance(kind, type) and is_dataclass(kind):
        hints = get_type_hints(kind)
        properties = {f.name: {**of(hints[f.name]), **f.metadata} for f in fields(kind)}
        needed = [f.name for f in fields(kind) if f.default is f.default_factory is MISSING]
        return _object(properties, required=needed)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return {"enum": [member.value for member in kind]}
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin is list or (origin is tuple and arguments[1:] == (...,)):
        return {"type": "array", "items": of(arguments[0])}
    if origin is dict and arguments[0] is str:
        return {"type": "object", "additionalProperties": of(arguments[1])}
    if origin in (Union, types.UnionType):
        return _or_null(kind, arguments)
    if kind in _PLAIN:
        return dict(_PLAIN[kind])
    raise TypeError(
        f"schema.of: {kind} has no JSON Schema here; use str, bool, int, float, an enumeration, "
        "Literal, list[X], tuple[X, ...], dict[str, X], X | None or a dataclass"
    )


def _or_null(kind: Any, arguments: tuple[Any, ...]) -> dict[str, Any]:
    others = [argument for argument in arguments if argument is not types.NoneType]
    inner = of(others[0]) if len(others) == 1 else {}
    if not isinstance(inner.get("type"), str):
        raise TypeError(
            f"schema.of: {kind} has no JSON Schema here; a union is X | None where X is neither "
            "float (its null is NaN) nor another union"
        )
    return {**inner, "type": [inner["type"], "null"]}


def _object(properties: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """An object with all these properties and, unless told otherwise, no others."""
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties),
        "additionalProperties": False,
        **more,
    }


_ENVIRONMENT: dict[str, Any] = {
    "date": {"type": "string", "pattern": r"^\d{4}-\d{2}-\d{2}$", "description": "UTC"},
    "revision": {"type": "string", "description": "commit of the code, -dirty if changed"},
    "versions": {
        "type": "object",
        "required": ["python", "torch", "numpy", "bn-core"],
        "additionalProperties": {"type": "string"},
    },
    "processor": _object(
        {
            "machine": {"type": "string"},
            "cores": {"type": ["integer", "null"], "minimum": 1},
            "capability": {"type": "string", "description": "vector instructions torch uses"},
        }
    ),
}

# What every record of an experiment says.
_COMMON: dict[str, Any] = {
    "schema": {"const": VERSION},
    "experiment": {"type": "string"},
    "title": {"type": "string"},
    "scale": {"type": "string"},
    "seeds": {
        "type": "array",
        "items": {"type": "integer", "minimum": 0},
        "minItems": 1,
        "uniqueItems": True,
    },
    "provenance": _object(
        {
            **_ENVIRONMENT,
            "data": _object(
                {
                    "name": {"type": "string"},
                    "sha256": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
                }
            ),
            "wall_seconds": {"type": "number", "minimum": 0},
        },
        additionalProperties=True,
    ),
    "claims": {
        "type": "array",
        "items": of(Judgement),
        "description": "as they were judged when the record was written",
    },
}

# What a record says whose experiment is not at hand: the common part, and anything beside it.
COMMON: dict[str, Any] = {"$schema": DIALECT, **_object(_COMMON, additionalProperties=True)}

TABLES: dict[str, dict[str, Any]] = {
    "bench": {
        "$schema": DIALECT,
        "title": "Speed tables",
        **_object(
            {
                "schema": {"const": VERSION},
                "experiment": {"const": "bench"},
                "what": {"type": "string"},
                "threads": {"type": "integer", "minimum": 1},
                "rows": {
                    "type": "array",
                    "minItems": 1,
                    "items": {
                        "type": "object",
                        "properties": {"shape": {"type": "array", "items": {"type": "integer"}}},
                        "required": ["shape"],
                        "additionalProperties": {
                            "description": "name of what was timed: time, or ratio of times",
                            "type": "object",
                            "additionalProperties": {"type": "number", "exclusiveMinimum": 0},
                        },
                    },
                },
                **_ENVIRONMENT,
            },
            additionalProperties=True,
        ),
    },
    "figure1_repeats": {
        "$schema": DIALECT,
        "title": "Where the runs of Figure 1 ended in earlier recordings",
        **_object(
            {
                "schema": {"const": VERSION},
                "experiment": {"const": "figure1_repeats"},
                "what": {"type": "string"},
                "repeats": {
                    "type": "array",
                    "minItems": 1,
                    "items": _object(
                        {
                            "date": _ENVIRONMENT["date"],
                            "revision": _ENVIRONMENT["revision"],
                            "capability": {"type": "string"},
                            "final_accuracy": {
                                "type": "object",
                                "additionalProperties": {
                                    "type": "array",
                                    "items": {"type": "number", "minimum": 0, "maximum": 1},
                                },
                            },
                        }
                    ),
                },
            }
        ),
    },
}
"""The JSON Schemas of the files of `results` that are no experiment, such as "bench".

:meta hide-value:
"""


def document(name: str) -> dict[str, Any]:
    """The JSON Schema of the records of one experiment, or of a table.

    Args:
        name: one of `bn_core.experiments.registry.NAMES` or a key of `TABLES`.

    Raises:
        ValueError: another name.
    """
    if name in TABLES:
        return TABLES[name]
    experiment = registry.get(name)
    own = of(experiment.Result)["properties"]
    properties = {
        **_COMMON,
        **{key: value for key, value in own.items() if key not in _COMMON},
        "experiment": {"const": name},
        "scale": {"enum": list(experiment.SCALES)},
    }
    return {"$schema": DIALECT, "title": experiment.TITLE, **_object(properties)}


def fault(value: Any, document: Mapping[str, Any]) -> str | None:
    """What is wrong with a value, or None.

    Args:
        value: as `json` reads it.
        document: a JSON Schema.

    Returns:
        The place and the fault that says most, such as
        "runs[3].seed: '0' is not of type 'integer'".
    """
    error = best_match(Draft202012Validator(document).iter_errors(value))
    if error is None:
        return None
    where = error.json_path.removeprefix("$").removeprefix(".") or "the record"
    message = error.message
    if len(message) > 200:  # it quotes what it found, which may be all of it
        message = f"{message[:100]} ... {message[-90:]}"
    return f"{where}: {message}"


def plain(value: Any) -> Any:
    """A value as `json` can write it: dataclasses as objects, NaN and infinities as said above."""
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Path):
        return value.as_posix()
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def made(kind: Any, value: Any) -> Any:
    """The value of a type that `plain` took apart: dataclasses, enumerations, NaN and so on again.

    Args:
        kind: as `of` takes it.
        value: as `json` reads it; it satisfies `of(kind)`. An object may have more keys than a
            dataclass has fields: they are left out.
    """
    if kind is float:
        return math.nan if value is None else float(value)
    if isinstance(kind, type) and is_dataclass(kind):
        hints = get_type_hints(kind)
        names = [f.name for f in fields(kind) if f.name in value]
        return kind(**{name: made(hints[name], value[name]) for name in names})
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind(value)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (list, tuple):
        return origin(made(arguments[0], item) for item in value)
    if origin is dict:
        return {key: made(arguments[1], item) for key, item in value.items()}
    if origin in (Union, types.UnionType) and value is not None:
        return made(next(a for a in arguments if a is not types.NoneType), value)
    return value
