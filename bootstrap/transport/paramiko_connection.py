"""Commands and TCP connections on a connection that paramiko made."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import paramiko

from bootstrap.errors import ConnectionLost
from bootstrap.transport.connection import Overdue, late, not_opened
from bootstrap.transport.forward import as_socket
from bootstrap.transport.session import Session, failed

_PACKET = 32 * 1024
_PROHIBITED = 1  # RFC 4254 section 5.1: SSH_OPEN_ADMINISTRATIVELY_PROHIBITED


class ParamikoConnection:
    """A `transport.connection.Connection` by paramiko."""

    def __init__(self, name: str, session: Session) -> None:
        self._name = name
        self.session = session

    def start(self, line: str, *, deadline: float) -> ChannelStreams:
        """Have the login shell run `line`."""
        channel: paramiko.Channel | None = None
        try:
            channel = self.session.open_session(timeout=max(0.0, deadline - time.monotonic()))
            channel.settimeout(0.0)
            streams = ChannelStreams(self._name, self.session, channel)
            self.session.start_command(channel, line)
        except (paramiko.SSHException, EOFError, OSError) as error:
            if channel:
                channel.close()
            # paramiko counts by another clock
            if self.session.is_active() and time.monotonic() >= deadline - 0.5:
                raise Overdue from error
            raise failed(self._name, self.session, error) from error
        return streams

    def is_active(self) -> bool:
        """Whether the connection is in order."""
        return bool(self.session.is_active())

    def require_life(self) -> None:
        """Ask the server for a sign of life."""
        if self.session.is_lost():
            raise ConnectionLost(self._name, self.session.why_lost())

    def dial(self, address: str, port: int, *, seconds: float) -> socket.socket:
        """Open a TCP connection from the machine."""
        try:
            channel = self.session.open_channel("direct-tcpip", (address, port), ("127.0.0.1", 0), timeout=seconds)
        except paramiko.ChannelException as error:
            raise not_opened(self._name, address, port, error.text, prohibited=error.code == _PROHIBITED) from error
        except (paramiko.SSHException, EOFError, OSError) as error:
            if not self.session.is_active():
                raise failed(self._name, self.session, error) from error
            raise late(self._name, address, port, seconds) from error
        return as_socket(channel)

    def close(self) -> None:
        """End the connection."""
        self.session.close()


class _Bell(threading.Event):
    """Rings when something happened on a channel, and keeps ringing until it is heard.

    It stands in for the event of each of paramiko's two buffers. They clear it when they are empty, which must not
    silence what the other one had to say.
    """

    def clear(self) -> None:
        """Go on ringing."""

    def hear(self, seconds: float) -> None:
        """Wait for the bell, at most so long, and silence it."""
        self.wait(seconds)
        super().clear()


class _Window(threading.Condition):
    """A channel's condition for "there is room to send again", which rings the bell too."""

    def __init__(self, lock: threading.Lock, bell: _Bell) -> None:
        super().__init__(lock)
        self._bell = bell

    def notify_all(self) -> None:
        super().notify_all()
        self._bell.set()


class ChannelStreams:
    """A command's streams in a channel, which the connection's thread fills and empties."""

    def __init__(self, name: str, session: Session, channel: paramiko.Channel) -> None:
        self._name = name
        self._session = session
        self._channel = channel
        self._bell = _Bell()
        channel.out_buffer_cv = _Window(channel.lock, self._bell)
        channel.in_buffer.set_event(self._bell)
        channel.in_stderr_buffer.set_event(self._bell)

    @property
    def is_over(self) -> bool:
        """Whether the command has ended."""
        channel = self._channel
        return channel.closed or (bool(channel.eof_received) and channel.exit_status_ready())

    @property
    def status(self) -> int:
        """The command's status."""
        return int(self._channel.exit_status)

    def receive(self) -> tuple[bytes, bytes]:
        """Give what came."""
        errors = output = b""
        with self._own_errors():
            if self._channel.recv_stderr_ready():
                errors = self._channel.recv_stderr(_PACKET)
            if self._channel.recv_ready():
                output = self._channel.recv(4 * _PACKET)
        return output, errors

    def send(self, data: bytes) -> int:
        """Send what there is room for."""
        with self._own_errors():
            try:
                return self._channel.send(data) or len(data)
            except TimeoutError:
                return 0
            except OSError:
                if not self._channel.closed:
                    raise
                return len(data)  # the command ended without reading all: its status tells

    def end_input(self) -> None:
        """Say that no more input comes."""
        with self._own_errors():
            self._channel.shutdown_write()

    def wait(self, seconds: float) -> None:
        """Wait for the connection's thread."""
        self._bell.hear(seconds)

    def close(self) -> None:
        """Give up the channel."""
        self._channel.close()

    @contextmanager
    def _own_errors(self) -> Iterator[None]:
        """Turn paramiko's errors, which have three unrelated bases, into ours."""
        try:
            yield
        except (paramiko.SSHException, EOFError, OSError) as error:
            raise failed(self._name, self._session, error) from error
