"""A byte stream to a server that a command of the user's makes (OpenSSH's ProxyCommand)."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import tempfile
import threading

_SHELL = "/bin/sh"
_KEPT = 500


class ProxyStream:
    """The standard input and output of a command, with what paramiko uses of a socket.

    The command runs in a session of its own: a Ctrl-C, which lets a run end in order, does not cut its connections.
    Closing the stream ends the command and all that it started. Raises `OSError` where there is no shell.
    """

    def __init__(self, command: str) -> None:
        self._lock = threading.Lock()
        self._last_words = ""
        self._near, far = socket.socketpair()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the stream
        with far:
            way = far.fileno()
            self._process = subprocess.Popen(
                [_SHELL, "-c", f"exec {command}"], stdin=way, stdout=way, stderr=self._errors, start_new_session=True
            )

    def recv(self, size: int) -> bytes:
        """Receive, as a socket does."""
        return self._near.recv(size)

    def send(self, data: bytes) -> int:
        """Send, as a socket does."""
        return self._near.send(data)

    def settimeout(self, seconds: float | None) -> None:
        """Limit `recv` and `send`, as a socket does."""
        self._near.settimeout(seconds)

    def last_words(self) -> str:
        """Give the end of what the command wrote to stderr, and close the stream."""
        self.close()
        return self._last_words

    def close(self) -> None:
        """End the command, and the stream. Idempotent; threads may do it at once."""
        with contextlib.suppress(OSError):
            self._near.shutdown(socket.SHUT_RDWR)
        self._near.close()
        with self._lock:
            if self._errors.closed:
                return
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            size = os.fstat(self._errors.fileno()).st_size
            text = os.pread(self._errors.fileno(), _KEPT, max(0, size - _KEPT))
            self._last_words = " ".join(text.decode(errors="replace").split())
            self._errors.close()
