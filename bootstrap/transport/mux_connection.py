"""Commands and TCP connections on a connection that a process of the system's ssh has."""

from __future__ import annotations

import contextlib
import os
import re
import select
import socket
import threading
import time
from contextlib import ExitStack

from bootstrap.errors import ConnectionLost, HostError
from bootstrap.transport import mux
from bootstrap.transport.connection import CLOSED, SILENT, Overdue, late, not_opened
from bootstrap.transport.forward import as_socket
from bootstrap.transport.openssh_process import Process

_SESSIONS = 10  # sshd's own default for MaxSessions; who needs one more waits
_PAUSES = (0.1, 0.3, 1.0)
_CHUNK = 128 * 1024
_ANSWER_SECONDS = 5.0  # until a process of this machine says that it is there

_DIALLED = re.compile(r"channel_connect_stdio_fwd:? (.*):([0-9]+)$")
_NEW = re.compile(r"channel ([0-9]+): new ")
_FAILED = re.compile(r"channel ([0-9]+): open failed: (.*)")
_PROHIBITED = "administratively prohibited"


class MuxConnection:
    """A `transport.connection.Connection` by a process of ssh, which it owns."""

    def __init__(self, name: str, process: Process) -> None:
        self._name = name
        self._process = process
        self._sessions = threading.BoundedSemaphore(_SESSIONS)

    @property
    def path(self) -> str:
        """Where the process listens."""
        return str(self._process.path)

    def start(self, line: str, *, deadline: float) -> PipeStreams:
        """Have the login shell run `line`."""
        if not self._sessions.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise Overdue
        with ExitStack() as theirs, ExitStack() as ours:
            ours.callback(self._sessions.release)
            ends: list[int] = []
            for far in (0, 1, 1):  # the end that the process gets
                pipe = os.pipe()
                theirs.callback(os.close, pipe[far])
                ours.callback(os.close, pipe[1 - far])
                ends += pipe
            stdin, to_stdin, from_stdout, stdout, from_stderr, stderr = ends
            try:
                control = self._open(line, (stdin, stdout, stderr), deadline)
            except TimeoutError as error:
                raise Overdue from error
            except (mux.Refused, OSError) as error:
                self.require_life()
                raise HostError(self._name, f"its sshd opens no further session: {error} (MaxSessions?)") from error
            ours.pop_all()
            return PipeStreams(control, to_stdin, from_stdout, from_stderr, self._sessions)

    def _open(self, line: str, streams: tuple[int, int, int], deadline: float) -> socket.socket:
        """Have a session opened. sshd counts one that has just ended for a moment longer."""
        for pause in _PAUSES:
            with contextlib.suppress(mux.Refused):
                return mux.open_session(self.path, line, streams, seconds=_left(deadline))
            time.sleep(min(pause, _left(deadline)))
        return mux.open_session(self.path, line, streams, seconds=_left(deadline))

    def is_active(self) -> bool:
        """Whether the process runs."""
        return self._process.is_alive()

    def require_life(self) -> None:
        """Ask the process, which asks the server now and then."""
        if self._process.answers(_ANSWER_SECONDS):
            return
        self._process.await_end(_ANSWER_SECONDS)
        silent = any(line.startswith("Timeout, server") for line in self._process.messages())
        raise ConnectionLost(self._name, SILENT if silent else CLOSED)

    def dial(self, address: str, port: int, *, seconds: float) -> socket.socket:
        """Open a TCP connection from the machine."""
        from_us, to_server = os.pipe()
        from_server, to_us = os.pipe()
        try:
            control = mux.open_connection(self.path, address, port, (from_us, to_us), seconds=seconds)
        except mux.Refused as error:
            self._close(to_server, from_server)
            reason = self._reason(address, port) or str(error)
            prohibited = reason.startswith(_PROHIBITED)
            raise not_opened(self._name, address, port, reason, prohibited=prohibited) from error
        except TimeoutError as error:
            self._close(to_server, from_server)
            raise late(self._name, address, port, seconds) from error
        except OSError as error:
            self._close(to_server, from_server)
            self.require_life()
            raise HostError(self._name, f"ssh makes no connection to {address} port {port}: {error}") from error
        finally:
            self._close(from_us, to_us)
        return as_socket(_Pipes(control, from_server, to_server))

    def close(self) -> None:
        """End the process."""
        self._process.close()

    def _close(self, *descriptors: int) -> None:
        for descriptor in descriptors:
            os.close(descriptor)

    def _reason(self, address: str, port: int) -> str:
        """Give why a TCP connection failed: ssh has it in its log only. Two to the same place fail for one reason."""
        dialled: dict[str, bool] = {}
        here, reason = False, ""
        for line in self._process.log().split("\n"):
            if match := _DIALLED.search(line):
                here = (match[1], match[2]) == (address, str(port))
            elif match := _NEW.search(line):
                dialled[match[1]], here = here, False
            elif (match := _FAILED.search(line)) and dialled.get(match[1]):
                reason = match[2]
        return reason


def _left(deadline: float) -> float:
    return max(0.001, deadline - time.monotonic())


class PipeStreams:
    """A command's streams as pipes, whose other ends the process of ssh has."""

    def __init__(
        self,
        control: socket.socket,
        to_stdin: int,
        from_stdout: int,
        from_stderr: int,
        sessions: threading.BoundedSemaphore,
    ) -> None:
        self._control = control
        self._ending = mux.Ending(control)
        self._stdin = to_stdin
        self._open = {from_stdout, from_stderr}
        self._stdout, self._stderr = from_stdout, from_stderr
        self._full = False
        self._sessions = sessions
        self._closed = False
        for descriptor in (to_stdin, from_stdout, from_stderr):
            os.set_blocking(descriptor, False)

    @property
    def is_over(self) -> bool:
        """Whether the command has ended, and all that it wrote was received."""
        return self._ending.is_known and not self._open

    @property
    def status(self) -> int:
        """The command's status."""
        return self._ending.status

    def receive(self) -> tuple[bytes, bytes]:
        """Read from the pipes."""
        self._ending.look()
        return self._read(self._stdout), self._read(self._stderr)

    def send(self, data: bytes) -> int:
        """Write into the pipe."""
        try:
            sent = os.write(self._stdin, data)
        except BlockingIOError:
            sent = 0
        except BrokenPipeError:
            sent = len(data)
        self._full = not sent
        return sent

    def end_input(self) -> None:
        """Close the pipe."""
        if self._stdin >= 0:
            os.close(self._stdin)
            self._stdin = -1
        self._full = False

    def wait(self, seconds: float) -> None:
        """Wait for the pipes, and the process's word."""
        if self.is_over:
            return
        poll = select.poll()
        for descriptor in self._open:
            poll.register(descriptor, select.POLLIN)
        if not self._ending.is_known:
            poll.register(self._control, select.POLLIN)
        if self._full:
            poll.register(self._stdin, select.POLLOUT)
        poll.poll(seconds * 1000)

    def close(self) -> None:
        """Close the pipes, and give the session back."""
        if self._closed:
            return
        self._closed = True
        self.end_input()
        self._control.close()
        for descriptor in (self._stdout, self._stderr):
            os.close(descriptor)
        self._sessions.release()

    def _read(self, descriptor: int) -> bytes:
        if descriptor not in self._open:
            return b""
        try:
            data = os.read(descriptor, _CHUNK)
        except BlockingIOError:
            return b""
        if not data:
            self._open.discard(descriptor)
        return data


class _Pipes:
    """A TCP connection of the process of ssh, as two pipes, with what `as_socket` uses of a channel."""

    def __init__(self, control: socket.socket, receiving: int, sending: int) -> None:
        self._control = control
        self._receiving = receiving
        self._sending = sending

    @property
    def closed(self) -> bool:
        """Whether the process has let go of the connection."""
        with contextlib.suppress(OSError, ValueError):  # the latter where the other thread has closed it
            ready, _, _ = select.select([self._control], [], [], 0)
            return bool(ready)
        return True

    def settimeout(self, seconds: float | None) -> None:
        """Wait for ever, which is all that a pipe does."""

    def recv(self, size: int) -> bytes:
        """Receive; only one thread does so."""
        data = os.read(self._receiving, size) if self._receiving >= 0 else b""
        if not data and self._receiving >= 0:
            os.close(self._receiving)
            self._receiving = -1
        return data

    def sendall(self, data: bytes) -> None:
        """Send; only one thread does so, and closes."""
        while data:
            data = data[os.write(self._sending, data) :]

    def shutdown_write(self) -> None:
        """Say that no more comes."""
        if self._sending >= 0:
            os.close(self._sending)
            self._sending = -1

    def close(self) -> None:
        """Have the process end the connection; the end of what is received is the consequence."""
        self.shutdown_write()
        self._control.close()
