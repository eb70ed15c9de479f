"""What the executor needs of a connection to a machine, and nothing of how it is made."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

OUTPUT_LIMIT = 64 * 1024 * 1024
"""Bytes of one output stream that are kept; more ends the command with an error."""


@dataclass(frozen=True, slots=True)
class Result:
    """How a command ended. `stdout` and `stderr` hold what it wrote, whole unless said otherwise."""

    status: int
    stdout: bytes
    stderr: bytes


class Host(Protocol):
    """One machine, reached over one connection, commands as root."""

    @property
    def name(self) -> str:
        """The host's name in the inventory."""

    def run(
        self,
        command: str,
        *,
        stdin: bytes | Iterable[bytes] = b"",
        seconds: float,
        on_line: Callable[[bytes], None] | None = None,
    ) -> Result:
        """Run `command` (one line of POSIX sh, without any secret) as root, with `stdin` as its input.

        Both output streams are drained at all times. Where `on_line` is given it is called, in order, with
        each whole line of stdout (without its newline) as it arrives, and `stdout` of the result is empty.
        An empty piece of `stdin` says that there is nothing yet: the iterator is asked again in a moment.
        Of stderr the last 64 KiB are kept. A non-zero status is a result, not an error.

        Raises `CommandTimedOut` after `seconds`, `ConnectionLost`, `SudoRefused`.
        """

    def dial(self, address: str, port: int, *, seconds: float) -> socket.socket:
        """Open a TCP connection from the machine to `address:port`, and give the near end of it.

        What comes back behaves as a connected socket (sendall, recv, settimeout, close); closing it closes
        the far connection. Raises `OSError` where nothing answers there, `HostError` where the machine's
        sshd forbids forwarding.
        """

    def close(self) -> None:
        """End the connection. Idempotent."""

    def __enter__(self) -> Self:
        """Give the host itself."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""


class Forwarding:
    """A host that does all by another one, which it owns; made to be inherited from."""

    def __init__(self, host: Host) -> None:
        self._host = host

    @property
    def name(self) -> str:
        """The other host's name."""
        return self._host.name

    def run(
        self,
        command: str,
        *,
        stdin: bytes | Iterable[bytes] = b"",
        seconds: float,
        on_line: Callable[[bytes], None] | None = None,
    ) -> Result:
        """Run `command` there."""
        return self._host.run(command, stdin=stdin, seconds=seconds, on_line=on_line)

    def dial(self, address: str, port: int, *, seconds: float) -> socket.socket:
        """Open a TCP connection from there."""
        return self._host.dial(address, port, seconds=seconds)

    def close(self) -> None:
        """End the connection to it."""
        self._host.close()

    def __enter__(self) -> Self:
        """Give this itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()
