"""Events for programs: one JSON object a line, and the schema of them (docs/events.md, docs/events.schema.json)."""

from __future__ import annotations

import dataclasses
import datetime
import inspect
import json
import re
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from typer._click.exceptions import ClickException  # typer 0.29 exports its parts, not their base

from bootstrap import events
from bootstrap.errors import (
    AdoptionRefused,
    BootstrapError,
    HostError,
    HostsFailed,
    PkiRefused,
    PreflightFailed,
    StepFailed,
    VerificationFailed,
)
from bootstrap.events import Event, Failure, Result

Mask = Callable[[str], str]


def line(event: Event, time: datetime.datetime, mask: Mask, *, plain_result: bool = False) -> str:
    """Write `event`, which happened at `time` (UTC), as a line without its newline.

    `mask` is applied to every text in it; with `plain_result` not to a command's data, which may be a secret that
    the user asked for.
    """
    told = _same if plain_result and isinstance(event, Result) else mask
    return json.dumps(record(event, time, told), ensure_ascii=False, separators=(",", ":"))


def record(event: Event, time: datetime.datetime, mask: Mask) -> dict[str, object]:
    """Give the object that a line holds."""
    stamp = time.astimezone(datetime.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {"version": events.VERSION, "event": name(type(event)), "time": stamp, **_fields(event, mask)}


def failures(error: BaseException) -> tuple[Failure, ...]:
    """Give each reason that `error` carries: one a host, a problem, or a check; else the error itself."""
    kind = type(error).__name__
    match error:
        case HostsFailed():
            found = ((host, each) for host, one in error.failures.items() for each in failures(one))
            return tuple(dataclasses.replace(each, host=each.host or host) for host, each in found)
        case PreflightFailed(problems=problems) | AdoptionRefused(problems=problems):
            return tuple(
                Failure(kind, each.what, error.exit_code, each.host, check=each.check, fix=each.fix)
                for each in problems
            )
        case PkiRefused(problems=problems):
            return tuple(
                Failure(kind, each.what, error.exit_code, each.host, place=each.path, fix=each.fix) for each in problems
            )
        case VerificationFailed(failed=failed):
            return tuple(
                Failure(kind, "the check failed", error.exit_code, host, check=check) for host, check in failed
            )
        case StepFailed():
            what = error.what.removeprefix(f"phase {error.phase}: {error.step}: ")
            return (Failure(kind, what, error.exit_code, error.host, error.phase, error.step),)
        case HostError():
            return (Failure(kind, error.what, error.exit_code, error.host),)
        case BootstrapError():
            return tuple(_mistakes(error)) or (Failure(kind, str(error), error.exit_code),)
        case ClickException():
            return (Failure(kind, error.format_message(), error.exit_code),)
        case _:
            return (Failure(kind, " ".join([str(error), *getattr(error, "__notes__", ())]).strip()),)


def _mistakes(error: BootstrapError) -> Sequence[Failure]:
    from bootstrap.inventory import InventoryError

    if not isinstance(error, InventoryError):
        return ()
    return [
        Failure(
            type(error).__name__,
            "; ".join(part for part in (each.path, each.what, each.why) if part),
            error.exit_code,
            check=each.id,
            place=f"{each.file}:{each.line}:{each.column}",
            fix=each.fix,
        )
        for each in error.problems
    ]


def schema() -> dict[str, object]:
    """Give the JSON Schema (draft 2020-12) of a line, made from the events' types."""
    kinds = {name(kind): _object(kind) for kind in get_args(Event)}
    head = {
        "version": {"const": events.VERSION},
        "time": {"type": "string", "format": "date-time", "description": "RFC 3339, UTC"},
    }
    for kind, shape in kinds.items():
        shape["properties"] = {"version": head["version"], "event": {"const": kind}, "time": head["time"]} | shape[
            "properties"
        ]
        shape["required"] = ["version", "event", "time", *shape["required"]]
    parts = {part.__name__: _object(part) for part in (Failure, events.HostState)}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A line of kubestrap --output json, or of the log of a run",
        "oneOf": [{"$ref": f"#/$defs/{kind}"} for kind in kinds],
        "$defs": {**kinds, **parts},
    }


def name(kind: type) -> str:
    """Give the name that events of a type bear in the lines: `PhaseDone` is `phase-done`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", kind.__name__).lower()


def _object(kind: type) -> dict[str, Any]:
    hints = get_type_hints(kind)
    properties = {_key(field.name): _shape(hints[field.name]) for field in dataclasses.fields(kind)}
    return {
        "type": "object",
        "description": " ".join((inspect.getdoc(kind) or "").split()),
        "properties": properties,
        "required": list(properties),
    }


def _shape(hint: Any) -> dict[str, object]:
    simple: Mapping[Any, dict[str, object]] = {
        str: {"type": "string"},
        int: {"type": "integer"},
        float: {"type": "number"},
        object: {},
        Exception: {"$ref": "#/$defs/Failure"},
    }
    if hint in simple:
        return simple[hint]
    if get_origin(hint) is Literal:
        return {"enum": list(get_args(hint))}
    if get_origin(hint) is tuple:
        return {"type": "array", "items": _shape(get_args(hint)[0])}
    if get_origin(hint) in (Union, types.UnionType):
        return {"anyOf": [_shape(part) for part in get_args(hint)]}
    return {"$ref": f"#/$defs/{hint.__name__}"}


def _fields(value: Any, mask: Mask) -> dict[str, object]:
    return {_key(field.name): _json(getattr(value, field.name), mask) for field in dataclasses.fields(value)}


def _json(value: object, mask: Mask) -> object:
    match value:
        case None | bool() | int():
            return value
        case float():
            return round(value, 3)
        case str():
            return mask(value)
        case BaseException():
            return _fields(failures(value)[0], mask)
        case Mapping():
            return {mask(str(key)): _json(item, mask) for key, item in value.items()}
        case Sequence() | set() | frozenset():
            return [_json(item, mask) for item in value]
        case _ if dataclasses.is_dataclass(value):
            return _fields(value, mask)
        case _:
            return mask(str(value))


def _key(text: str) -> str:
    first, *more = text.split("_")
    return first + "".join(word.capitalize() for word in more)


def _same(text: str) -> str:
    return text
