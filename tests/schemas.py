"""Checking values by a JSON Schema, of which only the words that ours use are known: any other one is an error."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

WORDS = {
    "$ref",
    "additionalProperties",
    "anyOf",
    "const",
    "default",
    "description",
    "enum",
    "format",
    "items",
    "maximum",
    "minItems",
    "minimum",
    "oneOf",
    "pattern",
    "properties",
    "propertyNames",
    "required",
    "type",
}
TYPES: Mapping[str, Any] = {
    "string": str,
    "integer": int,
    "number": (int, float),
    "array": list,
    "object": dict,
    "null": type(None),
    "boolean": bool,
}


def wrong(value: Any, shape: Mapping[str, Any], defs: Mapping[str, Any], where: str = "") -> Iterator[str]:
    """List what `value` violates of a schema."""
    assert shape.keys() <= WORDS, shape.keys() - WORDS
    if "$ref" in shape:
        yield from wrong(value, defs[shape["$ref"].rpartition("/")[2]], defs, where)
    for word in {"oneOf", "anyOf"} & shape.keys():
        found = [list(wrong(value, option, defs, where)) for option in shape[word]]
        fitting = sum(not problems for problems in found)
        if fitting == 0 or (fitting > 1 and word == "oneOf"):
            yield f"{where} fits {fitting} of {shape[word]}: {min(found, key=len)}"
    if "const" in shape and value != shape["const"]:
        yield f"{where} is {value!r}, not {shape['const']!r}"
    if "enum" in shape and value not in shape["enum"]:
        yield f"{where} is {value!r}, none of {shape['enum']}"
    kind = TYPES[shape["type"]] if "type" in shape else object
    if not isinstance(value, kind) or (isinstance(value, bool) and kind not in {bool, object}):
        yield f"{where} is {value!r}, no {shape['type']}"
        return
    if "pattern" in shape and not re.search(shape["pattern"], value):
        yield f"{where} is {value!r}, which does not match {shape['pattern']}"
    if not shape.get("minimum", value) <= value <= shape.get("maximum", value) if "minimum" in shape else False:
        yield f"{where} is {value!r}, out of range"
    if isinstance(value, list):
        yield from _wrong_list(value, shape, defs, where)
    if isinstance(value, dict):
        yield from _wrong_mapping(value, shape, defs, where)


def _wrong_list(value: list[Any], shape: Mapping[str, Any], defs: Mapping[str, Any], where: str) -> Iterator[str]:
    if len(value) < shape.get("minItems", 0):
        yield f"{where} is too short"
    for index, item in enumerate(value if "items" in shape else ()):
        yield from wrong(item, shape["items"], defs, f"{where}[{index}]")


def _wrong_mapping(
    value: dict[str, Any], shape: Mapping[str, Any], defs: Mapping[str, Any], where: str
) -> Iterator[str]:
    known = shape.get("properties", {})
    others = shape.get("additionalProperties", True)
    for name in shape.get("required", ()):
        if name not in value:
            yield f"{where}.{name} is missing"
    for name, part in value.items():
        if "propertyNames" in shape:
            yield from wrong(name, shape["propertyNames"], defs, f"{where}.{name}:")
        if name in known:
            yield from wrong(part, known[name], defs, f"{where}.{name}")
        elif others is False:
            yield f"{where}.{name} is unknown"
        elif others is not True:
            yield from wrong(part, others, defs, f"{where}.{name}")
