"""The machine the operator sits at, as a host: the same promises as over SSH, with a child process for a connection."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Self

from bootstrap.errors import CommandTimedOut, HostError
from bootstrap.transport.base import OUTPUT_LIMIT, Result

CHUNK = 64 * 1024
STDERR_KEPT = 64 * 1024
IDLE = 0.05
"""Seconds until an input that has nothing yet is asked again."""


class LocalHost:
    """A `transport.base.Host` that runs commands here, with the rights of this process."""

    def __init__(self, name: str = "localhost") -> None:
        self._name = name

    @property
    def name(self) -> str:
        """The host's name in the inventory."""
        return self._name

    def run(
        self,
        command: str,
        *,
        stdin: bytes | Iterable[bytes] = b"",
        seconds: float,
        on_line: Callable[[bytes], None] | None = None,
    ) -> Result:
        """Run `command` with sh, as `transport.base.Host.run` promises.

        Raises `CommandTimedOut` after `seconds`; whatever the command started in its process group is ended then.
        """
        deadline = time.monotonic() + seconds
        process = subprocess.Popen(
            ["/bin/sh", "-c", command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        try:
            exchange = _Exchange(process, [stdin] if isinstance(stdin, bytes) else stdin, on_line)
            exchange.finish(deadline)
            process.wait(max(0.0, deadline - time.monotonic()))
        except (TimeoutError, subprocess.TimeoutExpired):
            _end(process)
            raise CommandTimedOut(self._name, f"no end within {seconds:g} s: {command}") from None
        except OverflowError:
            _end(process)
            raise HostError(self._name, f"more than {OUTPUT_LIMIT} bytes of output: {command}") from None
        finally:
            if process.poll() is None:
                _end(process)
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream:
                    stream.close()
        return Result(_status(process.returncode), bytes(exchange.stdout), bytes(exchange.stderr))

    def dial(self, address: str, port: int, *, seconds: float) -> socket.socket:
        """Connect from here. Raises `OSError` where nothing answers."""
        return socket.create_connection((address, port), timeout=seconds)

    def close(self) -> None:
        """Do nothing: there is no connection."""

    def __enter__(self) -> Self:
        """Give the host itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Do nothing."""


class _Exchange:
    """What goes into a process and comes out of it, all three streams at once."""

    def __init__(
        self, process: subprocess.Popen[bytes], stdin: Iterable[bytes], on_line: Callable[[bytes], None] | None
    ) -> None:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        self.stdout = bytearray()
        self.stderr = bytearray()
        self._input: Iterator[bytes] = iter(stdin)
        self._pending = memoryview(b"")
        self._on_line = on_line
        self._stdin = process.stdin
        self._out = process.stdout.fileno()
        self._selector = selectors.DefaultSelector()
        for stream in (process.stdin, process.stdout, process.stderr):
            os.set_blocking(stream.fileno(), False)
        self._selector.register(process.stdin.fileno(), selectors.EVENT_WRITE)
        self._selector.register(process.stdout.fileno(), selectors.EVENT_READ)
        self._selector.register(process.stderr.fileno(), selectors.EVENT_READ)

    def finish(self, deadline: float) -> None:
        """Write and read until all streams are at their end. Raises `TimeoutError`, `OverflowError`."""
        with self._selector:
            while self._selector.get_map():
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError
                for key, events in self._selector.select(left):
                    if events & selectors.EVENT_WRITE:
                        self._write(key.fd)
                    else:
                        self._read(key.fd)
        if self._on_line and self.stdout:
            self._on_line(bytes(self.stdout))
            self.stdout.clear()

    def _write(self, fd: int) -> None:
        while not self._pending:
            chunk = next(self._input, None)
            if chunk is None:
                self._end_input(fd)
                return
            self._pending = memoryview(chunk)
            if not chunk:
                time.sleep(IDLE)
                return
        try:
            self._pending = self._pending[os.write(fd, self._pending[:CHUNK]) :]
        except BrokenPipeError:  # a command need not read its input
            self._end_input(fd)

    def _end_input(self, fd: int) -> None:
        self._selector.unregister(fd)
        self._stdin.close()

    def _read(self, fd: int) -> None:
        data = os.read(fd, CHUNK)
        if not data:
            self._selector.unregister(fd)
        elif fd != self._out:
            self.stderr += data
            del self.stderr[:-STDERR_KEPT]
        else:
            self.stdout += data
            if self._on_line:
                *lines, rest = self.stdout.split(b"\n")
                self.stdout[:] = rest
                for line in lines:
                    self._on_line(bytes(line))
            if len(self.stdout) > OUTPUT_LIMIT:
                raise OverflowError


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the whole process group; its leader may be gone already while others hold its streams."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _status(code: int) -> int:
    """Give a shell's status for how a child ended: 128 and the signal's number where one ended it."""
    return code if code >= 0 else 128 - code
