"""The lock of a run on its machines: a lease, renewed over the run's own connections, that says who works there.

One command a host takes the lock, renews it for each line that it is sent, and gives it up when its input ends: with
the run, with its process, or with its connection. What then still acts for the run has a few seconds to finish its
step, and is ended. Where not even the end of the connection arrives, the lease lapses, and whoever takes the lock
over ends first what the dead run left running.
"""

from __future__ import annotations

import datetime
import getpass
import os
import secrets
import shlex
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from types import TracebackType
from typing import Self

from bootstrap.errors import BootstrapError, HostError, Locked, LockLost
from bootstrap.transport.base import Forwarding, Host, Result

LEASE = 30.0
"""Seconds after its last renewal that a lock is still held."""
BEAT = 5.0
"""Seconds between renewals."""
_ANSWER_SECONDS = LEASE + 60.0  # a lock that nobody renews is waited for
_HOLD_SECONDS = 24 * 3600.0  # no run takes a day
_RELEASE_SECONDS = 8.0
_SHOW_SECONDS = 30.0
_FREE_SECONDS = 60.0
_INTERRUPTED = "The machines stopped after their current step. To go on, run the same command again."


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose run it is. Everybody who logs in to the machines may read it. `since` is UTC."""

    who: str
    command: str
    since: str

    @classmethod
    def here(cls, command: str) -> Owner:
        """Give this process, which runs `command`."""
        try:
            user = getpass.getuser()
        except (KeyError, OSError):  # no entry in the user database, and nothing in the environment
            user = str(os.getuid())
        now = datetime.datetime.now(datetime.UTC)
        return cls(
            f"{user}@{socket.gethostname()} (process {os.getpid()})",
            f"kubestrap {command}",
            now.strftime("%Y-%m-%d %H:%M:%S UTC"),
        )


@dataclass(frozen=True, slots=True)
class Held:
    """Who holds a machine's lock. It lapses in `left` seconds unless it is renewed."""

    run: str
    owner: Owner
    left: float

    def __str__(self) -> str:
        """Tell it in one line."""
        return f"{self.owner.who} runs `{self.owner.command}` since {self.owner.since}"


class Lease:
    """The locks of one run. Use as a context manager: its end gives up all that were taken.

    `run` is random, names the run on the machines, and is no secret.
    """

    def __init__(self, owner: Owner, *, lease: float = LEASE, beat: float = BEAT) -> None:
        self.run = secrets.token_hex(16)
        self._owner = owner
        self._lease = lease
        self._beat = beat
        self._stop = threading.Event()
        self._holdings: dict[str, Holding] = {}

    def take(self, host: Host) -> Holding:
        """Begin to take the lock of `host`; the outcome is waited for with `Holding.wait`."""
        arguments = ("hold", self.run, f"{self._lease:.0f}", self._owner.who, self._owner.command, self._owner.since)
        command = f"KUBESTRAP_HOLDER={self.run}; export KUBESTRAP_HOLDER; {_command(*arguments)}"
        holding = self._holdings[host.name] = Holding(host, command, self._beats)
        return holding

    def check(self, name: str) -> None:
        """Raise `LockLost` where the lock of the host `name` went to another run."""
        holding = self._holdings.get(name)
        if holding and holding.lost:
            raise lost(name)

    def guard(self, hosts: Mapping[str, Host]) -> dict[str, Host]:
        """Give the hosts for the run's work: what runs there refuses to begin without the lock, and ends with it."""
        return {name: _Guarded(host, self.run) for name, host in hosts.items()}

    def stop(self) -> None:
        """Have the machines stop after their current step, without waiting for it."""
        self._stop.set()

    def __enter__(self) -> Self:
        """Give the lease, which holds nothing yet."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give up all locks, and wait some seconds at most until the machines have done so."""
        self.stop()
        deadline = time.monotonic() + _RELEASE_SECONDS
        for holding in self._holdings.values():
            holding.join(deadline - time.monotonic())
        if error is not None and not isinstance(error, Exception):
            error.add_note(_INTERRUPTED)

    def _beats(self) -> Iterator[bytes]:
        due = time.monotonic() + self._beat
        while not self._stop.is_set():
            if time.monotonic() >= due:
                due = time.monotonic() + self._beat
                yield b"renew\n"
            else:
                yield b""


class Holding:
    """The lock of one machine: on its way, held, or lost."""

    def __init__(self, host: Host, command: str, beats: Callable[[], Iterable[bytes]]) -> None:
        self._host = host
        self._answered = threading.Event()
        self._answer: list[str] = []
        self._error: BootstrapError | None = None
        self._taken = False
        self.lost = False
        """Whether another run took it."""
        self._thread = threading.Thread(target=self._hold, args=(command, beats), daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Wait until the lock is taken. A lock whose owner gives no sign is waited for until it lapses.

        Raises `Locked` where a living run holds it, `HostError` where the machine has no locks or cannot be asked.
        """
        name = self._host.name
        if not self._answered.wait(_ANSWER_SECONDS):
            raise HostError(name, f"its lock could not be taken: no answer within {_ANSWER_SECONDS:g} s")
        if self._error:
            raise self._error
        match self._answer:
            case ["taken", *_]:
                return
            case ["held", *_]:
                raise Locked(name, str(_held(self._answer)))
            case ["unable", why]:
                raise HostError(name, f"its lock cannot be taken: {why}")
        raise HostError(name, f"its lock cannot be taken; it says {self._answer}")

    def join(self, seconds: float) -> None:
        """Wait for the end of the command that holds the lock."""
        self._thread.join(max(0.0, seconds))

    def _hold(self, command: str, beats: Callable[[], Iterable[bytes]]) -> None:
        def hear(line: bytes) -> None:
            fields = line.decode(errors="replace").split("\t")
            if fields == ["lost"] or (self._answered.is_set() and fields[0] == "unable"):
                self.lost = True
            elif not self._answered.is_set():
                self._answer = fields
                self._answered.set()

        try:
            result = self._host.run(command, stdin=beats(), seconds=_HOLD_SECONDS, on_line=hear)
            if not self._answered.is_set():
                text = result.stderr.decode(errors="replace").strip() or "it said nothing"
                self._error = HostError(self._host.name, f"its lock cannot be taken (status {result.status}): {text}")
        except BootstrapError as error:
            self._error = error
        finally:
            self._answered.set()


class _Guarded(Forwarding):
    """A host whose commands belong to a run: marked with it, and not begun unless it holds the machine's lock."""

    def __init__(self, host: Host, run: str) -> None:
        super().__init__(host)
        self._run = run

    def run(
        self,
        command: str,
        *,
        stdin: bytes | Iterable[bytes] = b"",
        seconds: float,
        on_line: Callable[[bytes], None] | None = None,
    ) -> Result:
        return super().run(marked(self._run, command), stdin=stdin, seconds=seconds, on_line=on_line)


def marked(run: str, command: str) -> str:
    """Give `command` as one of `run`: it does nothing (status 9) without the lock, and `run`'s end ends it."""
    return (
        f"KUBESTRAP_RUN={run}; export KUBESTRAP_RUN; "
        '{ IFS= read -r held </run/kubestrap/lock && [ "$held" = "held $KUBESTRAP_RUN" ]; } 2>/dev/null || '
        "{ echo 'the lock of this machine is not held by this run any more' >&2; exit 9; }; "
        f"{command}"
    )


def lost(name: str) -> LockLost:
    """Give the error for a run whose lock on the host `name` is gone."""
    return LockLost(
        name,
        "the machine's lock was lost (it was not renewed in time, or `kubestrap unlock` took it), so nothing more is "
        "done here. Run the same command again",
    )


def show(host: Host) -> Held | None:
    """Tell who holds the lock of a machine. Raises `HostError`."""
    return _ask(host, _command("show"), _SHOW_SECONDS)


def free(host: Host, run: str) -> Held | None:
    """Take the lock of a machine from `run`, and end what it does there. Gives who holds it now."""
    return _ask(host, f"{_command('free', run)} && {_command('show')}", _FREE_SECONDS)


def _ask(host: Host, command: str, seconds: float) -> Held | None:
    result = host.run(command, seconds=seconds)
    lines = result.stdout.decode(errors="replace").splitlines()
    answer = lines[-1].split("\t") if lines else []
    match answer:
        case ["none"]:
            return None
        case ["held", *_]:
            return _held(answer)
    text = " ".join(answer) or result.stderr.decode(errors="replace").strip() or "it said nothing"
    raise HostError(host.name, f"its lock cannot be looked at: {text}")


def _held(answer: list[str]) -> Held:
    _, _, run, left, since, who, command = (*answer, *[""] * 7)[:7]
    return Held(run, Owner(who, command, since), float(left or 0))


def _command(*arguments: str) -> str:
    script = resources.files("bootstrap").joinpath("lock.sh").read_text()
    return shlex.join(["sh", "-c", script, "lock", *arguments])
