"""Why the control plane is not up: sh that gathers evidence on the machine, and what is read out of it.

The API server, which is what is missing, is never asked. On the machine `bootstrap/diagnosis.sh` reads container
states, logs and journals; here its lines become a verdict: the guilty component first, then the evidence.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from importlib import resources
from shlex import quote

from bootstrap import causes, paths

LINES = 25
"""The most lines that a diagnosis has."""
_WIDTH = 200
_SHARED = 8  # texts that a plan of thousands of hosts has once, not once a host
_INDENT = "  "
_CTR = f"{paths.BINARIES}/ctr"
# Logs are not meant to hold any of these; where one does, it is not for people to pass on.
_SECRETS = (
    (re.compile(r"\b[a-z0-9]{6}\.[a-z0-9]{16}\b"), "<token>"),
    (re.compile(r"(?i)\b((?:password|passwd|secret|token|authorization)[\"']?\s*[=:]\s*)(?!/)\S+"), r"\1<hidden>"),
    (re.compile(r"-----BEGIN .*"), "<PEM>"),
)


@lru_cache(_SHARED)
def until(ask: str, components: tuple[str, ...], glance: str = ":") -> str:
    """Give the `until` of a `Wait` for `components`: exits 0 where `ask` (sh) does, and 2 where waiting is in vain.

    `ask` writes why not yet, beginning with the name of the component that does not answer. `glance` (sh), which costs
    next to nothing, exits 1 where `ask` is sure to; then `ask` is run only now and then, as it knows better why.
    """
    return f"{_library(components)}\nglance() {{\n{glance}\n}}\nask() {{\n{ask}\n}}\nlook\n"


@lru_cache(_SHARED)
def explain(components: tuple[str, ...]) -> str:
    """Give the `explain` of such a `Wait`, whose output `read` reads."""
    return f"{_library(components)}\nevidence\n"


@lru_cache(_SHARED)
def none_held_back(components: tuple[str, ...]) -> str:
    """Give sh that exits 0 unless the kubelet puts off the next start of a component, which ended while it ran."""
    return f"{_library(components)}\n! held_back\n"


@cache
def _library(components: tuple[str, ...]) -> str:
    given = {
        "components": " ".join(components),
        "known": causes.known(),
        "certain": causes.certain(),
        "ctr": _CTR,
    }
    variables = "\n".join(f"{name}={quote(value)}" for name, value in given.items())
    return f"{variables}\n{resources.files('bootstrap').joinpath('diagnosis.sh').read_text()}"


@dataclass(slots=True)
class Component:
    """What is known of a component's newest container. `state` is absent, running or exited."""

    state: str
    status: str = ""
    exits: int = 0
    log: str = ""


@dataclass(slots=True)
class Evidence:
    """What a machine says. `said` is what the wait saw last, `guilty` the component it despaired of."""

    said: list[str] = field(default_factory=list)
    guilty: str = ""
    units: dict[str, list[str]] = field(default_factory=dict)
    components: dict[str, Component] = field(default_factory=dict)
    images: dict[str, str] = field(default_factory=dict)
    ports: list[tuple[str, str, str]] = field(default_factory=list)
    disks: list[tuple[str, str, str]] = field(default_factory=list)
    logs: dict[str, list[str]] = field(default_factory=dict)

    @property
    def suspect(self) -> str:
        """The component to look at first: the one despaired of, or the first in the order of dependence that is ill."""
        if self.guilty:
            return self.guilty
        kubelet = self.units.get("kubelet", ["active", "running"])
        if kubelet[:2] != ["active", "running"]:
            return "kubelet"
        if not self.components:
            return "kubelet"
        silent = next((line.partition(" ")[0] for line in self.said if " does not answer " in line), "")
        for name, component in self.components.items():
            if component.state != "running" or name == silent:
                return name
        return silent


def read(text: str) -> Evidence:
    """Read what `despair` and `evidence` of diagnosis.sh wrote. Lines that are not evidence are what was said."""
    evidence = Evidence()
    for line in text.splitlines():
        match line.split("\t"):
            case ["guilty", name]:
                evidence.guilty = name
            case ["unit", name, *state]:
                evidence.units[name] = state
            case ["component", name, state, *rest]:
                status, exits, log = [*rest, "", "", ""][:3]
                evidence.components[name] = Component(state, status, int(exits or 0), log)
            case ["image", name, reference]:
                evidence.images[name] = reference
            case ["port", port, pid, program]:
                evidence.ports.append((port, pid, program))
            case ["disk", folder, free, used]:
                evidence.disks.append((folder, free, used))
            case ["log", name, said]:
                evidence.logs.setdefault(name, []).append(said)
            case _ if line.strip():
                evidence.said.append(line)
    return evidence


def explained(text: str) -> str:
    """Turn the evidence into what people are told: the verdict, what to do, and what it rests on."""
    evidence = read(text)
    name = evidence.suspect
    own = evidence.logs.get(name, [])
    kubelet = evidence.logs.get("kubelet", [])
    about = own if name == "kubelet" else [*own, *(line for line in kubelet if name and name in line)]
    said = [line for line in evidence.said if line.startswith(f"{name} ")]
    found = causes.find(name, about) or causes.find(name, said) or (causes.find(name, kubelet) if not own else None)
    lines = [f"{_state(evidence, name)}{f': {found.meaning}' if found else ''}", *_facts(evidence)]
    if found:
        lines.append(f"What to do: {found.fix}")
    lines += _quoted(f"{name} says", own, evidence.components.get(name), found=found)
    if name != "kubelet":
        lines += _quoted("The kubelet says", kubelet)
    others = [each for each, state in evidence.components.items() if state.state != "running" and each != name]
    if others:
        lines.append(f"Not running either: {', '.join(others)}")
    if not found and name not in ("containerd", ""):
        lines += _quoted("containerd says", evidence.logs.get("containerd", [])[-2:])
    lines += [f"Seen last: {line}" for line in evidence.said[:2]]
    return "\n".join(shown(line) for line in lines[:LINES])


def _state(evidence: Evidence, name: str) -> str:
    if not name:
        return "no component is known to be at fault"
    if name in evidence.images:
        return f"{name} is not started, as its image {evidence.images[name]} is not on the machine"
    if name == "kubelet":
        active, sub, restarts, status = [*evidence.units.get("kubelet", []), "", "", "", ""][:4]
        if (active, sub) == ("active", "running"):
            return "the kubelet runs, but does not answer" if evidence.components else "the kubelet runs"
        again = f", and was started {restarts} times again" if restarts not in ("", "0") else ""
        return f"the kubelet does not run: it exited with {status or '?'}{again}"
    component = evidence.components.get(name)
    if component is None:
        return f"{name} does not answer"
    if component.state == "exited":
        often = f" ({component.exits} times while it was watched)" if component.exits > 1 else ""
        return f"{name} does not run: it exited with {component.status}{often}"
    if component.state == "absent":
        return f"{name} has no container"
    return f"{name} runs, but does not answer"


def _facts(evidence: Evidence) -> list[str]:
    lines = [
        f"Port {port} is taken by {program or 'a process out of sight'} (pid {pid})"
        for port, pid, program in evidence.ports
    ]
    lines += [f"{free} MiB are left on the disk of {folder} ({used} are used)" for folder, free, used in evidence.disks]
    containerd = evidence.units.get("containerd", ["active"])
    if containerd[0] != "active":
        lines.append(f"containerd does not run: its unit is {containerd[0]}")
    return lines


def _quoted(
    title: str, lines: Sequence[str], component: Component | None = None, *, found: causes.Match | None = None
) -> list[str]:
    if not lines:
        return []
    where = f" ({component.log})" if component and component.log else ""
    # The line that the verdict rests on comes first, then what was said last; no line twice.
    ranked = dict.fromkeys(plain(line) for line in lines[-5:])
    if found and found.line in lines:
        first = plain(found.line)
        ranked.pop(first, None)
        ranked = dict.fromkeys([_around(found.cause.pattern, first), *ranked])
    return [f"{title}{where}:", *(f"{_INDENT}{line}" for line in ranked)]


def _around(pattern: str, line: str) -> str:
    """Give a line so that what the verdict rests on is not what is cut off."""
    match = re.search(pattern, line)
    if match is None or match.end() <= _WIDTH - 10:
        return line
    return f"{line[:50]}...{line[max(50, min(match.start(), match.end() - 120)) :]}"


def plain(line: str) -> str:
    """Give a log line without what only programs read: etcd's JSON, and its stack traces."""
    if line.startswith("{"):
        try:
            data = json.loads(line)
        except ValueError:
            found = re.match(r'.*?"msg":"([^"]*)"(?:.*?"error":"((?:[^"\\]|\\.)*)")?', line)
            return f"{found[1]}: {found[2]}" if found and found[2] else found[1] if found else line
        if isinstance(data, dict) and "msg" in data:
            return ": ".join(str(data[key]) for key in ("msg", "error") if key in data)
    return line


def shown(line: str) -> str:
    """Give a line as it may be told: without secrets, and not longer than people read."""
    for pattern, instead in _SECRETS:
        line = pattern.sub(instead, line)
    return line if len(line) <= _WIDTH else f"{line[: _WIDTH - 3]}..."
