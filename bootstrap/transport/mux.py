"""Talking to a master of OpenSSH's client (ControlMaster), as its own clients do (OpenSSH, PROTOCOL.mux, version 4).

What a master gets to read and write it is handed as file descriptors, so that nothing passes through this process
twice. Run as a program, it is a ProxyCommand: standard input and output become a connection that a master makes.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import sys
import time
from collections.abc import Sequence

_HELLO, _NEW_SESSION, _ALIVE_CHECK, _TERMINATE, _NEW_STDIO_FORWARD = 1, *(0x10000000 + n for n in (2, 4, 5, 8))
_OK, _DENIED, _FAILURE, _EXIT, _ALIVE, _OPENED = (0x80000000 + n for n in range(1, 7))
_VERSION = 4
_NO_ESCAPE = 0xFFFFFFFF
_LARGEST = 256 * 1024


class Refused(Exception):
    """The master does not do what it is asked for; `str()` has its words."""


def open_session(path: str, command: str, streams: Sequence[int], *, seconds: float) -> socket.socket:
    """Have a master run `command` in the login shell, with these descriptors as stdin, stdout and stderr.

    The descriptors stay the caller's, too. What comes back tells of the command's end (`Ending`); closing it gives the
    session up. Raises `Refused`, `TimeoutError`, and `OSError` where there is no master.
    """
    strings = [_string(b""), struct.pack(">5I", 0, 0, 0, 0, _NO_ESCAPE), _string(b""), _string(command.encode())]
    return _ask(path, _NEW_SESSION, b"".join(strings), streams, seconds)


def open_connection(path: str, address: str, port: int, streams: Sequence[int], *, seconds: float) -> socket.socket:
    """Have a master open a TCP connection from its server, read from and written to by these two descriptors.

    Errors and what comes back are those of `open_session`.
    """
    body = _string(b"") + _string(address.encode()) + struct.pack(">I", port)
    return _ask(path, _NEW_STDIO_FORWARD, body, streams, seconds)


def is_alive(path: str, *, seconds: float) -> bool:
    """Whether a master answers."""
    try:
        _ask(path, _ALIVE_CHECK, b"", (), seconds).close()
    except (Refused, OSError):
        return False
    return True


def terminate(path: str, *, seconds: float) -> None:
    """Have a master end, with all that it carries. Raises `Refused`, and `OSError` where there is none."""
    _ask(path, _TERMINATE, b"", (), seconds).close()


class Ending:
    """What a session's socket tells of its end, read without waiting."""

    def __init__(self, control: socket.socket) -> None:
        control.setblocking(False)
        self._control = control
        self._read = b""
        self.is_known = False
        """Whether the master has let go of the session, or is no more itself."""
        self.status = -1
        """The command's status; -1 where it has none."""

    def look(self) -> None:
        """Read what there is."""
        while not self.is_known:
            try:
                data = self._control.recv(4096)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            self.is_known = not data
            self._read += data
            while len(self._read) >= 4 and len(self._read) >= 4 + _number(self._read):
                body, self._read = self._read[4 : 4 + _number(self._read)], self._read[4 + _number(self._read) :]
                if len(body) >= 12 and _number(body) == _EXIT:
                    self.status = _number(body, 8)


def _ask(path: str, kind: int, body: bytes, descriptors: Sequence[int], seconds: float) -> socket.socket:
    deadline = time.monotonic() + seconds
    control = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        control.settimeout(seconds)
        control.connect(path)
        control.sendall(_packet(struct.pack(">2I", _HELLO, _VERSION)))
        _require_version(_receive(control, deadline))
        control.sendall(_packet(struct.pack(">2I", kind, 0) + body))
        for descriptor in descriptors:
            socket.send_fds(control, [b"\0"], [descriptor])
        _require_done(_receive(control, deadline))
    except BaseException:
        control.close()
        raise
    return control


def _require_version(hello: bytes) -> None:
    if len(hello) < 8 or struct.unpack_from(">2I", hello) != (_HELLO, _VERSION):
        raise Refused("it speaks another version of the protocol")


def _require_done(answer: bytes) -> None:
    if _number(answer) not in {_OK, _OPENED, _ALIVE}:
        words = answer[12:].decode("utf-8", "replace") if _number(answer) in {_DENIED, _FAILURE} else ""
        raise Refused(words or "it gives no reason")


def _receive(control: socket.socket, deadline: float) -> bytes:
    size = _number(_exactly(control, 4, deadline))
    if not 4 <= size <= _LARGEST:
        raise Refused("it speaks another protocol")
    return _exactly(control, size, deadline)


def _exactly(control: socket.socket, size: int, deadline: float) -> bytes:
    data = b""
    while len(data) < size:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        control.settimeout(left)
        piece = control.recv(size - len(data))
        if not piece:
            raise ConnectionResetError("the master is gone")
        data += piece
    return data


def _packet(body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + body


def _string(data: bytes) -> bytes:
    return _packet(data)


def _number(data: bytes, at: int = 0) -> int:
    return int(struct.unpack_from(">I", data, at)[0])


def main(path: str, address: str, port: str, seconds: str) -> int:
    """Be a ProxyCommand, until the connection ends. Gives the status to end with."""
    try:
        control = open_connection(path, address, int(port), (0, 1), seconds=float(seconds))
    except Refused as error:
        sys.stderr.write(f"the jump host does not connect to {address} port {port}: {error}\n")
        return 1
    except OSError as error:
        sys.stderr.write(f"the jump host cannot be asked for {address} port {port}: {error or 'no answer in time'}\n")
        return 1
    # Only the master holds the streams from now on, so that an end of data is seen as such.
    for stream in (0, 1):
        os.close(stream)
    control.settimeout(None)
    with control, contextlib.suppress(OSError):
        while control.recv(4096):
            pass
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
