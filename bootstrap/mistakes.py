"""What `kubestrap explain` and docs/errors say of each kind of mistake in an inventory: read from mistakes.yaml."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

import yaml

CATALOGUE = "mistakes.yaml"
_HEADER = "apiVersion: kubestrap.io/v1alpha1\nkind: Inventory\n"
_HOSTS = "hosts:\n  - {name: node1, address: 192.0.2.10, roles: [control-plane]}\n"


@dataclass(frozen=True, slots=True)
class Mistake:
    """A kind of mistake: what it `means`, `why` it is refused and the `fix`, each a sentence or two of Markdown.

    `wrong` is a whole inventory that is refused with `id` and nothing else (None: there is no file), `right` the same
    without the mistake. `files` stand beside both, by their paths from the inventory's folder.
    """

    id: str
    area: str
    means: str
    why: str
    fix: str
    wrong: str | None
    right: str
    files: Mapping[str, str] = field(default_factory=dict)


def catalogue() -> dict[str, Mistake]:
    """Give every kind of mistake by its id, area by area."""
    areas = packaged(CATALOGUE)
    return {name: _mistake(name, area, given) for area, entries in areas.items() for name, given in entries.items()}


def packaged(name: str) -> dict[str, Any]:
    """Read one of the package's own YAML files."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    read: dict[str, Any] = yaml.load(resources.files("bootstrap").joinpath(name).read_bytes(), loader)  # noqa: S506 - safe
    return read


def _mistake(name: str, area: str, given: dict[str, object]) -> Mistake:
    whole = given.pop("whole", False)
    examples = {key: text if whole else _completed(text) for key in ("wrong", "right") for text in [given.pop(key)]}
    return Mistake(name, area, **given, **examples)  # type: ignore[arg-type]  # data of our own, which tests load


def _completed(part: object) -> str | None:
    """Make a whole inventory of what an example is about; nothing where there is no example."""
    if not isinstance(part, str):
        return None
    return _HEADER + part + ("" if "hosts:" in part else _HOSTS)


def text(mistake: Mistake) -> str:
    """Say all of it for a terminal, in lines of at most 80 characters, the examples' aside."""
    parts = [mistake.id, wrapped(f"{mistake.means} {mistake.why}"), wrapped(f"What to do: {mistake.fix}")]
    if mistake.wrong is not None:
        parts += ["Wrong:", textwrap.indent(mistake.wrong.rstrip("\n"), "    ")]
    parts += ["Right:", textwrap.indent(mistake.right.rstrip("\n"), "    ")]
    for path, content in mistake.files.items():
        parts += [f"With the file {path} beside it:", textwrap.indent(content.rstrip("\n"), "    ")]
    return "\n\n".join(parts)


def wrapped(paragraph: str) -> str:
    """Break a paragraph into lines of at most 80 characters, between words."""
    return textwrap.fill(paragraph, 80, break_long_words=False, break_on_hyphens=False)
