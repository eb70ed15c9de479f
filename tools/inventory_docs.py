"""Writes the tables of docs/inventory.md from the models: `python -m tools.inventory_docs`."""

from __future__ import annotations

import json
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, WithJsonSchema
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from bootstrap import kubeadm
from bootstrap.schema import meaning_of
from bootstrap.spec import Inventory, camel
from bootstrap.values import ProblemId

ROOT = Path(__file__).resolve().parent.parent
DOCUMENT = ROOT / "docs" / "inventory.md"
GOLDEN = ROOT / "tests" / "golden" / "inventory"
MARK = "<!-- generated from the models by tools/inventory_docs.py; what stands below is written anew each time -->\n"
MUST = "**must be given**"


def generated() -> str:
    """Give everything below the mark."""
    parts = [MARK, "## Fields\n"]
    done: set[type[BaseModel]] = set()
    queue: list[type[BaseModel]] = [Inventory]
    while queue:
        model = queue.pop(0)
        if model not in done:
            done.add(model)
            parts.append(section(model))
            queue += [child for field in model.model_fields.values() for child in models(field.annotation)]
    return "\n".join([*parts, kubeadm_fields(), problems()])


def section(model: type[BaseModel]) -> str:
    """Give the section of one model: its docstring and its fields."""
    lines = [f"### {model.__name__}\n", (model.__doc__ or "").strip().replace("\n    ", "\n"), ""]
    lines += ["| key | value | default | what for |", "| --- | --- | --- | --- |"]
    for name, field in model.model_fields.items():
        key = field.alias or camel(name)
        purpose = meaning_of(model.__name__, key) or ""
        lines.append(f"| `{key}` | {kind(field.annotation, field.metadata)} | {default(field)} | {purpose} |")
    return "\n".join(lines) + "\n"


def models(annotation: Any) -> Iterator[type[BaseModel]]:
    """List the models inside a type."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from models(part)


def kind(annotation: Any, metadata: list[Any]) -> str:
    """Say in words what a value must be."""
    named = [
        told.json_schema["description"] for told in metadata if isinstance(told, WithJsonSchema) and told.json_schema
    ]
    if named:
        return named[-1]
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return kind(arguments[0], list(arguments[1:]))
    if origin is Literal:
        return ", ".join(f"`{choice}`" for choice in arguments if choice) + (" or empty" if "" in arguments else "")
    if origin in {Union, types.UnionType}:
        return " or ".join(kind(part, []) for part in arguments if part is not type(None))
    if origin is tuple:
        return f"list: {kind(arguments[0], [])}"
    if origin is dict:
        return "mapping" if arguments[1] is Any else f"mapping: {kind(arguments[0], [])} to {kind(arguments[1], [])}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return f"[{annotation.__name__}](#{annotation.__name__.lower()})"
    return {bool: "true or false", int: "number", str: "text"}.get(annotation, str(annotation))


def default(field: FieldInfo) -> str:
    """Show what holds where the key is left away."""
    if field.default is PydanticUndefined:
        return MUST
    if field.default is None:
        return "none"
    if isinstance(field.default, BaseModel) or field.default in ((), {}):
        return ""
    value = field.default if isinstance(field.default, bool | int | str) else str(field.default)
    return f"`{json.dumps(value)}`".replace('"', "") if value != "" else "empty"


def kubeadm_fields() -> str:
    """List what becomes of each field of kubeadm's documents."""
    lines = [
        "## kubeadm's fields\n",
        "What becomes of each field of kubeadm's documents, read through `cluster.kubeadm`.",
    ]
    last = ""
    for kind, name, told in kubeadm.fields():
        if kind != last:
            lines += [f"\n### {kind}\n", "| field | becomes |", "| --- | --- |"]
            last = kind
        lines.append(f"| `{name}` | {told} |")
    return "\n".join(lines) + "\n"


def problems() -> str:
    """List every kind of mistake, with one message of each."""
    lines = ["## Mistakes\n", MISTAKES]
    for problem in get_args(ProblemId):
        golden = GOLDEN / f"{problem.removeprefix('inventory-')}.txt"
        files = [golden] if golden.exists() else sorted(GOLDEN.glob(f"{problem.removeprefix('inventory-')}--*.txt"))
        example = files[0].read_text().splitlines()[0] if files else UNREADABLE
        text = example.partition(":")[2].rpartition(" [")[0].partition(": ")[2]
        lines.append(f"- `{problem}`: {text if len(text) < 400 else text[:397] + '...'}")
    return "\n".join(lines) + "\n"


MISTAKES = (
    "Each mistake is told with its place and its kind. Each kind has [a page](errors/README.md), which `kubestrap"
    " explain` shows, too. One example of each:\n"
)
UNREADABLE = (
    "inventory.yaml:1:1: the file cannot be read: No such file or directory; every command starts from an inventory; "
    "name another file, or begin with a copy of inventory.example.yaml [inventory-unreadable]"
)


def document() -> str:
    """Give the whole document: what is written by hand, then what is generated."""
    return DOCUMENT.read_text(encoding="utf-8").partition(MARK)[0] + generated()


if __name__ == "__main__":
    DOCUMENT.write_text(document(), encoding="utf-8")
