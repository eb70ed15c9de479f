"""Work on a machine over SSH: commands as root, and TCP connections from the machine's side."""

from __future__ import annotations

import re
import secrets
import shlex
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Self

from bootstrap import spec
from bootstrap.errors import BootstrapError, CommandTimedOut, HostError
from bootstrap.transport import openssh_config
from bootstrap.transport.base import OUTPUT_LIMIT, Host, Result
from bootstrap.transport.connection import Connection, Overdue, Streams
from bootstrap.transport.jump import JumpHosts
from bootstrap.transport.keyring import Keyring
from bootstrap.transport.paramiko_connection import ParamikoConnection
from bootstrap.transport.session import LOST_AFTER, dial_directly, open_session
from bootstrap.transport.sudo import AS_ROOT, ASKED, IS_ROOT, PROMPT, Sudo

__all__ = ["JumpHosts", "Keyring", "connect"]

_STDERR_KEPT = 64 * 1024
_NOISE_KEPT = 64 * 1024
_PACKET = 32 * 1024 - 64  # as much as paramiko puts into one packet for OpenSSH: a piece of 32 KiB took two
_IDLE = 0.1  # seconds until an input that has nothing yet is asked again
_SUDO_SECONDS = 60.0  # until sudo has judged a password; PAM may ask other machines

_ENVIRONMENT = (
    "cd /; umask 022; LC_ALL=C PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:$PATH; "
    "export LC_ALL PATH"
)


def connect(
    inventory: spec.Inventory,
    host: spec.Host,
    *,
    jumps: JumpHosts | None = None,
    keyring: Keyring | None = None,
    lost_after: float = LOST_AFTER,
) -> Host:
    """Log in to `host` as the inventory and the user's OpenSSH configuration say, and give the connection.

    `jumps` are the run's shared connections to jump hosts; without them the host gets its own. `keyring` has the run's
    secrets; without it nothing is asked for. After `lost_after` seconds without a sign of life the connection counts
    as lost.

    Raises `Unreachable`, `HostKeyRefused` (nothing was sent), `AuthenticationRefused`; `ConfigError` for an OpenSSH
    configuration that cannot be used. Whether sudo works shows with the first command.
    """
    login = openssh_config.login(inventory, host)
    own = JumpHosts(lost_after=lost_after, keyring=keyring) if jumps is None else None
    through = jumps or own
    assert through
    connection: Connection
    try:
        if login.backend == "openssh":
            connection = through.openssh.connect(host.name, login)
        else:
            dial = through.dial(host.name, login) if login.jumps else dial_directly(host.name, login)
            session = open_session(host.name, login, dial, lost_after=lost_after, keyring=keyring)
            connection = ParamikoConnection(host.name, session)
    except BaseException:
        if own:
            own.close()
        raise
    sudo = None
    if login.user != "root":
        file = spec.effective_ssh(inventory, host).sudo_password_file
        sudo = Sudo(host.name, login.user, lambda: (keyring or Keyring()).sudo_password(login.user, file))
    return SshHost(host.name, connection, sudo=sudo, jumps=own)


class SshHost:
    """A machine on an open connection (`transport.base.Host`).

    Commands run in `/` with umask 022, LC_ALL=C, and a PATH that has the sbin directories. What the user's shell start
    files print is not part of their output.
    """

    def __init__(self, name: str, connection: Connection, *, sudo: Sudo | None, jumps: JumpHosts | None) -> None:
        self._name = name
        self._connection = connection
        self._sudo = sudo
        self._jumps = jumps

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
        """Run a command as root, as `transport.base.Host` promises.

        A command that a signal ended has status -1. One that did not end in time is killed with its process group.
        """
        sudo = self._sudo
        if sudo and not sudo.settled and not isinstance(stdin, bytes):
            self.run(":", seconds=seconds)  # input that comes once is given to a sudo that is known to take it
        while True:
            try:
                result = self._run(command, stdin, seconds, on_line)
            except _NotStarted as error:
                if not (sudo and not sudo.settled and sudo.give_in(error.said)):
                    raise self._not_started(error) from None
            else:
                if sudo:
                    sudo.settled = True
                return result

    def _run(
        self, command: str, stdin: bytes | Iterable[bytes], seconds: float, on_line: Callable[[bytes], None] | None
    ) -> Result:
        running = _Running(self._name, self._connection, self._sudo, command, on_line)
        try:
            return running.finish(stdin, time.monotonic() + seconds)
        except _NotStarted:
            raise
        except _WrongPassword:
            assert self._sudo
            raise self._sudo.wrong_password() from None
        except Overdue:
            self._kill(running)
            raise CommandTimedOut(
                self._name, f"a command did not end within {seconds:g} s, and was ended: {_shortened(command)}"
            ) from None
        except _TooMuch:
            self._kill(running)
            raise HostError(
                self._name, f"a command wrote more than {OUTPUT_LIMIT >> 20} MiB, and was ended: {_shortened(command)}"
            ) from None
        except BaseException:
            # Its input ends here: left alive it would take that for the whole.
            self._kill(running)
            raise
        finally:
            running.close()

    def dial(self, address: str, port: int, *, seconds: float) -> socket.socket:
        """Open a TCP connection from the machine, as `transport.connection.Connection` promises."""
        return self._connection.dial(address, port, seconds=seconds)

    def close(self) -> None:
        """End the connection. Idempotent."""
        self._connection.close()
        if self._jumps:
            self._jumps.close()

    def __enter__(self) -> Self:
        """Give the host itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    def _not_started(self, error: _NotStarted) -> HostError:
        _, asked, answer = error.said.partition(ASKED)
        said = (answer or error.said).decode("utf-8", "replace").strip()
        said = said.rstrip(".") or f"nothing, and ended with status {error.status}"
        if asked and self._sudo:
            return self._sudo.refusal(said.replace(PROMPT.decode(), ""))
        return HostError(self._name, f"the login shell does not run commands; it says: {said}")

    def _kill(self, running: _Running) -> None:
        """End what still runs, with its process group; a best effort, as the machine may not answer."""
        if not self._connection.is_active() or not running.await_start(time.monotonic() + 5):
            return
        kill = (
            f"read -r _ _ _ _ group _ </proc/{running.pid}/stat || exit; kill -s TERM -- -$group; "
            "for _ in 1 2 3 4 5 6 7 8 9 10; do kill -s 0 -- -$group || exit; sleep 0.1; done 2>/dev/null; "
            "kill -s KILL -- -$group"
        )
        killer = _Running(self._name, self._connection, self._sudo, kill, None)
        try:
            killer.finish(b"", time.monotonic() + 10)
        except (BootstrapError, _NotStarted, _WrongPassword, Overdue, _TooMuch):
            return
        finally:
            killer.close()


class _NotStarted(Exception):
    """The command's shell never spoke: sudo or the login shell ended first."""

    def __init__(self, status: int, said: bytes) -> None:
        super().__init__()
        self.status = status
        self.said = said


class _WrongPassword(Exception):
    """sudo asks for the password once more."""


class _TooMuch(Exception):
    """More output than is kept."""


class _Running:
    """One command on its way. All of it happens on the caller's thread."""

    def __init__(
        self,
        name: str,
        connection: Connection,
        sudo: Sudo | None,
        command: str,
        on_line: Callable[[bytes], None] | None,
    ) -> None:
        self._name = name
        self._connection = connection
        self._line = sudo.line if sudo else AS_ROOT
        self._password = sudo.password if sudo else None
        self._command = command
        self._streams: Streams | None = None
        mark = secrets.token_hex(16).encode()
        self._mark = mark
        self._out = _Output(mark, on_line)
        self._err = _Errors(mark)

    def finish(self, stdin: bytes | Iterable[bytes], deadline: float) -> Result:
        """Send the command and its input, take its output, and give its end.

        Errors of `stdin`'s iterator and of `on_line` pass through as they are.
        """
        if time.monotonic() >= deadline:
            raise Overdue
        streams = self._streams = self._connection.start(self._line, deadline=deadline)
        if self._password is not None:
            self._give(self._password, streams, min(deadline, time.monotonic() + _SUDO_SECONDS))
        self._exchange(streams, _packets(self._first_line(), stdin), deadline)
        if streams.status == -1:
            self._connection.require_life()
        if not self._out.started:
            raise _NotStarted(streams.status, self._err.whole() or self._out.noise())
        return Result(streams.status, self._out.whole(), self._err.whole())

    @property
    def pid(self) -> int:
        """The process id of the command's shell on the machine; 0 as long as it is not known."""
        return self._out.pid

    def await_start(self, deadline: float) -> bool:
        """Wait until the command's shell has spoken, so that it can be killed, and say whether it has."""
        self._out.mute()
        streams = self._streams
        while streams and not self.pid and not streams.is_over and (left := deadline - time.monotonic()) > 0:
            if not self._take(streams):
                streams.wait(left)
        return self.pid != 0

    def close(self) -> None:
        """Give up the streams. Idempotent."""
        if self._streams:
            self._streams.close()

    def _first_line(self) -> bytes:
        # A newline ends what `read` takes, so one inside the command travels as a variable.
        command = shlex.quote(self._command).replace("\n", "'\"$newline\"'")
        newline = "newline=$(printf '\\nx'); newline=${newline%x}; " if "\n" in self._command else ""
        mark = self._mark.decode()
        return f"{_ENVIRONMENT}; echo {mark} >&2; echo {mark} $$; {newline}eval {command}\n".encode()

    def _give(self, password: bytes, streams: Streams, deadline: float) -> None:
        """Wait until sudo asks for the password, give it, and wait until it has made us root, or has ended.

        A password that sudo does not ask for is not sent, and a second question is not answered.
        """
        given = False
        while True:
            over = streams.is_over
            moved = self._take(streams)
            said = self._err.whole()
            if IS_ROOT in said or (over and not moved):
                return
            if said.count(PROMPT) > given:
                if given:
                    raise _WrongPassword
                given = True
                line = password + b"\n"
                while line:
                    line = line[streams.send(line) :]
            elif not moved:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise _NotStarted(-1, said)
                streams.wait(min(left, 5.0))

    def _exchange(self, streams: Streams, packets: Iterator[bytes], deadline: float) -> None:
        """Send and receive whatever can be, until the command has ended and all it wrote is here."""
        packet: bytes | None = next(packets)
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise Overdue
            over = streams.is_over
            moved = self._take(streams)
            if over and not moved:
                return
            if packet is not None and not over:
                if not packet:
                    packet = next(packets, None)
                if packet and (sent := streams.send(packet)):
                    packet = packet[sent:] or next(packets, None)
                    moved = True
                if packet is None:
                    streams.end_input()
            if not moved:
                streams.wait(min(left, _IDLE if packet == b"" else 5.0))

    def _take(self, streams: Streams) -> bool:
        output, errors = streams.receive()
        self._err.take(errors)
        self._out.take(output)
        return bool(errors or output)


class _Output:
    """What a command writes to stdout, from our mark on: whole, or line by line to a listener."""

    def __init__(self, mark: bytes, on_line: Callable[[bytes], None] | None) -> None:
        self._start = re.compile(mark + rb" ([0-9]+)\n")
        self._on_line = on_line
        self._before = b""
        self._muted = False
        self._chunks: list[bytes] = []
        self._size = 0
        self.pid = 0
        """The process id of the command's shell, as soon as it has spoken."""

    @property
    def started(self) -> bool:
        """Whether the command's shell has spoken."""
        return self.pid != 0

    def take(self, data: bytes) -> None:
        """Take the next bytes. Raises `_TooMuch` where more would have to be kept than is allowed."""
        if not self.pid:
            self._before += data
            start = self._start.search(self._before)
            if start is None:
                self._before = self._before[-_NOISE_KEPT:]
                return
            self.pid = int(start[1])
            data, self._before = self._before[start.end() :], b""
        if self._muted:
            return
        if self._on_line and b"\n" in data:
            lines = b"".join((*self._chunks, data)).split(b"\n")
            data, self._chunks, self._size = lines.pop(), [], 0
            for line in lines:
                self._on_line(line)
        if data:
            self._size += len(data)
            if self._size > OUTPUT_LIMIT:
                raise _TooMuch
            self._chunks.append(data)

    def mute(self) -> None:
        """Keep nothing, and tell the listener nothing, of what comes from now on."""
        self._muted = True

    def whole(self) -> bytes:
        """Give all there was; with a listener nothing, after it has had a last line without a newline."""
        whole = b"".join(self._chunks)
        if not self._on_line:
            return whole
        if whole:
            self._on_line(whole)
        return b""

    def noise(self) -> bytes:
        """Give what came where the command's shell never spoke."""
        return self._before


class _Errors:
    """What a command writes to stderr, from our mark on: the last of it."""

    def __init__(self, mark: bytes) -> None:
        self._mark = mark + b"\n"
        self._started = False
        self._kept = b""

    def take(self, data: bytes) -> None:
        """Take the next bytes."""
        self._kept += data
        if not self._started and self._mark in self._kept:
            self._started = True
            self._kept = self._kept.partition(self._mark)[2]
        if len(self._kept) > 2 * _STDERR_KEPT:
            self._kept = self._kept[-_STDERR_KEPT:]

    def whole(self) -> bytes:
        """Give the last 64 KiB."""
        return self._kept[-_STDERR_KEPT:]


def _packets(first: bytes, stdin: bytes | Iterable[bytes]) -> Iterator[bytes]:
    """Cut the input into what one SSH packet takes. An empty piece, which says "nothing yet", stays one."""
    for chunk in (first, *((stdin,) if isinstance(stdin, bytes) else ())):
        yield from (chunk[at : at + _PACKET] for at in range(0, len(chunk), _PACKET))
    if not isinstance(stdin, bytes):
        for chunk in stdin:
            if not chunk:
                yield chunk
            yield from (chunk[at : at + _PACKET] for at in range(0, len(chunk), _PACKET))


def _shortened(command: str) -> str:
    """Give the beginning of a command for a message."""
    line = " ".join(command.split())
    return line if len(line) <= 100 else line[:97] + "..."
