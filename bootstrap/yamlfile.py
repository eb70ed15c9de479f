"""YAML as plain data, with the place of every key and value beside it.

Only what YAML 1.1 and 1.2 read alike is accepted: whatever a person and a parser may understand differently
is a problem with a name. Reading goes on after a problem, so that all of them are found at once.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

import yaml

from bootstrap.values import ProblemId, shown

Path = tuple[str | int, ...]
"""The keys and indexes from the top of a document to a value in it."""


class Mark(Protocol):
    """What both of PyYAML's loaders say of a position."""

    @property
    def line(self) -> int:
        """The line, from 0."""

    @property
    def column(self) -> int:
        """The character in the line, from 0."""


MAX_DEPTH = 40
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAG = "tag:yaml.org,2002:"
_WORDS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,17})")
_DECIMAL = re.compile(r"-?(0|[1-9][0-9]{0,17})\.[0-9]{1,17}")
_NUMBER_ELSEWHERE = re.compile(r"[-+]?(0[0-9]+|0o[0-7]+|(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?)")


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """A position, both numbers from 1. `file` is empty where it is the file that was asked for."""

    line: int
    column: int
    file: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong at a place. `path` says which value it is about."""

    id: ProblemId
    place: Place
    path: Path
    what: str
    why: str = ""
    fix: str = ""


@dataclass(frozen=True, slots=True)
class Document:
    """What a file holds, and where.

    `texts` keeps unquoted values as they were written, `names` what messages call a value that came from elsewhere.
    """

    data: object
    keys: dict[Path, Place] = field(default_factory=dict)
    values: dict[Path, Place] = field(default_factory=dict)
    texts: dict[Path, str] = field(default_factory=dict)
    names: dict[Path, Path] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    def place(self, path: Path) -> Place:
        """Give where the value at `path` stands, or the nearest thing around it."""
        while path and path not in self.values:
            path = path[:-1]
        return self.values.get(path, Place(1, 1))

    def name(self, path: Path) -> Path:
        """Give what messages call the value at `path`."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.names:
                return (*self.names[path[:length]], *path[length:])
        return path


def read(source: bytes) -> Document:
    """Read one YAML document. Never raises: whatever is wrong is among the findings."""
    for document in _documents(source, lambda text: [yaml.compose(text, Loader=_LOADER)]):
        return document
    why = "it holds nothing but blanks and comments"
    fix = "begin with inventory.example.yaml"
    return _unreadable(Finding("inventory-empty", Place(1, 1), (), "the file is empty", why, fix))


def read_stream(source: bytes) -> list[Document]:
    """Read every YAML document of a stream that is not empty, up to the first that cannot be read. Never raises."""
    documents = _documents(source, lambda text: yaml.compose_all(text, Loader=_LOADER))
    return [document for document in documents if document.data is not None or document.findings]


def _documents(source: bytes, compose: Callable[[str], Iterable[yaml.Node | None]]) -> Iterator[Document]:
    try:
        text = source.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        yield _unreadable(_undecodable(source, error))
        return
    try:
        for root in compose(text):
            if root is not None:
                yield _document(root, text)
    except yaml.MarkedYAMLError as error:
        yield _unreadable(_syntax(text, error))
    except yaml.reader.ReaderError:
        yield _unreadable(_unprintable(text))
    except RecursionError:
        yield _unreadable(_too_deep(Place(1, 1), ()))


def _document(root: yaml.Node, text: str) -> Document:
    reader = _Reader()
    data = reader.convert(root, ())
    findings = [*reader.findings, *(_aliases(text) if reader.aliased else ())]
    return Document(data, reader.keys, reader.values, reader.texts, findings=findings)


def _unreadable(finding: Finding) -> Document:
    return Document(None, findings=[finding])


def _undecodable(source: bytes, error: UnicodeDecodeError) -> Finding:
    before = source[: error.start].decode("utf-8", "replace").removeprefix("\ufeff")
    place = Place(before.count("\n") + 1, len(before) - before.rfind("\n"))
    what = f"the byte 0x{source[error.start]:02x} is not UTF-8"
    return Finding("inventory-encoding", place, (), what, "the file must be UTF-8 text", "save it as UTF-8")


def _unprintable(text: str) -> Finding:
    # The C reader counts bytes, the Python one characters; both stop at the first unprintable one.
    bad = re.search("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", text)
    at = bad.start() if bad else 0
    before = text[:at]
    place = Place(before.count("\n") + 1, len(before) - before.rfind("\n"))
    what = "an unprintable character stands here"
    return Finding("inventory-encoding", place, (), what, "YAML is printable text", "delete the character")


def _syntax(text: str, error: yaml.MarkedYAMLError) -> Finding:
    place = _place(error.problem_mark or error.context_mark)
    lines = text.splitlines()
    line = lines[place.line - 1] if place.line <= len(lines) else ""
    problem = error.problem or "the text is not YAML"
    if "\t" in line[: place.column] and not line[: line.index("\t")].strip(" -"):
        place = Place(place.line, line.index("\t") + 1)
        return Finding(
            "inventory-tab",
            place,
            (),
            "a tab is used to indent",
            "YAML allows only spaces there",
            "replace it with spaces",
        )
    context = error.context or ""
    if "single document" in context:
        return Finding(
            "inventory-several-documents",
            place,
            (),
            "a second document begins here",
            "an inventory is one document",
            "remove the --- line and what follows, or join the two",
        )
    if "undefined alias" in problem or "scanning an alias" in context:
        place = _place(error.context_mark) if context else place
        what = "a value begins with *"
        return Finding("inventory-alias", place, (), what, "in YAML this is a reference to another value", "quote it")
    if "scanning a quoted" in context:
        place = _place(error.context_mark)
    if "depth" in problem:
        return _too_deep(place, ())
    return Finding(
        "inventory-syntax",
        place,
        (),
        f"not YAML: {problem} {context}".rstrip(),
        "reading stops here, so there may be more mistakes below",
        "look at this line and the one above for a missing colon, quote, bracket or space",
    )


def _too_deep(place: Place, path: Path) -> Finding:
    return Finding(
        "inventory-too-deep",
        place,
        path,
        f"lists and mappings are nested more than {MAX_DEPTH} deep",
        "no setting needs this",
        "look for brackets that are not closed",
    )


def _aliases(text: str) -> Iterator[Finding]:
    for event in yaml.parse(text, Loader=_LOADER):
        if isinstance(event, yaml.AliasEvent):
            yield Finding(
                "inventory-alias",
                _place(event.start_mark),
                (),
                f"the alias *{event.anchor} is used",
                "a problem in a value that stands in several places would have no one place",
                "write the value out; defaults for all hosts belong into cluster and ssh",
            )


class _Reader:
    """Turns nodes into plain data; what it meets on the way is in its attributes."""

    def __init__(self) -> None:
        self.keys: dict[Path, Place] = {}
        self.values: dict[Path, Place] = {}
        self.texts: dict[Path, str] = {}
        self.findings: list[Finding] = []
        self.aliased = False
        self._seen: set[int] = set()

    def convert(self, node: yaml.Node, path: Path) -> object:
        place = _place(node.start_mark)
        self.values.setdefault(path, place)
        if id(node) in self._seen:
            self.aliased = True
            return None
        self._seen.add(id(node))
        if len(path) > MAX_DEPTH:
            self.findings.append(_too_deep(place, path))
            return None
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path, place)
        self._check_tag(node, path, place)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        return [self.convert(item, (*path, index)) for index, item in enumerate(node.value)]

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, object]:
        data: dict[str, object] = {}
        for key_node, value_node in node.value:
            place = _place(key_node.start_mark)
            key = self._key(key_node, path, place)
            if key is None:
                continue
            if key in data:
                first = self.keys[(*path, key)]
                self.findings.append(
                    Finding(
                        "inventory-duplicate-key",
                        place,
                        (*path, key),
                        f"the key {shown(key)} is used twice",
                        f"it stands in line {first.line} already, and one would be lost",
                        "keep one of them",
                    )
                )
                continue
            self.keys[(*path, key)] = place
            data[key] = self.convert(value_node, (*path, key))
        return data

    def _key(self, node: yaml.Node, path: Path, place: Place) -> str | None:
        if node.tag == f"{_TAG}merge":
            self.findings.append(
                Finding(
                    "inventory-merge-key",
                    place,
                    path,
                    "a merge key (<<) is used",
                    "YAML 1.2 dropped it, and a problem in merged values would have no one place",
                    "write the values out; defaults for all hosts belong into cluster and ssh",
                )
            )
            return None
        text = str(node.value) if isinstance(node, yaml.ScalarNode) else None
        if text is not None and node.tag == f"{_TAG}str" and not _strange(text):
            return text
        what = "a key is not text" if text is None else f"the key {shown(text)} is not text"
        fix = "write the key as text" if text is None else f"write {json.dumps(text)}"
        why = "it reads as another kind of value, and keys are text"
        here = path if text is None else (*path, text)
        self.findings.append(Finding("inventory-bad-key", place, here, what, why, fix))
        return None

    def _scalar(self, node: yaml.ScalarNode, path: Path, place: Place) -> object:
        text: str = node.value
        kind = node.tag.removeprefix(_TAG)
        if not node.style:
            self.texts[path] = text
        if kind == "null" and text in {"", "~", "null", "Null", "NULL"}:
            return None
        if kind == "bool":
            return self._word(text, path, place)
        if kind in {"int", "float"}:
            return self._number(text, path, place)
        if kind == "timestamp":
            self._ambiguous(text, path, place, "YAML 1.1 reads it as a date, YAML 1.2 as text")
        elif kind == "str" and not node.style and _NUMBER_ELSEWHERE.fullmatch(text):
            self._ambiguous(text, path, place, "YAML 1.1 reads it as text, YAML 1.2 as a number")
        elif kind == "str" and _strange(text):
            what = "the text holds an unprintable character"
            fix = "delete the character"
            self.findings.append(Finding("inventory-encoding", place, path, what, "no setting needs it", fix))
        elif kind not in {"str", "value"}:
            self._check_tag(node, path, place)
        return text

    def _word(self, text: str, path: Path, place: Place) -> bool:
        if text in _WORDS:
            return _WORDS[text]
        meaning = text.lower() in {"yes", "on", "y"}
        self.findings.append(
            Finding(
                "inventory-ambiguous-word",
                place,
                path,
                f"{shown(text)} without quotes",
                f"YAML 1.1 reads it as {str(meaning).lower()}, YAML 1.2 as text",
                f'write {str(meaning).lower()} or, for the text, "{text}"',
            )
        )
        return meaning

    def _number(self, text: str, path: Path, place: Place) -> int | float:
        if _INTEGER.fullmatch(text):
            return int(text)
        if _DECIMAL.fullmatch(text):
            return float(text)
        self._ambiguous(text, path, place, _reading(text))
        return 0

    def _ambiguous(self, text: str, path: Path, place: Place, why: str) -> None:
        what = f"{shown(text)} without quotes"
        fix = "put quotes around it for the text, or write the number in plain digits"
        self.findings.append(Finding("inventory-ambiguous-number", place, path, what, why, fix))

    def _check_tag(self, node: yaml.Node, path: Path, place: Place) -> None:
        if node.tag not in {f"{_TAG}map", f"{_TAG}seq"}:
            what = f"the tag {shown(node.tag.removeprefix(_TAG))} is used"
            why = "an inventory holds text, numbers, true and false, lists and mappings only"
            self.findings.append(Finding("inventory-tag", place, path, what, why, "remove the tag"))


def _reading(text: str) -> str:
    """Say what YAML 1.1 makes of a number that is not in plain digits."""
    digits = text.lstrip("+-").replace("_", "")
    if ":" in digits and "." not in digits:
        total = 0
        for part in digits.split(":"):
            total = total * 60 + int(part)
        return f"YAML 1.1 reads it as the number {total} (base 60), YAML 1.2 as text"
    if re.fullmatch(r"0[0-7]+", digits) and len(digits) < 20:
        return f"YAML 1.1 reads it as the octal number {int(digits, 8)}, YAML 1.2 as {int(digits)}"
    if len(digits) > 18:
        return "it is longer than any setting takes, or would lose digits"
    return "YAML 1.1 and YAML 1.2 read such a number differently, or not at all"


def _strange(text: str) -> bool:
    return any((character < " " and character not in "\n\t") or "\ud800" <= character <= "\udfff" for character in text)


def _place(mark: Mark | None) -> Place:
    return Place(mark.line + 1, mark.column + 1) if mark else Place(1, 1)
