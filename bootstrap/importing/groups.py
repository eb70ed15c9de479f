"""Ansible's inventories: hosts, groups and variables, from INI and YAML, with group_vars and host_vars beside them."""

from __future__ import annotations

import ast
import itertools
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bootstrap.importing import files
from bootstrap.importing.draft import ImportRefused

_RANGE = re.compile(r"\[([0-9]+|[A-Za-z]):([0-9]+|[A-Za-z])(?::([0-9]+))?\]")
_IGNORED = (".cfg", ".retry", ".orig", ".bak", ".pyc", ".md", ".py", ".sh", "~")
_MOST_HOSTS = 10_000


@dataclass(frozen=True, slots=True)
class Variable:
    """A value, and where it was given."""

    value: Any
    file: str
    line: int = 0

    @property
    def where(self) -> str:
        """The place for messages."""
        return f"{self.file}:{self.line}" if self.line else self.file


Variables = dict[str, Variable]


@dataclass
class Group:
    """One group. `late` are the variables of group_vars, which win over those beside the hosts."""

    hosts: list[str] = field(default_factory=list)
    children: list[str] = field(default_factory=list)
    variables: Variables = field(default_factory=dict)
    late: Variables = field(default_factory=dict)


@dataclass
class Groups:
    """A whole inventory."""

    groups: dict[str, Group] = field(default_factory=dict)
    hosts: dict[str, Variables] = field(default_factory=dict)
    encrypted: list[str] = field(default_factory=list)

    def group(self, name: str) -> Group:
        """Give a group, a new one where there is none of that name."""
        return self.groups.setdefault(name, Group())

    def host(self, name: str) -> Variables:
        """Give a host's own variables."""
        return self.hosts.setdefault(name, {})

    def members(self, name: str) -> list[str]:
        """List the hosts of a group and of those below it."""
        found: dict[str, None] = {}
        seen: set[str] = set()
        queue = [name]
        while queue:
            here = queue.pop(0)
            if here not in seen and here in self.groups:
                seen.add(here)
                found |= dict.fromkeys(self.groups[here].hosts)
                queue += self.groups[here].children
        return list(found)

    def variables(self, host: str) -> Variables:
        """Give what holds for a host: `all`, then groups from the outermost in, then the host's own."""
        depths = self._depths()
        mine = [name for name in self.groups if name != "all" and host in self.members(name)]
        order = ["all", *sorted(mine, key=lambda name: (depths.get(name, 1), name))]
        found: Variables = {}
        for kind in ("variables", "late"):
            for name in order:
                found |= getattr(self.groups.get(name, Group()), kind)
        return found | self.hosts.get(host, {})

    def _depths(self) -> dict[str, int]:
        depths = dict.fromkeys(self.groups, 1)
        for _ in self.groups:  # a chain is no longer than there are groups; circles end with it
            for name, group in self.groups.items():
                for child in group.children:
                    depths[child] = min(max(depths.get(child, 1), depths[name] + 1), len(self.groups))
        return depths


def read(path: Path, text: str, name: str) -> Groups:
    """Read one inventory file and the variables in the folders beside it."""
    groups = Groups()
    _inventory(groups, path, text, name)
    if name != "stdin":
        _beside(groups, path.parent)
    return groups


def read_folder(path: Path) -> Groups:
    """Read every inventory file of a folder, and its variables."""
    groups = Groups()
    for file in sorted(path.iterdir()):
        if file.is_file() and not file.name.startswith(".") and not file.name.endswith(_IGNORED):
            _inventory(groups, file, files.content(file, str(file)), str(file))
    _beside(groups, path)
    return groups


def _inventory(groups: Groups, path: Path, text: str, name: str) -> None:
    if path.suffix in {".yml", ".yaml", ".json"}:
        _yaml(groups, files.parse(text, name), name)
    elif path.suffix == ".ini" or re.search(r"^\[[^\]\s]+\]", text, re.MULTILINE):
        _ini(groups, text, name)
    else:
        try:
            data = files.parse(text, name)
        except ImportRefused:
            data = None
        if isinstance(data, dict):
            _yaml(groups, data, name)
        else:
            _ini(groups, text, name)


def _ini(groups: Groups, text: str, name: str) -> None:
    section, kind = "ungrouped", "hosts"
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip()
        if not line or line[0] in "#;":
            continue
        head = re.fullmatch(r"\[([^:\]\s]+)(?::(\w+))?\]\s*([#;].*)?", line)
        if head:
            section, kind = head[1], head[2] or "hosts"
            if kind not in {"hosts", "children", "vars"}:
                raise _bad_line(
                    name, number, f"the section [{section}:{kind}] is not known", "write :children or :vars"
                )
            groups.group(section)
        elif kind == "vars":
            key, equals, value = line.partition("=")
            if not equals:
                raise _bad_line(name, number, "a variable has no value", "write name=value")
            groups.group(section).variables[key.strip()] = Variable(_literal(value.strip()), name, number)
        elif kind == "children":
            child = line.split()[0]
            groups.group(section).children.append(child)
            groups.group(child)
        else:
            _ini_host(groups, section, line, name, number)


def _ini_host(groups: Groups, section: str, line: str, name: str, number: int) -> None:
    try:
        words = shlex.split(line, comments=True)
    except ValueError as error:
        raise _bad_line(name, number, f"the line cannot be read: {error}", "close the quotes") from None
    own: Variables = {}
    for word in words[1:]:
        key, equals, value = word.partition("=")
        if not equals:
            raise _bad_line(name, number, f'"{word}" is not a variable', "write name=value, without spaces around =")
        own[key] = Variable(_literal(value), name, number)
    pattern = words[0]
    port = re.fullmatch(r"([^:\[\]]+|.*\]):([0-9]+)", pattern)
    if port and "::" not in pattern:
        pattern = port[1]
        own.setdefault("ansible_port", Variable(int(port[2]), name, number))
    for host in expanded(pattern, f"{name}:{number}"):
        groups.group(section).hosts.append(host)
        groups.host(host).update(own)


def _bad_line(name: str, number: int, what: str, fix: str) -> ImportRefused:
    return ImportRefused("import-line", f"{name}:{number}", what, "Ansible would not read it either", fix)


def _literal(text: str) -> Any:
    """Read a value as Ansible does: Python's literals, else text."""
    if text.lower() in {"true", "false"}:
        return text.lower() == "true"
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return text


def expanded(pattern: str, where: str) -> list[str]:
    """List the hosts of a name with ranges, as `node[01:10]` or `db-[a:c]`. Raises `ImportRefused`."""
    ranges = list(_RANGE.finditer(pattern))
    if not ranges:
        return [pattern]
    parts = [list(_between(found, where)) for found in ranges]
    texts = _RANGE.sub("\0", pattern).split("\0")
    count = 1
    for part in parts:
        count *= len(part)
    if count > _MOST_HOSTS:
        raise ImportRefused(
            "import-range", where, f"{pattern} is {count} hosts", f"at most {_MOST_HOSTS} are read", "correct the range"
        )
    return [
        "".join(itertools.chain(*zip(texts, chosen, strict=False), texts[-1:])) for chosen in itertools.product(*parts)
    ]


def _between(found: re.Match[str], where: str) -> Iterator[str]:
    first, last, step = found[1], found[2], int(found[3] or 1)
    numbers = first.isdigit()
    if numbers != last.isdigit() or step == 0 or (int(first) > int(last) if numbers else first > last):
        why = "a range goes from a number to a greater one, or from a letter to a later one"
        raise ImportRefused(
            "import-range", where, f"{found[0]} is not a range", why, "write for example [1:3], [01:10] or [a:c]"
        )
    if numbers:
        for number in range(int(first), int(last) + 1, step):
            yield str(number).zfill(len(first) if first.startswith("0") else 0)
    else:
        for code in range(ord(first), ord(last) + 1, step):
            yield chr(code)


def _yaml(groups: Groups, data: Any, name: str) -> None:
    for group, given in data.items() if isinstance(data, dict) else ():
        _yaml_group(groups, str(group), given, name, 0)


def _yaml_group(groups: Groups, name: str, given: Any, file: str, depth: int) -> None:
    group = groups.group(name)
    if not isinstance(given, dict) or depth > 40:
        return
    for pattern, own in _items(given.get("hosts")):
        for host in expanded(pattern, file):
            group.hosts.append(host)
            groups.host(host).update({key: Variable(value, file) for key, value in _items(own)})
    group.variables.update({key: Variable(value, file) for key, value in _items(given.get("vars"))})
    for child, inner in _items(given.get("children")):
        group.children.append(child)
        _yaml_group(groups, child, inner, file, depth + 1)


def _items(given: Any) -> list[tuple[str, Any]]:
    return [(str(key), value) for key, value in given.items()] if isinstance(given, dict) else []


def _beside(groups: Groups, folder: Path) -> None:
    for kind in ("group_vars", "host_vars"):
        for name, file in _variable_files(folder / kind):
            text = files.content(file, str(file))
            if text.startswith("$ANSIBLE_VAULT"):
                groups.encrypted.append(str(file))
                continue
            data = files.parse(text, str(file))
            lines = files.lines(text) if isinstance(data, dict) else {}
            found = {key: Variable(value, str(file), lines.get(key, 0)) for key, value in _items(data)}
            if kind == "host_vars":
                groups.host(name).update(found)
            else:
                groups.group(name).late.update(found)


def _variable_files(folder: Path) -> Iterator[tuple[str, Path]]:
    for entry in sorted(folder.iterdir()) if folder.is_dir() else ():
        if entry.is_dir():
            yield from ((entry.name, file) for file in sorted(entry.rglob("*")) if _holds_variables(file))
        elif _holds_variables(entry):
            yield (
                entry.name.removesuffix(entry.suffix) if entry.suffix in {".yml", ".yaml", ".json"} else entry.name,
                entry,
            )


def _holds_variables(file: Path) -> bool:
    return file.is_file() and not file.name.startswith(".") and not file.name.endswith(_IGNORED)
