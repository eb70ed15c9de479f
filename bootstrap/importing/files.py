"""Other tools' YAML and JSON, read as they read it: more loosely than inventories are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from bootstrap.importing.draft import ImportRefused

LARGEST_BYTES = 64 * 1024 * 1024


class Encrypted(str):
    """A value that ansible-vault has encrypted."""

    __slots__ = ()


class Loader(yaml.SafeLoader):
    """YAML 1.1 with Ansible's tags."""


def _tagged(loader: yaml.SafeLoader, tag: str, node: yaml.Node) -> object:
    if isinstance(node, yaml.ScalarNode):
        return Encrypted(tag) if tag.startswith("vault") else loader.construct_scalar(node)
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True)
    return loader.construct_sequence(node, deep=True) if isinstance(node, yaml.SequenceNode) else None


Loader.add_multi_constructor("!", _tagged)


def content(path: Path, name: str) -> str:
    """Read a file whole. Raises `ImportRefused`."""
    try:
        with path.open("rb") as file:
            source = file.read(LARGEST_BYTES + 1)
        text = source.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(name, getattr(error, "strerror", None) or str(error)) from error
    if len(source) > LARGEST_BYTES:
        raise _unreadable(name, f"it is larger than {LARGEST_BYTES // 1024 // 1024} MiB")
    return text


def _unreadable(name: str, what: str) -> ImportRefused:
    why = "everything is made from it"
    return ImportRefused(
        "import-unreadable", name, f"it cannot be read: {what}", why, "name a file of text, or a folder"
    )


def parse(text: str, name: str) -> Any:
    """Read one YAML or JSON document. Raises `ImportRefused`."""
    try:
        return yaml.load(text, Loader=Loader)  # noqa: S506 - a SafeLoader
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
        what = f"not YAML: {getattr(error, 'problem', None) or 'it cannot be read'}"
        raise ImportRefused("import-syntax", where, what, "nothing of it can be used", "correct it there") from error


def lines(text: str) -> dict[str, int]:
    """Give the line of each key at the top of a document that was read."""
    root = yaml.compose(text, Loader=Loader)
    pairs = root.value if isinstance(root, yaml.MappingNode) else ()
    return {str(key.value): key.start_mark.line + 1 for key, _ in pairs}
