"""What running commands needs of an SSH connection, and nothing of which program or library makes it."""

from __future__ import annotations

import socket
from typing import Protocol

from bootstrap.errors import HostError

SILENT = "the connection was lost: the server stopped answering"
CLOSED = "the connection was lost: the server, or something on the way, closed it"


class Overdue(Exception):
    """The deadline has passed."""


class Streams(Protocol):
    """A command that was given to the user's login shell, with its input and both outputs. Only `wait` waits.

    Everything raises `ConnectionLost` where the connection turns out to be gone, and else `HostError`.
    """

    @property
    def is_over(self) -> bool:
        """Whether the command has ended. What it wrote before may still have to be received."""

    @property
    def status(self) -> int:
        """The command's status once it is over; -1 where a signal ended it."""

    def receive(self) -> tuple[bytes, bytes]:
        """Give what came from stdout and from stderr since the last time."""

    def send(self, data: bytes) -> int:
        """Give how many bytes of `data` were taken: none where there is no room, all where nobody reads any more."""

    def end_input(self) -> None:
        """Say that no more input comes."""

    def wait(self, seconds: float) -> None:
        """Wait until something may have happened, at most so long."""

    def close(self) -> None:
        """Give up the streams; the command is not ended by that. Idempotent."""


class Connection(Protocol):
    """A connection to a machine on which a user is logged in. Threads may share it."""

    def start(self, line: str, *, deadline: float) -> Streams:
        """Have the user's login shell run `line`.

        Raises `Overdue` where that does not begin before `deadline` (of the monotonic clock), `ConnectionLost`, and
        `HostError` where the server opens no further session.
        """

    def is_active(self) -> bool:
        """Whether the connection is in order, as far as is known without asking."""

    def require_life(self) -> None:
        """Ask for a sign of life. Raises `ConnectionLost` where none comes."""

    def dial(self, address: str, port: int, *, seconds: float) -> socket.socket:
        """Open a TCP connection from the machine, as `transport.base.Host` promises.

        The error is `ConnectionRefusedError` where sshd says that the connection was refused, `TimeoutError` where it
        says nothing within `seconds`, and else an `OSError` with sshd's words (`No route to host`).
        """

    def close(self) -> None:
        """End the connection. Idempotent."""


def not_opened(name: str, address: str, port: int, words: str, *, prohibited: bool) -> HostError | OSError:
    """Give the error of `Connection.dial` for a connection that sshd did not make, for the reason in its `words`."""
    if prohibited:
        return HostError(
            name, f"its sshd forbids connecting to {address} port {port}; allow it (AllowTcpForwarding, PermitOpen)"
        )
    kind = ConnectionRefusedError if "refused" in words.lower() else OSError
    return kind(f"{address} port {port}, from {name}: {words or 'connection failed'}")


def late(name: str, address: str, port: int, seconds: float) -> TimeoutError:
    """Give the error of `Connection.dial` for a connection of which sshd said nothing in time."""
    return TimeoutError(f"{address} port {port}, from {name}: no answer within {seconds:g} s")
