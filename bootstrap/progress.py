"""What a terminal shows while a run goes on: a row for each host, a mark for each of its phases, what it does now."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, TextIO

from rich.console import Console  # typer needs it, so it is there
from rich.live import Live
from rich.text import Text

from bootstrap.events import Event, HostFailed, PhaseDone, PhaseStarted, Recap, Sending, Waiting
from bootstrap.report import PATIENCE, duration, painted, sending

if TYPE_CHECKING:
    from rich.console import RenderableType

    from bootstrap.status.runs import Run

_OTHER_LINES = 4  # besides hosts, and one for where the cursor stands
_MARKS = {"same": "=", "changed": "+", "failed": "x", "now": ">"}
_LEGEND = "> goes on  + changed  = was right  x failed"


class _Terminal(Console):
    def show_cursor(self, _: bool = True) -> bool:
        """Leave it alone: a process that is killed could not show it again."""
        return False


class Progress:
    """Takes a run's events, and shows below its lines, which `say` writes, where each host is.

    It begins with the first phase, ends with the recap or by `end`, and leaves nothing behind. `earlier` is a run of
    the same command: how long its phases took is what is expected of this one. Texts are masked by `mask`. Threads may
    share it.
    """

    def __init__(
        self, stream: TextIO, hosts: Sequence[str], earlier: Run | None, mask: Callable[[str], str], *, colour: bool
    ) -> None:
        self._hosts = list(hosts)
        self._mask = mask
        self._colour = colour
        self._expected: dict[str, float] = {}
        for span in earlier.spans if earlier else ():
            self._expected[span.phase] = max(span.end - span.begin, self._expected.get(span.phase, 0.0))
        self._whole = earlier.seconds if earlier else 0.0
        self._phases = list(self._expected)
        self._marks: dict[tuple[str, str], str] = {}
        self._now: dict[str, tuple[str, float]] = {}  # host: its phase, and since when
        self._doing: dict[str, str] = {}  # host: what it waits for, or sends
        self._began = time.monotonic()
        self._lock = threading.Lock()
        self._console = _Terminal(file=stream, force_terminal=True, no_color=not colour, highlight=False, markup=False)
        self._live = Live(
            console=self._console,
            transient=True,
            refresh_per_second=2,
            redirect_stdout=False,
            redirect_stderr=False,
            get_renderable=self._picture,
        )

    def __call__(self, event: Event) -> None:
        """Take one event."""
        if isinstance(event, Recap):
            self.end()
            return
        with self._lock:
            self._take(event)
        if isinstance(event, PhaseStarted) and not self._live.is_started:
            with suppress(OSError):  # a run goes on when nobody reads it
                self._live.start()

    def say(self, text: str) -> None:
        """Write a line above what is shown."""
        with suppress(OSError):
            self._console.print(Text.from_ansi(text), soft_wrap=True)

    def end(self) -> None:
        """Show nothing any more."""
        with suppress(OSError):
            self._live.stop()

    def _take(self, event: Event) -> None:
        match event:
            case PhaseStarted(host=host, phase=phase):
                if host not in self._hosts:
                    self._hosts.append(host)
                if phase not in self._phases:
                    self._phases.append(phase)
                self._marks[host, phase] = "now"
                self._now[host] = phase, time.monotonic()
                self._doing.pop(host, None)
            case Waiting(host=host) if event.elapsed >= PATIENCE:
                self._doing[host] = f"waits for {self._mask(event.what)}"
            case Sending(host=host):
                self._doing[host] = f"receives {sending(event)}"
            case PhaseDone(host=host, phase=phase):
                self._marks[host, phase] = "changed" if event.changed else "same"
                if self._now.get(host, ("", 0.0))[0] == phase:
                    self._leave(host)
            case HostFailed(host=host):
                if host in self._now:
                    self._marks[host, self._now[host][0]] = "failed"
                    self._leave(host)

    def _leave(self, host: str) -> None:
        self._now.pop(host, None)
        self._doing.pop(host, None)

    def _picture(self) -> RenderableType:
        with self._lock:
            height = self._console.size.height
            busy = [host for host in self._hosts if host in self._now]
            shown = [*busy, *(host for host in self._hosts if host not in self._now)]
            fitting = max(1, height - _OTHER_LINES)
            kept = set(shown[:fitting])
            lines = [self._head()]
            lines += [self._row(host) for host in self._hosts if host in kept]
            if len(shown) > fitting:
                lines.append(f"and {len(shown) - fitting} hosts more")
            lines.append(_LEGEND)
        text = Text("\n").join(Text.from_ansi(line) for line in lines)
        text.no_wrap, text.overflow = True, "crop"
        return text

    def _head(self) -> str:
        gone = duration(time.monotonic() - self._began)
        expected = f" of about {duration(self._whole)}" if self._whole else ""
        return f"-- {gone}{expected}; {len(self._now)} of {len(self._hosts)} hosts at work"

    def _row(self, host: str) -> str:
        longest = max(len(name) for name in self._hosts)
        marks = "".join(self._mark(host, phase) for phase in self._phases)
        row = f"{host:<{longest}}  {marks}"
        if host not in self._now:
            return row
        phase, since = self._now[host]
        expected = self._expected.get(phase, 0.0)
        times = duration(time.monotonic() - since) + (f" of about {duration(expected)}" if expected else "")
        return "  ".join([row, phase, times, *([self._doing[host]] if host in self._doing else [])])

    def _mark(self, host: str, phase: str) -> str:
        state = self._marks.get((host, phase), "")
        return painted(_MARKS.get(state, "."), "waiting" if state == "now" else state, colour=self._colour)
