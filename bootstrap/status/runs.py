"""The time line of the last run, read from its log (`bootstrap.logs`)."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from bootstrap import logs

State = Literal["same", "changed", "failed", "unfinished"]


@dataclass(frozen=True, slots=True)
class Span:
    """A phase of a host: when it began and ended, in seconds from the run's beginning, and what came of it."""

    host: str
    phase: str
    begin: float
    end: float
    state: State


@dataclass(frozen=True, slots=True)
class Run:
    """A run: its command, when it began (RFC 3339, UTC), how long it took in seconds, and its phases as they began.

    `exit_code` is None where its log ends before the run did, as that of a run that was killed or goes on.
    """

    command: str
    began: str
    seconds: float
    spans: tuple[Span, ...]
    exit_code: int | None


def last(cluster: str, environment: Mapping[str, str]) -> Run | None:
    """Give the last run on the cluster so named that began a phase; None where none was logged, or can be read."""
    return next(_runs(cluster, environment, "*"), None)


def last_good(command: str, cluster: str, environment: Mapping[str, str]) -> Run | None:
    """Give the last such run of `command` that ended well; None where there is none."""
    found = _runs(cluster, environment, command.replace(" ", "-"))
    return next((run for run in found if run.exit_code == 0 and run.command == command), None)


def _runs(cluster: str, environment: Mapping[str, str], command: str) -> Iterator[Run]:
    """Read the logs, the newest first."""
    try:
        found = sorted(logs.folder(cluster, environment).glob(f"*-{command}.jsonl"), reverse=True)
    except (OSError, RuntimeError):  # there is no home folder
        return
    for path in found:
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        if run := read(text.splitlines()):
            yield run


def read(lines: Sequence[str]) -> Run | None:
    """Read the log of a run; lines that cannot be read, as the last of a killed run, are left out."""
    events = list(_events(lines))
    starts = [event for event in events if event["event"] == "started"]
    if not starts:
        return None
    began = _time(starts[0])
    open_: dict[tuple[str, str], float] = {}
    spans: list[Span] = []
    for event in events:
        key, now = (str(event.get("host", "")), str(event.get("phase", ""))), _time(event) - began
        if event["event"] == "phase-started":
            open_[key] = now
        elif event["event"] in {"phase-done", "host-failed"} and key in open_:
            state: State = "failed" if event["event"] == "host-failed" else "changed" if event["changed"] else "same"
            spans.append(Span(*key, open_.pop(key), now, state))
    seconds = _time(events[-1]) - began
    spans += [Span(*key, begin, seconds, "unfinished") for key, begin in open_.items()]
    if not spans:
        return None
    code = next((int(event["exitCode"]) for event in events if event["event"] == "ended"), None)
    ordered = tuple(sorted(spans, key=lambda span: span.begin))
    return Run(str(starts[0].get("command", "")), str(starts[0]["time"]), seconds, ordered, code)


def _events(lines: Sequence[str]) -> Iterator[dict[str, Any]]:
    for line in lines:
        try:
            event = json.loads(line)
            _time(event)
        except (ValueError, KeyError, TypeError):
            continue
        if isinstance(event.get("event"), str):
            yield event


def _time(event: Mapping[str, Any]) -> float:
    return datetime.datetime.fromisoformat(event["time"]).timestamp()
