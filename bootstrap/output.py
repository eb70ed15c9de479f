"""Where a command's events go: to people as text, or to programs as JSON lines, and into the log of a run."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal, TextIO

from bootstrap.redaction import Secrets

if TYPE_CHECKING:
    from pathlib import Path

    from bootstrap.errors import Problem
    from bootstrap.events import Event, Listener
    from bootstrap.progress import Progress
    from bootstrap.report import Report
    from bootstrap.spec import Inventory

Format = Literal["text", "json"]
FORMATS: tuple[Format, ...] = ("text", "json")


class Output:
    """The way out for all that a command tells. One is made for each call of the command line; threads may share it.

    As `text`, data goes to stdout and everything else to stderr. As `json`, every event is a line on stdout. What is
    among `secrets` goes nowhere, but for a command's own result on stdout.
    """

    def __init__(self) -> None:
        self.format: Format = "text"
        self.secrets = Secrets()
        self._began = time.monotonic()
        self._lock = threading.RLock()
        self._report: Report | None = None
        self._progress: Progress | None = None
        self._log: TextIO | None = None
        self._log_path: Path | None = None
        self._unread = False

    def tell(self, event: Event) -> None:
        """Take an event (a `Listener`). A run goes on when nobody reads it, and when its log cannot be written."""
        from bootstrap.events import Checked
        from bootstrap.report import Report, checked

        with self._lock:
            if self._report is None and self.format == "text":
                self._report = Report(self._say)
            if self._progress:
                self._progress(event)
            if self._report:
                self._report(event)
            if self.format == "json":
                self._print(event)
            elif isinstance(event, Checked):
                self._show(self.secrets.mask(checked(event)))
            self._write(event)

    def note(self, text: str) -> None:
        """Tell people something."""
        from bootstrap.events import Note

        self.tell(Note(text))

    def warn(self, problem: Problem) -> None:
        """Tell a warning of preflight."""
        from bootstrap.recap import warned

        self.tell(warned(problem))

    def result(self, data: object, text: str = "") -> None:
        """Give the command's data; `text` is what stdout has of it for people, with or without a last newline."""
        from bootstrap.events import Result

        with self._lock:
            if self.format == "text" and text:
                self._show(text)
            self.tell(Result(data))

    @contextmanager
    def run(self, command: str, inventory: Inventory, hosts: Sequence[str]) -> Iterator[Listener]:
        """Have a run on `hosts`, with a log of its own. A recap follows when it ends, also when it fails.

        A terminal shows where each host is meanwhile.
        """
        from bootstrap import report
        from bootstrap.recap import recapped

        names = [host.name for host in inventory.hosts]
        colour = report.wants_colour(sys.stderr, os.environ)
        talk = report.Report(self._say if self.format == "text" else _unsaid, hosts=names, colour=colour)
        log = self._open_log(command, inventory.cluster.name)
        try:
            self._report = talk
            self._progress = self._shown(command, inventory.cluster.name, hosts, colour=colour)
            with recapped(command, inventory, hosts, self.tell, talk, log=log):
                yield self.tell
        finally:
            self._report = None
            shown, self._progress = self._progress, None
            if shown:
                shown.end()

    def end(self, code: int, error: BaseException | None) -> None:
        """Tell how the command ended; nothing follows. Raises `OSError` where stdout takes it not."""
        if self.format == "text" and self._log is None:
            return
        from bootstrap.events import Ended
        from bootstrap.jsonlines import failures

        reasons = failures(error) if error is not None and code != 0 else ()
        with self._lock:
            self.tell(Ended(code, time.monotonic() - self._began, reasons))
            if self._log is not None:
                with contextlib.suppress(OSError):
                    self._log.close()
                self._log = None
                self._say(f"The log of this run: {self._log_path}")

    def _shown(self, command: str, cluster: str, hosts: Sequence[str], *, colour: bool) -> Progress | None:
        """Give what shows a run at a terminal; None where people have none that can."""
        if self.format != "text" or sys.stderr is None or not sys.stderr.isatty():
            return None
        if os.environ.get("TERM", "dumb") == "dumb":
            return None
        from bootstrap.progress import Progress
        from bootstrap.status import runs

        earlier = runs.last_good(command, cluster, os.environ)
        return Progress(sys.stderr, hosts, earlier, self.secrets.mask, colour=colour)

    def _show(self, text: str) -> None:
        if sys.stdout is not None:
            sys.stdout.write(text if text.endswith("\n") else f"{text}\n")
            sys.stdout.flush()

    def _say(self, text: str) -> None:
        from bootstrap.report import tell

        say = self._progress.say if self._progress else tell
        say(self.secrets.mask(text))

    def _print(self, event: Event) -> None:
        from bootstrap.events import Ended, Result

        if sys.stdout is None or self._unread:
            return
        try:
            sys.stdout.write(f"{self._line(event, plain_result=True)}\n")
            sys.stdout.flush()
        except OSError as error:
            self._unread = True
            if isinstance(event, Result | Ended):
                raise
            self._say(f"Warning: no more lines are written, and the run goes on: {error.strerror or error}")

    def _write(self, event: Event) -> None:
        if self._log is None:
            return
        try:
            self._log.write(f"{self._line(event)}\n")
        except OSError as error:
            self._log = None
            self._say(f"Warning: the log {self._log_path} ends here: {error.strerror or error}")

    def _line(self, event: Event, *, plain_result: bool = False) -> str:
        import datetime

        from bootstrap import jsonlines

        return jsonlines.line(event, datetime.datetime.now(datetime.UTC), self.secrets.mask, plain_result=plain_result)

    def _open_log(self, command: str, cluster: str) -> str:
        import datetime

        from bootstrap import logs

        place = logs.folder(cluster, os.environ)
        try:
            self._log_path, self._log = logs.create(place, command, datetime.datetime.now(datetime.UTC))
        except OSError as error:
            self.note(f"Warning: this run has no log: {error.filename or place}: {error.strerror or error}")
            return ""
        return str(self._log_path)


def _unsaid(_: str) -> None:
    pass
