"""Logging in by the system's ssh: for keys that only it can use (on hardware, by PKCS#11), and all its settings.

Each machine gets one process of ssh; a jump host's is shared by all hosts behind it.
"""

from __future__ import annotations

import re
import shlex
import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from bootstrap.errors import AuthenticationRefused, ConfigError, ConnectionLost, HostError, HostKeyRefused, Unreachable
from bootstrap.transport import known_hosts, mux
from bootstrap.transport.keyring import Keyring, public_key
from bootstrap.transport.mux_connection import MuxConnection
from bootstrap.transport.openssh_config import Login
from bootstrap.transport.openssh_process import (
    Process,
    find_program,
    identity_files,
    private_folder,
    settings,
    write_script,
)
from bootstrap.transport.questions import Questions
from bootstrap.transport.session import (
    LOST_AFTER,
    Dial,
    Session,
    banner_seconds,
    dial_directly,
    is_stranger,
    never_spoke,
    not_connected,
    not_resolved,
    not_spoken,
    open_trusted,
    pauses,
    too_weak,
)

_ASKING_SECONDS = 600.0  # while the user is asked, as by several servers in turn

_DROPPED = re.compile(r"(kex_exchange_identification|banner exchange): .*([Cc]onnection (closed|reset)|Broken pipe)")
_UNRESOLVED = re.compile(r"Could not resolve hostname \S+: (.*)")
_UNCONNECTED = re.compile(r"connect to host \S+ port [0-9]+: (.*)")
_APART = re.compile(r"no matching (.*) found\. Their offer: ?(.*)")
_OFFERED = re.compile(
    r"^debug1: Offering public key: (.*?) \S+ SHA256:|^debug1: Trying private key: (.*)$", re.MULTILINE
)
_KINDS = {
    "key exchange method": "key exchange (KexAlgorithms)",
    "host key type": "host key (HostKeyAlgorithms)",
    "cipher": "cipher (Ciphers)",
    "MAC": "MAC (MACs)",
}


@dataclass(slots=True)
class _Hop:
    """The connection to a jump host: `lock` is held while it is made, so that it is made once."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    connection: MuxConnection | None = None
    failure: HostError | None = None


class _Folder:
    """Where the processes of a run have their sockets, and the programs that they start."""

    def __init__(self, keyring: Keyring) -> None:
        self.program = find_program()
        self.path = private_folder()
        self.way = self.path / "way"
        write_script(self.way, mux.__name__)
        self.questions = Questions(self.path, keyring)

    def close(self) -> None:
        """Remove it."""
        self.questions.close()
        shutil.rmtree(self.path, ignore_errors=True)


class OpenSsh:
    """The processes of ssh of a run. `close` ends those of jump hosts; a host's own ends with its connection.

    `keyring` has what the user is asked, once for all hosts: the PIN of a token, the passphrase of a key.
    """

    def __init__(self, *, lost_after: float = LOST_AFTER, keyring: Keyring | None = None) -> None:
        self._lost_after = lost_after
        self._keyring = keyring or Keyring()
        self._lock = threading.Lock()
        self._token = threading.Lock()  # a token answers one login at a time
        self._made: _Folder | None = None
        self._is_closed = False
        self._count = 0
        self._hops: dict[tuple[Login, ...], _Hop] = {}

    def connect(self, name: str, login: Login, via: str = "") -> MuxConnection:
        """Log in to a server, through its jump hosts. `name` and `via` are for errors, as in `open_session`.

        Raises what `transport.ssh.connect` raises.
        """
        way = self._hop(name, login.jumps) if login.jumps else None
        pin = self._pin(name, login, via)
        with self._lock:
            if self._is_closed:
                raise ConnectionLost(name, "the run has ended meanwhile")
            self._made = folder = self._made or _Folder(self._keyring)
        command = ""
        if way:
            words = (str(folder.way), way.path, login.address, str(login.port), f"{login.connect_seconds:g}")
            command = f"/bin/sh {shlex.join(words)}"
        with self._in_turn(login):
            for left in pauses():
                with ExitStack() as stack:
                    process = self._start(folder, login, command, pin)
                    stack.callback(process.close)
                    if self._await_login(name, login, via, process, folder.questions):
                        stack.pop_all()
                        return MuxConnection(name, process)
                    if way and process.last_words():
                        self.dial(name, login)(login.connect_seconds).close()  # has the reason, if there still is one
                    if not left or not any(map(_DROPPED.search, process.messages())):
                        raise self._error(name, login, via, process)
        raise AssertionError("the last attempt gives a connection, or an error")

    def dial(self, name: str, login: Login) -> Dial:
        """Give a `Dial` to the server of `login`, through its jump hosts, as `JumpHosts.dial` does."""

        def dial(seconds: float) -> socket.socket:
            way = self._hop(name, login.jumps)
            what = f"{_via(login.jumps)}it cannot connect to {login.place}"
            try:
                return way.dial(login.address, login.port, seconds=seconds)
            except TimeoutError as error:
                raise Unreachable(name, f"{what} within {seconds:g} s") from error
            except OSError as error:
                raise Unreachable(name, f"{what}: it says: {str(error).partition(': ')[2]}") from error
            except ConnectionLost:
                raise
            except HostError as error:
                raise Unreachable(name, f"{what}: its sshd forbids it (AllowTcpForwarding, PermitOpen)") from error

        return dial

    def close(self) -> None:
        """End the connections to jump hosts, those behind others first, and remove the folder. Idempotent."""
        with self._lock:
            hops = sorted(self._hops.items(), key=lambda item: -len(item[0]))
            self._hops.clear()
            folder, self._made = self._made, None
            self._is_closed = True
        for _, hop in hops:
            if hop.connection:
                hop.connection.close()
        if folder:
            folder.close()

    def _hop(self, name: str, hops: tuple[Login, ...]) -> MuxConnection:
        """Give the connection to the last of these jump hosts. One that failed is not tried again in this run."""
        with self._lock:
            hop = self._hops.setdefault(hops, _Hop())
        with hop.lock:
            if hop.failure:
                raise type(hop.failure)(name, hop.failure.what)
            try:
                if hop.connection is None or not hop.connection.is_active():
                    hop.connection = self.connect(name, replace(hops[-1], jumps=hops[:-1]), _via(hops))
            except HostError as error:
                hop.failure = error
                raise
            return hop.connection

    def _pin(self, name: str, login: Login, via: str) -> str:
        """Give the key that the server must have, as type and base64; empty where the known_hosts files say it.

        What ssh cannot judge, or not as we do, is looked at before: a key that is new, and one by its fingerprint.
        """
        if login.pin.startswith("SHA256:"):
            with closing(self._look(name, login, via)) as session:
                key = session.get_remote_server_key()
                return known_hosts.public_line(key.get_name(), key.asbytes())
        if login.accept_new and is_stranger(login):
            self._look(name, login, via).close()
        return " ".join(login.pin.split()[:2])

    def _look(self, name: str, login: Login, via: str) -> Session:
        """Connect without logging in, and check the host key."""
        dial = self.dial(name, login) if login.jumps else dial_directly(name, login, via)
        return open_trusted(name, login, dial, via, self._lost_after)

    def _start(self, folder: _Folder, login: Login, way: str, pin: str) -> Process:
        with self._lock:
            self._count += 1
            path = folder.path / str(self._count)
        can_ask = folder.questions.can_ask
        lines = settings(login, path, way=way, pin=pin, can_ask=can_ask, lost_after=self._lost_after)
        return Process(folder.program, path, login.alias, lines, folder.questions.environment)

    @contextmanager
    def _in_turn(self, login: Login) -> Iterator[None]:
        """Let logins with a token be one at a time: it may want to be touched for each, or bear no two at once."""
        if login.pkcs11 or any(map(_is_on_token, identity_files(login))):
            with self._token:
                yield
        else:
            yield

    def _await_login(self, name: str, login: Login, via: str, process: Process, questions: Questions) -> bool:
        seconds = login.connect_seconds + banner_seconds(login) + max(3 * login.connect_seconds, 60.0)
        logged_in: bool | None = False
        try:
            logged_in = process.await_login(seconds)
            if logged_in is None and questions.were_asked:
                logged_in = process.await_login(_ASKING_SECONDS)
        finally:
            questions.settle(process.pid, logged_in=bool(logged_in))
        if logged_in is None:
            raise Unreachable(name, f"{via}the login at {login.place} did not end within {seconds:g} s")
        return logged_in

    def _error(self, name: str, login: Login, via: str, process: Process) -> Exception:
        """Give the error for a login that failed."""
        messages = process.messages()
        said = "\n".join(messages)
        if match := _UNRESOLVED.search(said):
            return not_resolved(name, login, via, match[1])
        if match := _UNCONNECTED.search(said):
            return not_connected(name, login, via, match[1])
        if "timed out during banner exchange" in said:
            return not_spoken(name, login, via)
        if _DROPPED.search(said):
            return never_spoke(name, login, via, process.last_words())
        if match := _APART.search(said):
            offer = ", ".join(each for each in match[2].split(",") if not each.startswith(("ext-info-", "kex-strict-")))
            remedy = "Update its sshd, or allow in its sshd_config what `ssh -Q` lists here"
            offers = f"for {_KINDS.get(match[1], match[1])} it offers only {offer or 'nothing'}"
            return too_weak(name, login, via, offers, remedy)
        if "Host key verification failed" in said:
            self._look(name, login, via).close()  # raises, in our words
            return HostKeyRefused(name, f"{via}ssh refuses its host key; it says: {' '.join(messages)}")
        if "Permission denied" in said or "Too many authentication failures" in said:
            return AuthenticationRefused(name, f"{via}{_refusal(login, process, self._keyring.can_ask)}")
        if "onfiguration option" in said or "Bad owner or permissions" in said:
            return ConfigError(f"ssh cannot use its configuration; it says: {' '.join(messages)}")
        return Unreachable(
            name, f"{via}ssh does not log in at {login.place}; it says: {' '.join(messages) or 'nothing'}"
        )


def _refusal(login: Login, process: Process, can_ask: bool) -> str:
    tried = dict.fromkeys(match[0] or match[1] for match in _OFFERED.findall(process.log()))
    why = "; ".join(process.messages())
    return (
        f"{login.place} refuses user {login.user}; ssh says: {why.rstrip('.')}. "
        f"Keys tried: {', '.join(tried) or 'none, as there is no usable key'}. "
        "Check the user and that one of these keys is in its authorized_keys"
        + ("" if can_ask else "; there is no terminal to ask for a passphrase or a PIN at")
    )


def _via(hops: tuple[Login, ...]) -> str:
    return f"jump host {hops[-1].address}: "


def _is_on_token(file: Path) -> bool:
    """Whether a private key's file stands for a key on a FIDO token."""
    return known_hosts.key_type(public_key(file)).startswith("sk-")
