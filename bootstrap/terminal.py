"""The terminal that the user sits at: where secrets are asked for, whatever stdin and stdout are."""

from __future__ import annotations

import os
import select
import termios
import threading
import time
from contextlib import suppress
from types import TracebackType
from typing import Self

from bootstrap.transport.keyring import Ask, CannotAsk

ANSWER_SECONDS = 300.0


class Terminal:
    """The controlling terminal of this process. A context manager; use `ask` within.

    Threads may ask. When the context ends, by a signal too, a question that waits is given up, and what is typed is
    shown again.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tty = -1
        self._before: list[object] | None = None  # the settings to go back to, while a question waits
        self._wake, self._woken = -1, -1

    @property
    def ask(self) -> Ask | None:
        """Asks for a secret, which is not shown as it is typed. None where there is no terminal."""
        return self._ask if self._tty >= 0 else None

    def __enter__(self) -> Self:
        """Open it, where there is one."""
        with suppress(OSError):
            self._tty = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
            self._woken, self._wake = os.pipe()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        if self._tty < 0:
            return
        os.write(self._wake, b"x")
        self._show_again()
        with self._lock:  # whoever asked has heard of it, and gave up
            for one in (self._tty, self._wake, self._woken):
                os.close(one)
            self._tty = -1

    def tell(self, what: str) -> None:
        """Show a line, where there is a terminal, as soon as no question waits there."""
        with self._lock, suppress(OSError):
            if self._tty >= 0:
                os.write(self._tty, f"{what}\n".encode(errors="surrogateescape"))

    def _ask(self, prompt: str) -> str:
        with self._lock:
            if self._tty < 0:
                raise CannotAsk("the run ends")
            try:
                self._before = termios.tcgetattr(self._tty)
                hidden = [*self._before]
                assert isinstance(hidden[3], int)
                hidden[3] &= ~termios.ECHO
                termios.tcsetattr(self._tty, termios.TCSAFLUSH, hidden)  # type: ignore[arg-type]
                os.write(self._tty, prompt.encode())
                return self._line()
            except (OSError, termios.error) as error:
                raise CannotAsk(f"the terminal cannot be read ({error})") from error
            finally:
                self._show_again()

    def _line(self) -> str:
        typed = b""
        deadline = time.monotonic() + ANSWER_SECONDS
        while not typed.endswith(b"\n"):
            ready, _, _ = select.select([self._tty, self._woken], [], [], max(0.0, deadline - time.monotonic()))
            if self._woken in ready:
                raise CannotAsk("the run ends")
            if not ready:
                raise CannotAsk(f"nobody answered within {ANSWER_SECONDS:g} s")
            data = os.read(self._tty, 4096)
            if not data:
                raise CannotAsk("nothing was typed")
            typed += data
        return typed.decode(errors="surrogateescape").rstrip("\r\n")

    def _show_again(self) -> None:
        before, self._before = self._before, None
        if before is not None:
            with suppress(OSError, termios.error):
                termios.tcsetattr(self._tty, termios.TCSANOW, before)  # type: ignore[arg-type]
                os.write(self._tty, b"\n")
