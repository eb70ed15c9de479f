"""A channel of an SSH connection, handed out as an ordinary socket, so that `ssl` and `http.client` can use it."""

from __future__ import annotations

import select
import socket
import threading
from contextlib import suppress
from typing import Protocol

import paramiko

_CHUNK = 32 * 1024


class Duplex(Protocol):
    """A connection of two directions: what is used here of paramiko's channels. One thread sends, another receives."""

    @property
    def closed(self) -> bool:
        """Whether both directions have ended."""

    def settimeout(self, seconds: float | None, /) -> None:
        """Limit what follows; None: for ever."""

    def recv(self, size: int, /) -> bytes:
        """Receive; nothing is the end."""

    def sendall(self, data: bytes, /) -> None:
        """Send it all."""

    def shutdown_write(self) -> None:
        """End the direction to the other side."""

    def close(self) -> None:
        """End both."""


def as_socket(channel: Duplex) -> socket.socket:
    """Give the near end of a socket pair whose other end is joined to `channel`.

    An end of data on either side reaches the other as such; once the near end is closed, or both sides have ended,
    the channel is closed.
    """
    near, far = socket.socketpair()
    channel.settimeout(None)
    receiver = threading.Thread(target=_receive, args=(far, channel), name="forward-receive", daemon=True)
    receiver.start()
    threading.Thread(target=_send, args=(far, channel, receiver), name="forward-send", daemon=True).start()
    return near


def _send(far: socket.socket, channel: Duplex, receiver: threading.Thread) -> None:
    """Carry what is written into the near end to the channel, and close both when all is over."""
    with suppress(OSError, EOFError, paramiko.SSHException):  # either side is gone: the same as its end
        while data := far.recv(_CHUNK):
            channel.sendall(data)
        channel.shutdown_write()
        # A near end that only said "no more from me" still reads: wait until it is closed, or `_receive` is done.
        poll = select.poll()
        poll.register(far, 0)
        poll.poll()
    with suppress(OSError, EOFError, paramiko.SSHException):  # the connection itself may have ended
        channel.close()
    with suppress(OSError):
        far.shutdown(socket.SHUT_RDWR)
    receiver.join()
    far.close()


def _receive(far: socket.socket, channel: Duplex) -> None:
    """Carry what the channel brings to the near end; its end becomes the near end's."""
    with suppress(OSError, EOFError, paramiko.SSHException):
        while data := channel.recv(_CHUNK):
            far.sendall(data)
        far.shutdown(socket.SHUT_WR)
        if not channel.closed:
            return  # the other direction may go on
    with suppress(OSError):
        far.shutdown(socket.SHUT_RDWR)  # nothing can be sent any more: this wakes `_send`
