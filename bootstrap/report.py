"""What people see of a run: one line for each phase of each host, as it goes, and a table at its end."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TextIO

from bootstrap.errors import words
from bootstrap.events import (
    Checked,
    Event,
    HostFailed,
    HostState,
    Note,
    PhaseDone,
    PhaseStarted,
    Recap,
    Sending,
    StepDone,
    Waiting,
    Warned,
)

PATIENCE = 5.0
"""Seconds that a wait lasts before it is told; then at twice that, and so on."""
LARGE = 32 * 1024 * 1024
"""Bytes from which sending is told, at each quarter."""
PHASE_WIDTH = 26

_STYLES = {
    "changed": "33",
    "same": "2",
    "failed": "31;1",
    "unreachable": "31;1",
    "unfinished": "31;1",
    "not-begun": "36",
    "waiting": "36",
}


@dataclass(slots=True)
class Tally:
    """What one host did in a run, counted in steps; `seconds` is the time spent in phases."""

    changed: int = 0
    same: int = 0
    seconds: float = 0.0
    error: Exception | None = None


@dataclass(slots=True)
class Report:
    """A `Listener` that tells a run line by line through `write`, which is given lines without their newline.

    `hosts` are the names that will appear, for the width of the first column. What was seen is in `tallies`,
    `phases` (the longest that each phase took on a host, in seconds) and `checked` (whether all checks passed).
    """

    write: Callable[[str], None]
    hosts: Sequence[str] = ()
    colour: bool = False
    tallies: dict[str, Tally] = field(default_factory=dict)
    phases: dict[str, float] = field(default_factory=dict)
    checked: dict[str, bool] = field(default_factory=dict)
    _changes: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    _told: dict[tuple[str, str, str], float] = field(default_factory=dict)

    def __call__(self, event: Event) -> None:
        """Take one event."""
        match event:
            case Note(text=text):
                self.write(text)
            case Warned():
                self.write(warning(event))
            case Checked():
                self.checked[event.host] = self.checked.get(event.host, True) and not event.problems
            case Recap() if self.tallies:
                self.write("")
                self.write(recap(event.hosts, self.phases, event.seconds, colour=self.colour))
            case PhaseStarted(host=host):
                self._tally(host)
            case StepDone():
                self._step(event)
            case Waiting():
                self._waiting(event)
            case Sending():
                self._sending(event)
            case PhaseDone():
                self._done(event)
            case HostFailed():
                self._failed(event)

    def _tally(self, host: str) -> Tally:
        return self.tallies.setdefault(host, Tally())

    def _step(self, event: StepDone) -> None:
        tally = self._tally(event.host)
        if event.state == "same":
            tally.same += 1
            return
        tally.changed += 1
        self._changes.setdefault((event.host, event.phase), []).append(change(event))

    def _done(self, event: PhaseDone) -> None:
        self._tally(event.host).seconds += event.seconds
        self.phases[event.phase] = max(event.seconds, self.phases.get(event.phase, 0.0))
        self._line(event.host, event.phase, *outcome(event))
        for text in self._changes.pop((event.host, event.phase), []):
            self.write(f"    {text}")

    def _waiting(self, event: Waiting) -> None:
        key = (event.host, event.phase, event.what)
        if event.elapsed < self._told.get(key, 0.0):
            del self._told[key]  # a wait of the same name begins anew
        if event.elapsed >= max(PATIENCE, 2 * self._told.get(key, 0.0)):
            self._told[key] = event.elapsed
            self._line(event.host, event.phase, "waiting", waiting(event))

    def _sending(self, event: Sending) -> None:
        if event.total < LARGE:
            return
        key = (event.host, event.phase, "sending")
        quarter = 4 * event.sent // event.total
        if quarter > self._told.get(key, 0.0) or event.sent < event.total / 4 < self._told.get(key, 0.0):
            self._told[key] = quarter
            self._line(event.host, event.phase, "sending", sending(event))

    def _failed(self, event: HostFailed) -> None:
        self._tally(event.host).error = event.error
        for text in self._changes.pop((event.host, event.phase), []):
            self.write(f"    {text}")
        first, *more = words(event.error).splitlines() or [""]
        self._line(event.host, event.phase, "failed", first)
        for text in more:
            self.write(f"    {text}")

    def _line(self, host: str, phase: str, word: str, text: str) -> None:
        width = max((len(name) for name in (*self.hosts, host)), default=0)
        self.write(line(host, phase, painted(word, word, colour=self.colour), text, width=width))


def line(host: str, phase: str, word: str, text: str, *, width: int) -> str:
    """Lay out one line: host, phase, a word for what happened, and more about it."""
    return f"{host:<{width}}  {phase:<{PHASE_WIDTH}}  {word} {text}".rstrip()


def outcome(event: PhaseDone) -> tuple[str, str]:
    """Say how a phase ended: a word, and the rest of the line."""
    if event.changed == 0:
        return "same", f"  {duration(event.seconds)}"
    return "changed", f"{event.changed} of {event.steps}  {duration(event.seconds)}"


def change(event: StepDone) -> str:
    """Say which step changed something, and how."""
    return f"{event.step}: {event.what}" if event.what else event.step


def waiting(event: Waiting) -> str:
    """Say what is waited for, how long already, the limit, and what is left of it."""
    return f"for {event.what}: {duration(event.elapsed)} of {duration(event.limit)}, {duration(event.left)} left"


def sending(event: Sending) -> str:
    """Say how much is sent."""
    return f"{size(event.sent)} of {size(event.total)}"


def duration(seconds: float) -> str:
    """Write a time for people: `0.4 s`, `12.0 s`, `3 min 05 s`."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s"


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Give a line for each row, with its cells below those of the row above."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def size(count: int) -> str:
    """Write a number of bytes for people: `512 B`, `1.5 MiB`."""
    amount = float(count)
    for unit in ("B", "KiB", "MiB"):
        if amount < 1024:
            return f"{count} B" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} GiB"


def warning(event: Warned) -> str:
    """Tell what preflight found and the run goes on in spite of."""
    where = f"{event.host}: {event.check}: " if event.host else ""
    return f"{event.level.capitalize()}: {where}{event.what}; {event.fix}"


def checked(event: Checked) -> str:
    """Tell what came of a check, with every problem on a line of its own."""
    head = f"{'FAILED' if event.problems else 'passed'}  {event.host:<20}{event.check}"
    return "\n".join([head, *(f"        {problem}" for problem in event.problems)])


def recap(hosts: Sequence[HostState], phases: Mapping[str, float], seconds: float, *, colour: bool = False) -> str:
    """Give the table at the end of a run: what became of each host, and what took longest."""
    width = max(len(name) for name in (*(state.host for state in hosts), "HOST"))
    lines = [f"{'HOST':<{width}}  {'STATE':<11}  CHANGED     SAME  TIME"]
    for host in hosts:
        state = painted(f"{host.state.replace('-', ' '):<11}", host.state, colour=colour)
        changed = painted(f"{host.changed:>7}", "changed" if host.changed else "", colour=colour)
        same = painted(f"{host.same:>7}", "same" if host.same else "", colour=colour)
        lines.append(f"{host.host:<{width}}  {state}  {changed}  {same}  {duration(host.seconds)}")
    slowest = sorted(phases.items(), key=lambda item: -item[1])[:3]
    longest = ", ".join(f"{phase} {duration(took)}" for phase, took in slowest)
    lines.append(f"{duration(seconds)} in all" + (f"; longest: {longest}" if longest else ""))
    return "\n".join(lines)


def painted(text: str, style: str, *, colour: bool) -> str:
    """Colour `text` for a terminal as the word `style` is."""
    code = _STYLES.get(style)
    return f"\x1b[{code}m{text}\x1b[0m" if colour and code else text


def wants_colour(stream: TextIO | None, environment: Mapping[str, str]) -> bool:
    """Say whether to colour what goes to `stream`.

    NO_COLOR forbids it (no-color.org), CLICOLOR_FORCE and FORCE_COLOR demand it; else it is for terminals that can.
    """
    if environment.get("NO_COLOR"):
        return False
    if any(environment.get(name, "0") not in {"", "0"} for name in ("CLICOLOR_FORCE", "FORCE_COLOR")):
        return True
    return environment.get("TERM", "dumb") != "dumb" and stream is not None and stream.isatty()


def tell(text: str) -> None:
    """Write a line to stderr. A run goes on when nobody reads it."""
    if sys.stderr is None:
        return
    try:
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()
    except OSError:
        return
