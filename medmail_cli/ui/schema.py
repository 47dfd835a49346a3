"""JSON Schemas of what commands print, made from the dataclasses that they print.

JSON Schema 2020-12. A command's schema describes one line of its output.
"""

import dataclasses
import datetime
import sys
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medmail_cli.model import Progress

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_PLAIN: dict[object, dict[str, Any]] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    type(None): {"type": "null"},
    Path: {"type": "string"},
    datetime.datetime: {"type": "string", "format": "date-time"},
    Any: {},
    object: {},
}
_SAID = {"code": _PLAIN[str], "message": _PLAIN[str], "hint": _PLAIN[str]}


def of_command(command: str, events: tuple[type, ...]) -> dict[str, Any]:
    """The schema of one line of ``command``'s output, given the classes of its events."""
    return {
        "$schema": _DIALECT,
        "title": f"medmail {command}",
        "oneOf": [*(of_class(event) for event in dict.fromkeys((*events, Progress))), *_common(command)],
    }


def _common(command: str) -> list[dict[str, Any]]:
    note = {"type": "object", "required": ["type", "code", "message"]}
    counts = {"type": "object", "additionalProperties": {"type": "integer"}}
    return [
        note | {"properties": {"type": {"const": "note"}, "code": _PLAIN[str], "message": _PLAIN[str]}},
        _object(
            {
                "type": {"const": "result"},
                "command": {"const": command},
                "ok": _PLAIN[bool],
                "exit": _PLAIN[int],
                "counts": counts,
                "error": _object(_SAID),
            },
            optional=("error",),
        ),
        _object({"type": {"const": "error"}, **_SAID, "exit": _PLAIN[int]}),
    ]


def _object(properties: dict[str, Any], optional: tuple[str, ...] = ()) -> dict[str, Any]:
    required = [name for name in properties if name not in optional]
    return {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


def of_class(cls: type) -> dict[str, Any]:
    """The schema of a frozen dataclass as ``ui.formats.json`` writes it."""
    properties: dict[str, Any] = {}
    if isinstance(kind := getattr(cls, "type", None), str):
        properties["type"] = {"const": kind}
    for field in dataclasses.fields(cls):
        if field.metadata.get("json", True):
            properties[field.name.rstrip("_")] = _of(field.type, vars(sys.modules[cls.__module__]))
    return _object(properties)


def _of(kind: object, names: dict[str, Any]) -> dict[str, Any]:
    if isinstance(kind, str):
        kind = eval(kind, names)  # noqa: S307 - an annotation of our own, written as a string
    if isinstance(kind, typing.ForwardRef):
        return _of(kind.__forward_arg__, names)
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return of_class(kind)
    if kind in _PLAIN:
        return _PLAIN[kind]
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        return {"enum": list(arguments)}
    if origin in (typing.Union, types.UnionType):
        return {"anyOf": [_of(argument, names) for argument in arguments]}
    if origin in (dict, Mapping):
        return {"type": "object", "additionalProperties": _of(arguments[1], names)}
    if origin in (list, tuple, frozenset, set, Sequence):
        return {"type": "array", "items": _of(arguments[0], names)}
    raise TypeError(f"no JSON Schema for {kind!r}")
