"""An inventory in the making: what readers have found so far, and what they could not place."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from bootstrap import consistency, inventory
from bootstrap.errors import ConfigError
from bootstrap.spec import Cluster, camel
from bootstrap.values import ip_address, is_dns_name, shown

ImportId = Literal[
    "import-empty",
    "import-invalid",
    "import-line",
    "import-no-control-plane",
    "import-range",
    "import-syntax",
    "import-unknown-format",
    "import-unreadable",
]
"""Every reason why nothing can be imported; docs/import.md explains them."""


class ImportRefused(ConfigError):
    """What was to be imported cannot be. `id` says why."""

    prefix = ""

    def __init__(
        self, problem: ImportId, where: str, what: str, why: str, fix: str, mistakes: Sequence[str] = ()
    ) -> None:
        super().__init__("\n".join([f"{where}: {what}; {why}; {fix} [{problem}]", *mistakes]))
        self.id = problem


@dataclass(frozen=True, slots=True)
class Imported:
    """A valid inventory as YAML, and a line for each thing that it does not say."""

    text: str
    notes: Sequence[str]


@dataclass
class Draft:
    """What is known of a cluster; `note` tells what is not taken over, and why. `command` is who drafts it."""

    source: str
    command: str = "kubestrap config import"
    cluster: dict[str, Any] = field(default_factory=dict)
    hosts: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def note(self, where: str, what: str) -> None:
        """Tell what is not taken over, once."""
        line = f"{where}: {what}"
        if line not in self.notes:
            self.notes.append(line)

    def left(self, where: str, names: Sequence[str]) -> None:
        """Tell what has no counterpart here."""
        if names:
            self.note(where, f"no counterpart, and left out: {', '.join(names)}")

    def set(self, dotted: str, value: object) -> None:
        """Set a setting of the cluster, unless there is no value."""
        *folders, key = dotted.split(".")
        here: Any = self.cluster
        if value is not None:
            for folder in folders:
                here = here.setdefault(folder, {})
                if not isinstance(here, dict):
                    return  # which the inventory's own checks tell
            here[key] = value

    def version(self, where: str, given: object) -> None:
        """Take a Kubernetes version, where this program can build it."""
        found = re.match(r"v?(1\.([0-9]+)\.[0-9]+)(?:[+-].*)?$", str(given)) if given is not None else None
        if found and found[1].rpartition(".")[0] in consistency.SUPPORTED_MINORS:
            self.set("kubernetesVersion", found[1])
        elif given is not None:
            minors = ", ".join(f"{minor}.x" for minor in consistency.SUPPORTED_MINORS)
            self.note(where, f"{given} is not built by this program, which makes {minors}; its default is taken")

    def network(self, where: str, provider: object) -> None:
        """Take a Pod network: flannel, or one that somebody else installs."""
        if provider is None:
            return
        named = str(provider).lower()
        self.set("addons.cni", "flannel" if named == "flannel" else "none")
        if named != "flannel":
            self.note(where, f"{provider} is not installed by this program: addons.cni is none; install it after init")

    def host(self, name: object, address: object, roles: Sequence[str], where: str, **settings: object) -> None:
        """Add a host. A name that no Node can have is changed, one that is missing is made up, and both are told."""
        kept = {key: value for key, value in settings.items() if value not in (None, {}, [])}
        if settings.get("taints") == []:
            kept["taints"] = []
        self.hosts.append({"name": self._name(name, roles, where), "address": address, "roles": [*roles], **kept})

    def _name(self, given: object, roles: Sequence[str], where: str) -> str:
        used = {host["name"] for host in self.hosts}
        text = str(given) if given else ""
        if is_dns_name(text) and text not in used:
            return text
        plain = re.sub(r"[^a-z0-9.-]+", "-", text.lower()).strip("-.")
        if ip_address(text) or not is_dns_name(plain) or plain in used:
            stem = "master" if "control-plane" in roles else "worker"
            plain = next(f"{stem}{number}" for number in range(1, 10**6) if f"{stem}{number}" not in used)
        self.note(
            where,
            f"the host is called {plain} here: {shown(text) + ' cannot be a new Node' if text else 'it has no name'}",
        )
        return plain

    def finish(self) -> Imported:
        """Give the inventory. Raises `ImportRefused` where it is not a valid one."""
        if not any("control-plane" in _texts(host["roles"]) for host in self.hosts):
            raise ImportRefused(
                "import-no-control-plane",
                self.source,
                "no control-plane host was found in it" if self.hosts else "no hosts were found in it",
                "a cluster needs one to run its API server",
                "docs/import.md tells by which groups and roles hosts are found",
            )
        hosts, ssh = _common_login(self.hosts)
        data: dict[str, Any] = {"apiVersion": consistency.API_VERSION, "kind": consistency.KIND}
        places = [field.alias or camel(name) for name, field in Cluster.model_fields.items()]
        order = sorted(self.cluster, key=lambda key: places.index(key) if key in places else len(places))
        cluster = {key: self.cluster[key] for key in order}
        data |= {key: value for key, value in (("cluster", cluster), ("ssh", ssh), ("hosts", hosts)) if value}
        body = yaml.dump(data, Dumper=_Plain, sort_keys=False, allow_unicode=True, width=110)
        text = f"# Made from {self.source} by {self.command}.\n{body}"
        try:
            inventory.read(text.encode(), name=self.source, folder=Path.cwd())
        except inventory.InventoryError as error:
            told = [
                f"  {problem.path}: {'; '.join(filter(None, (problem.what, problem.why, problem.fix)))} [{problem.id}]"
                for problem in error.problems
            ]
            why = "nothing is written that does not validate"
            what, fix = "it would make no valid inventory", "correct there what these come from:"
            raise ImportRefused("import-invalid", self.source, what, why, fix, told) from error
        return Imported(text, tuple(self.notes))


class _Plain(yaml.SafeDumper):
    """Writes values that occur twice twice: inventories have no aliases."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002
        return True


def _texts(value: object) -> Sequence[object]:
    return value if isinstance(value, list) else [value]


def _common_login(hosts: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Say once how to log in where all hosts have it alike."""
    logins = [host.get("ssh", {}) for host in hosts]
    if not all(isinstance(login, dict) for login in logins):
        return list(hosts), {}
    shared = {key: value for key, value in logins[0].items() if all(login.get(key) == value for login in logins)}
    found = []
    for host in hosts:
        own = {key: value for key, value in host.get("ssh", {}).items() if key not in shared}
        rest = {key: value for key, value in host.items() if key != "ssh"}
        found.append({**rest, "ssh": own} if own else rest)
    return found, shared


class Given:
    """A mapping that was read. What is taken is gone from it, so that what is left can be told."""

    def __init__(self, data: object) -> None:
        self._data: dict[str, Any] = copy.deepcopy(data) if isinstance(data, dict) else {}

    def take(self, dotted: str, *kinds: type) -> Any:
        """Take the value at a path out, where it is of one of `kinds` (if any are given); else None."""
        *folders, key = dotted.split(".")
        here: Any = self._data
        for folder in folders:
            here = here.get(folder) if isinstance(here, dict) else None
        if not isinstance(here, dict) or key not in here:
            return None
        value = here[key]
        if kinds and (not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds)):
            return None
        return here.pop(key)

    def text(self, dotted: str) -> str | None:
        """Take a text out; an empty one is none."""
        return self.take(dotted, str) or None

    def number(self, dotted: str) -> int | None:
        """Take a whole number out, also one that is written as text."""
        value = self.take(dotted, int, str)
        if value is None or str(value).isdecimal():
            return None if value is None else int(value)
        self._data[dotted] = value  # it stays to be told
        return None

    def given(self, dotted: str) -> list[Given]:
        """Take a list of mappings out."""
        return [Given(item) for item in self.take(dotted, list) or ()]

    def left(self) -> list[str]:
        """List the paths of what is left."""
        return list(_leaves(self._data, ""))


def _leaves(value: object, path: str) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, f"{path}.{key}" if path else str(key))
    elif value is not None and path:
        yield path


def arguments(given: object) -> list[dict[str, str]] | None:
    """Give a mapping of flags in kubeadm's form; a list as value repeats the flag."""
    if not isinstance(given, Mapping) or not given:
        return None
    pairs = [(name, one) for name, value in given.items() for one in (value if isinstance(value, list) else [value])]
    return [{"name": str(name).lstrip("-"), "value": written(value)} for name, value in pairs]


def written(value: object) -> str:
    """Give a value as a flag has it."""
    return value if isinstance(value, str) else json.dumps(value)


def labels(given: object) -> dict[str, str] | None:
    """Give labels from a mapping, or from `key=value` texts."""
    if isinstance(given, str):
        given = [part for part in given.split(",") if part]
    if isinstance(given, Sequence):
        given = dict(str(part).partition("=")[::2] for part in given)
    return {str(key): written(value) for key, value in given.items()} if isinstance(given, Mapping) else None


def taints(given: object) -> list[dict[str, str]] | None:
    """Give taints from mappings, or from `key=value:effect` texts."""
    if isinstance(given, str):
        given = [part for part in given.split(",") if part]
    if not isinstance(given, Sequence):
        return None
    found = []
    for taint in given:
        if isinstance(taint, Mapping):
            found.append({key: str(value) for key, value in taint.items() if value is not None})
        else:
            pair, _, effect = str(taint).rpartition(":")
            key, _, value = pair.partition("=")
            found.append({"key": key, **({"value": value} if value else {}), "effect": effect})
    return found


def jump(user: object, address: object, port: object) -> str | None:
    """Give a jump host as OpenSSH's ProxyJump has it."""
    if not address:
        return None
    host = f"[{address}]" if ":" in str(address) else str(address)
    return f"{f'{user}@' if user else ''}{host}{f':{port}' if port and port != 22 else ''}"
