"""Make the contents of files: templates filled in, YAML and TOML written so that equal values give equal bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed import DataclassInstance
    from jinja2 import Environment


@lru_cache(maxsize=512)
def render(template: str, view: DataclassInstance) -> str:
    """Fill in `template` (a path below templates/) with the fields of `view`, a frozen dataclass.

    A name that the view does not have is an error (`jinja2.UndefinedError`), not an empty text. The same view gives
    the same text, without working it out again.
    """
    values = {field.name: getattr(view, field.name) for field in fields(view)}
    return _environment().get_template(template).render(values)


def quote(text: str) -> str:
    """Write `text` as a quoted YAML (and JSON) string."""
    return json.dumps(text, ensure_ascii=False)


def to_yaml(value: object) -> str:
    """Write `value`, of what JSON has, as one YAML document, keys sorted, as kubeadm's own files have them."""
    return _yaml(json.dumps(value))


@lru_cache(maxsize=512)
def _yaml(text: str) -> str:
    # By way of JSON, so that what is the same on thousands of hosts is worked out once.
    import yaml

    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    value = json.loads(text)
    written: str = yaml.dump(value, Dumper=_Blocks.over(dumper), sort_keys=True, allow_unicode=True, width=1_000_000)
    return written


def from_yaml(text: str) -> list[Any]:
    """Read the documents of `text`, which we wrote ourselves; empty ones are left out."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return [document for document in yaml.load_all(text, Loader=loader) if document is not None]


def to_toml(table: Mapping[str, Any]) -> str:
    """Write nested tables, of what JSON has, as TOML 1.0: values before tables, each in the order given; no nulls."""
    return _toml(json.dumps(table))


@lru_cache(maxsize=64)
def _toml(text: str) -> str:
    return "\n".join(_table(json.loads(text), ())) + "\n"


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Put `over` upon `base`, mapping by mapping. Any other value, also a list, is replaced; None takes it away."""
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, Mapping):
            merged[key] = merge(below if isinstance(below, Mapping) else {}, value)
        else:
            merged[key] = value
    return merged


def _table(table: Mapping[str, Any], path: tuple[str, ...]) -> list[str]:
    values = [f"{_key(key)} = {_value(value)}" for key, value in table.items() if not isinstance(value, Mapping)]
    lines = [f"[{'.'.join(map(_key, path))}]", *values, ""] if path and (values or not table) else [*values]
    if not path and values:
        lines.append("")
    for key, value in table.items():
        if isinstance(value, Mapping):
            lines += _table(value, (*path, key))
    return lines[:-1] if not path and lines and not lines[-1] else lines


def _key(key: str) -> str:
    return key if key.isascii() and key.replace("-", "_").isidentifier() else quote(key)


def _value(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return quote(value)
        case int() | float():
            return repr(value)
        case Mapping():
            return "{" + ", ".join(f"{_key(key)} = {_value(inner)}" for key, inner in value.items()) + "}"
        case list() | tuple():
            return "[" + ", ".join(map(_value, value)) + "]"
        case _:
            raise TypeError(f"TOML has no form for {value!r}")


class _Blocks:
    """Writes texts of several lines as literal blocks, so that a ConfigMap's contents can be read."""

    @staticmethod
    @cache
    def over(dumper: type[Any]) -> type[Any]:
        def represent(writer: Any, text: str) -> Any:
            return writer.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)

        kind = type("Dumper", (dumper,), {"ignore_aliases": lambda _self, _data: True})
        kind.add_representer(str, represent)  # type: ignore[attr-defined]
        return kind


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("bootstrap", "templates"),
        undefined=StrictUndefined,
        autoescape=False,  # noqa: S701 - the output is configuration, never HTML
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["quote"] = quote
    return environment
