"""Writes docs/events.md and docs/events.schema.json from the events' types: `python -m tools.events_docs`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bootstrap import jsonlines

ROOT = Path(__file__).resolve().parent.parent
DOCUMENT = ROOT / "docs" / "events.md"
SCHEMA = ROOT / "docs" / "events.schema.json"
MARK = (
    "<!-- generated from bootstrap/events.py by tools/events_docs.py; what stands below is written anew each time -->\n"
)


def schema() -> str:
    """Give the text of the schema's file."""
    return json.dumps(jsonlines.schema(), indent=2) + "\n"


def document() -> str:
    """Give the document: what stands above the mark by hand, and the tables."""
    return DOCUMENT.read_text().partition(MARK)[0] + "\n".join([MARK, *sections()])


def sections() -> Iterator[str]:
    """Give a section for each kind of event, and for the parts of them."""
    for name, shape in jsonlines.schema()["$defs"].items():  # type: ignore[attr-defined]
        yield f"## {name}\n"
        yield f"{shape['description']}\n"
        yield "| field | type |"
        yield "| --- | --- |"
        for field, kind in shape["properties"].items():
            if field not in {"version", "event", "time"}:
                yield f"| `{field}` | {worded(kind)} |"
        yield ""


def worded(kind: Mapping[str, Any]) -> str:
    """Say in words what type a field has."""
    match kind:
        case {"$ref": ref}:
            return f"[{ref.rpartition('/')[2]}](#{ref.rpartition('/')[2].lower()})"
        case {"enum": values}:
            return " or ".join(f"`{value}`" for value in values)
        case {"type": "array", "items": items}:
            return f"list of {worded(items)}"
        case {"type": name}:
            return str(name)
        case _:
            return "any"


def main() -> None:
    """Write both files."""
    DOCUMENT.write_text(document())
    SCHEMA.write_text(schema())


if __name__ == "__main__":
    main()
