"""One SSH connection by paramiko: the socket, the handshake, the host key, the login, and signs of life.

paramiko speaks the protocol. What it leaves to its users, or does otherwise than OpenSSH, stands here.
"""

from __future__ import annotations

import errno
import logging
import os
import random
import socket
import threading
import time
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import paramiko
from paramiko.common import cMSG_CHANNEL_REQUEST, cMSG_GLOBAL_REQUEST

from bootstrap.errors import (
    AlgorithmsRefused,
    AuthenticationRefused,
    ConnectionLost,
    HostError,
    HostKeyRefused,
    Unreachable,
)
from bootstrap.transport import known_hosts
from bootstrap.transport.channel import OrderlyChannel
from bootstrap.transport.connection import CLOSED, SILENT
from bootstrap.transport.identities import identities_of
from bootstrap.transport.keyring import Keyring
from bootstrap.transport.openssh_config import Login
from bootstrap.transport.proxy import ProxyStream

# paramiko reports what it also raises; without a handler Python would print that to stderr.
logging.getLogger("paramiko").addHandler(logging.NullHandler())

LOST_AFTER = 45.0
"""Seconds without a single byte from a server after which the connection counts as lost."""

# Each list is all that is ever agreed on, whatever paramiko adds to its own: no CBC, no 3DES, no SHA-1, no MD5.
_KEX = (
    "mlkem768x25519-sha256",
    "curve25519-sha256@libssh.org",
    "ecdh-sha2-nistp256",
    "ecdh-sha2-nistp384",
    "ecdh-sha2-nistp521",
    "diffie-hellman-group16-sha512",
    "diffie-hellman-group-exchange-sha256",
    "diffie-hellman-group14-sha256",
)
_CIPHERS = (
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
    "aes128-ctr",
    "aes192-ctr",
    "aes256-ctr",
)
_MACS = (
    "hmac-sha2-256-etm@openssh.com",
    "hmac-sha2-512-etm@openssh.com",
    "hmac-sha2-256",
    "hmac-sha2-512",
)
_BANNER_ATTEMPTS = 8

Stream = socket.socket | paramiko.Channel | ProxyStream
Dial = Callable[[float], Stream]
"""Opens the byte stream to a server within so many seconds. Raises `OSError`."""


class Link:
    """The byte stream under a connection: notes when something was heard, and ends the stream after long silence."""

    def __init__(self, stream: Stream, lost_after: float) -> None:
        self._stream = stream
        self._lost_after = lost_after
        self._closed = False  # paramiko looks at a socket's attribute of this name
        self._heard = self._asked = time.monotonic()
        self.ask: Callable[[], None] | None = None
        """Makes the server answer something; called after a third of the time without a sign of it."""
        self.closed_by_peer = False
        self.silent = False

    def recv(self, size: int) -> bytes:
        """Receive, as a socket does."""
        try:
            data = self._stream.recv(size)
        except TimeoutError:
            self._check_for_life()
            raise
        except ConnectionError:
            self.closed_by_peer = True
            raise
        self._heard = time.monotonic()
        self.closed_by_peer = not data
        return data

    def send(self, data: bytes) -> int:
        """Send, as a socket does."""
        try:
            return self._stream.send(data)
        except ConnectionError:
            self.closed_by_peer = True
            raise

    def settimeout(self, seconds: float | None) -> None:
        """Limit `recv` and `send`, as a socket does."""
        self._stream.settimeout(seconds)

    def close(self) -> None:
        """Close the stream."""
        self._closed = True
        self._stream.close()

    def _check_for_life(self) -> None:
        if self.ask is None:
            return
        now = time.monotonic()
        if now - self._heard > self._lost_after:
            self.silent = True
            raise EOFError
        if now - max(self._heard, self._asked) > self._lost_after / 3:
            self._asked = now
            self.ask()


class Session(paramiko.Transport):
    """A connection with our choice of algorithms, and two messages that paramiko sends only while waiting."""

    def __init__(self, link: Link, host_key_algorithms: Sequence[str]) -> None:
        self._host_key_algorithms = tuple(host_key_algorithms)
        self._opening = threading.local()
        self._refusals: dict[int, tuple[int, str]] = {}
        self.link = link
        self.offered: dict[str, list[str]] = {}
        """What the server can do, as soon as it has said so; under paramiko's names."""
        super().__init__(cast(socket.socket, link), strict_kex=True)

    @property
    def preferred_kex(self) -> Sequence[str]:
        """Post-quantum first."""
        return _KEX

    @property
    def preferred_ciphers(self) -> Sequence[str]:
        """GCM first: the fastest here, and paramiko's last."""
        return _CIPHERS

    @property
    def preferred_macs(self) -> Sequence[str]:
        """SHA-2 only."""
        return _MACS

    @property
    def preferred_pubkeys(self) -> Sequence[str]:
        """Signatures of the user's key: RSA with SHA-2 only."""
        return known_hosts.ALGORITHMS

    @property
    def preferred_keys(self) -> Sequence[str]:
        """Those that the user's known_hosts files can judge first."""
        return self._host_key_algorithms

    def algorithms_apart(self) -> Iterator[tuple[str, Sequence[str], Sequence[str]]]:
        """Give the kinds of algorithms in which the server shares none with us: the kind, the server's, ours."""
        for kind, theirs, ours in (
            ("key exchange (KexAlgorithms)", "kex_algo_list", self.preferred_kex),
            ("host key (HostKeyAlgorithms)", "server_key_algo_list", self.preferred_keys),
            ("cipher (Ciphers)", "server_encrypt_algo_list", self.preferred_ciphers),
            ("MAC (MACs)", "server_mac_algo_list", self.preferred_macs),
        ):
            offered = self.offered.get(theirs, list(ours))
            if not set(offered) & set(ours):
                markers = ("ext-info-", "kex-strict-")  # these stand among the algorithms, and are none
                yield kind, [name for name in offered if not name.startswith(markers)], ours

    def open_channel(
        self,
        kind: str,
        dest_addr: tuple[str, int] | None = None,
        src_addr: tuple[str, int] | None = None,
        window_size: int | None = None,
        max_packet_size: int | None = None,
        timeout: float | None = None,
    ) -> paramiko.Channel:
        """Open a channel, as paramiko does, that says nothing after its end.

        The error of one that is refused has the server's own code and words. paramiko keeps but one error a connection,
        without the words, so that channels opened at the same time would get each other's.
        """
        try:
            channel = super().open_channel(kind, dest_addr, src_addr, window_size, max_packet_size, timeout)
        except (paramiko.SSHException, EOFError) as error:
            refusal = self._refusals.pop(getattr(self._opening, "number", -1), None)
            if refusal:
                raise paramiko.ChannelException(*refusal) from error
            raise
        return OrderlyChannel.of(channel)

    def _next_channel(self) -> int:
        number = self._opening.number = int(super()._next_channel())  # type: ignore[misc]  # the stubs leave it out
        return number

    def _parse_channel_open_failure(self, message: paramiko.Message) -> None:
        copy = paramiko.Message(message.asbytes())
        number, code, words = copy.get_int(), copy.get_int(), copy.get_text()
        self._refusals[number] = (code, words)
        super()._parse_channel_open_failure(message)  # type: ignore[misc]

    def start_command(self, channel: paramiko.Channel, command: str) -> None:
        """Ask for `command` to be run, without waiting for the answer: a round trip saved.

        A server that refuses closes the channel.
        """
        message = paramiko.Message()
        message.add_byte(cMSG_CHANNEL_REQUEST)
        message.add_int(channel.remote_chanid)
        message.add_string("exec")
        message.add_boolean(True)
        message.add_string(command)
        self._send_user_message(message)  # type: ignore[attr-defined]  # the stubs leave it out

    def ask_for_life(self) -> None:
        """Send what every server answers, be it with a refusal (OpenSSH's ServerAliveInterval)."""
        if not self.clear_to_send.is_set():
            return  # keys are being exchanged, and this runs on the thread that does it
        message = paramiko.Message()
        message.add_byte(cMSG_GLOBAL_REQUEST)
        message.add_string("keepalive@openssh.com")
        message.add_boolean(True)
        self._send_user_message(message)  # type: ignore[attr-defined]

    def is_lost(self) -> bool:
        """Ask for a sign of life, and say whether none came.

        paramiko closes the channels of a dying connection before it calls the connection inactive.
        """
        try:
            self.global_request("keepalive@openssh.com", wait=True)
        except (paramiko.SSHException, EOFError, OSError):
            return True
        return not self.is_active()

    def _parse_kex_init(self, m: paramiko.Message) -> None:
        self.offered = self._really_parse_kex_init(paramiko.Message(m.asbytes()))  # type: ignore[attr-defined]
        super()._parse_kex_init(m)  # type: ignore[misc]

    def why_lost(self) -> str:
        """Say why the connection is no more."""
        if self.link.silent:
            return SILENT
        if self.link.closed_by_peer:
            return CLOSED
        return "the connection was lost"


def open_session(
    name: str,
    login: Login,
    dial: Dial,
    *,
    via: str = "",
    lost_after: float = LOST_AFTER,
    keyring: Keyring | None = None,
) -> Session:
    """Connect to a server that `dial` reaches, check its host key, and log in.

    `name` is the host's, for errors; `via` is put before what they say (`jump host bastion: `). A server that drops the
    connection before its banner, as sshd does beyond MaxStartups, is tried again after a random while. Where nothing
    else lets the user in, `keyring` asks for the passphrases of his keys; no connection is held meanwhile.

    Raises `Unreachable` (also `AlgorithmsRefused`), `HostKeyRefused`, `AuthenticationRefused`.
    """
    keyring = keyring or Keyring()
    while True:
        session = open_trusted(name, login, dial, via, lost_after)
        try:
            locked = _authenticate(name, login, session, via, keyring)
        except BaseException:
            session.close()
            raise
        if locked is None:
            session.link.ask = session.ask_for_life
            return session
        session.close()
        keyring.unlock(locked)


def check_host_key(name: str, login: Login, session: Session, via: str) -> None:
    """Check the host key of a connection that was opened for another's sake. Raises `HostKeyRefused`."""
    judgement = _judge_or_add(login, session)
    if judgement.text:
        raise HostKeyRefused(name, via + judgement.text)


@dataclass(frozen=True, slots=True)
class Shown:
    """A host key that a server shows, and what is to be thought of it."""

    key_type: str
    key: bytes
    judgement: known_hosts.Judgement


def host_keys(name: str, login: Login, dial: Dial) -> list[Shown]:
    """Ask a server for its host keys, one of each type, and judge them; nobody logs in. Raises `Unreachable`."""
    known = _known(login)
    shown: dict[str, Shown] = {}
    algorithms = known.algorithms()
    while algorithms:
        with closing(_handshake(name, login, dial, algorithms, "", LOST_AFTER)) as session:
            key = session.get_remote_server_key()
            shown[key.get_name()] = Shown(key.get_name(), key.asbytes(), _judge(known, session))
            algorithms = _not_yet_shown(session, shown)
    if login.pin:  # of several keys, the inventory has one
        known_ones = [each for each in shown.values() if each.judgement.state == "known"]
        return known_ones or list(shown.values())
    return list(shown.values())


def is_stranger(login: Login) -> bool:
    """Whether nothing is known of a server's host keys."""
    return _known(login).is_stranger


def file_to_add_to(login: Login) -> Path:
    """Give the known_hosts file to which keys are added."""
    return login.known_hosts_files[0] if login.known_hosts_files else Path.home() / ".ssh/known_hosts"


def open_trusted(name: str, login: Login, dial: Dial, via: str, lost_after: float) -> Session:
    """Connect to a server, and check its host key; nobody logs in. Raises `Unreachable` and `HostKeyRefused`."""
    algorithms = _known(login).algorithms()
    shown: list[str] = []
    while True:
        session = _handshake(name, login, dial, algorithms, via, lost_after)
        try:
            shown.append(session.get_remote_server_key().get_name())
            judgement = _judge_or_add(login, session)
        except BaseException:
            session.close()
            raise
        if not judgement.text:
            return session
        session.close()
        # A fingerprint does not say which type of key it is of.
        algorithms = _not_yet_shown(session, shown) if login.pin.startswith("SHA256:") else ()
        if not algorithms or judgement.state == "refused":
            raise HostKeyRefused(name, via + judgement.text)


def _not_yet_shown(session: Session, types: Container[str]) -> tuple[str, ...]:
    """Give the algorithms that the server has for host keys of other types than these."""
    offered = session.offered["server_key_algo_list"]
    rest = (name for name in known_hosts.ALGORITHMS if name in offered)
    return tuple(name for name in rest if ("ssh-rsa" if name.startswith("rsa-") else name) not in types)


def dial_directly(name: str, login: Login, via: str = "") -> Dial:
    """Give a `Dial` that connects to the server itself, every address of its name in turn, or by its ProxyCommand."""
    if login.proxy_command:
        return lambda _: ProxyStream(login.proxy_command)

    def dial(seconds: float) -> socket.socket:
        try:
            connection = socket.create_connection((login.address, login.port), timeout=seconds)
        except socket.gaierror as error:
            raise not_resolved(name, login, via, error.strerror or str(error)) from error
        except OSError as error:
            late = isinstance(error, TimeoutError)
            words = os.strerror(errno.ETIMEDOUT) if late else error.strerror or str(error)
            raise not_connected(name, login, via, words) from error
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    return dial


def not_resolved(name: str, login: Login, via: str, words: str) -> Unreachable:
    """Give the error for a server's name that leads nowhere, with the resolver's `words`."""
    return Unreachable(name, f"{via}the name {login.address} cannot be resolved ({words}); is it spelt correctly?")


def not_connected(name: str, login: Login, via: str, words: str) -> Unreachable:
    """Give the error for a TCP connection to a server that did not come about, with the system's `words` (strerror)."""
    if words == os.strerror(errno.ETIMEDOUT):
        what = f"no answer from {login.place} within {login.connect_seconds:g} s"
        return Unreachable(name, f"{via}{what}; is the machine up, and no firewall between?")
    if words == os.strerror(errno.ECONNREFUSED):
        return Unreachable(name, f"{via}{login.place} refuses connections; does sshd run there, on this port?")
    return Unreachable(name, f"{via}{login.place} cannot be reached: {words}")


def not_spoken(name: str, login: Login, via: str) -> Unreachable:
    """Give the error for a server that takes connections, and then says nothing."""
    what = f"{login.place} takes connections but does not speak SSH within {banner_seconds(login):g} s"
    return Unreachable(name, f"{via}{what}")


def too_weak(name: str, login: Login, via: str, offers: str, remedy: str) -> AlgorithmsRefused:
    """Give the error for a server that shares no safe algorithm with us: what it offers for what, and the remedy."""
    return AlgorithmsRefused(
        name, f"{via}{login.place} offers no algorithm that is safe to use: {offers}. Nothing was sent. {remedy}"
    )


def never_spoke(name: str, login: Login, via: str, words: str) -> Unreachable:
    """Give the error for a server (or a ProxyCommand, with its last `words`) that always ended before its banner."""
    if login.proxy_command:
        return Unreachable(
            name,
            f"{via}the ProxyCommand ended {_BANNER_ATTEMPTS} times before the server said anything: "
            f"{login.proxy_command}; its last words: {words or 'none'}",
        )
    return Unreachable(
        name,
        f"{via}{login.place} closed {_BANNER_ATTEMPTS} connections before saying anything; "
        "is it sshd that answers there, and does it take more at once (MaxStartups, PerSourcePenalties)?",
    )


def banner_seconds(login: Login) -> float:
    """Give how long a server may take to begin; a busy machine takes long."""
    return max(2 * login.connect_seconds, 5.0)


def pauses() -> Iterator[int]:
    """Give, for each attempt at a server that drops connections, how many are left; the later ones after a while."""
    for attempt in range(_BANNER_ATTEMPTS):
        if attempt:
            time.sleep(random.uniform(0.5, 1.5) * min(0.2 * 1.7**attempt, 2.0))  # noqa: S311  # spread, not secrecy
        yield _BANNER_ATTEMPTS - 1 - attempt


def _known(login: Login) -> known_hosts.KnownKeys:
    files = login.known_hosts_files
    return known_hosts.known_keys(known_hosts.read(files), files, login.known_as, login.port, login.pin)


def _judge(known: known_hosts.KnownKeys, session: Session) -> known_hosts.Judgement:
    key = session.get_remote_server_key()
    certificate = key.public_blob.key_blob if key.public_blob else None
    return known.judge(key.get_name(), key.asbytes(), certificate, now=time.time())


def _judge_or_add(login: Login, session: Session) -> known_hosts.Judgement:
    """Judge a server's host key; where nothing is known of it and the user wants that, write its key down first."""
    judgement = _judge(_known(login), session)
    if judgement.state == "unknown" and login.accept_new:
        key = session.get_remote_server_key()
        return add_host_keys(login, [(key.get_name(), key.asbytes())]) or _judge(_known(login), session)
    return judgement


def add_host_keys(login: Login, keys: Sequence[tuple[str, bytes]]) -> known_hosts.Judgement | None:
    """Add keys (type and key) to the first known_hosts file of `login`, unless something is known of the server by now.

    Gives why that cannot be done, or None.
    """
    file = file_to_add_to(login)
    try:
        with known_hosts.open_to_add(file) as add:
            known = _known(login)
            if known.is_stranger:
                for key_type, key in keys:
                    add(known.name, key_type, key, login.hash_known_hosts)
    except OSError as error:
        return known_hosts.Judgement("unknown", f"its host key cannot be added to {file}: {error.strerror or error}")
    return None


def _handshake(name: str, login: Login, dial: Dial, algorithms: Sequence[str], via: str, lost_after: float) -> Session:
    words = ""
    for _ in pauses():
        stream = dial(login.connect_seconds)
        link = Link(stream, lost_after)
        session = Session(link, algorithms)
        session.banner_timeout = banner_seconds(login)
        session.handshake_timeout = max(3 * login.connect_seconds, 15.0)
        session.auth_timeout = max(3 * login.connect_seconds, 60.0)  # somebody may have to touch a token
        try:
            session.start_client(timeout=session.banner_timeout + session.handshake_timeout + 1)
            session.get_remote_server_key()
        except paramiko.ssh_exception.IncompatiblePeer as error:
            session.close()
            raise _too_weak(name, login, session, via, error) from error
        except (paramiko.SSHException, EOFError, OSError) as error:
            words = stream.last_words() if isinstance(stream, ProxyStream) else ""
            session.close()
            if session.remote_version:
                raise Unreachable(
                    name, f"{via}the SSH handshake with {login.place} failed: {_reason(error)}"
                ) from error
            if not link.closed_by_peer:
                raise not_spoken(name, login, via) from error
        else:
            return session
    raise never_spoke(name, login, via, words)


def _too_weak(name: str, login: Login, session: Session, via: str, error: Exception) -> AlgorithmsRefused:
    apart = list(session.algorithms_apart())
    if not apart:
        what = f"{login.place} speaks another SSH than version 2 ({error}); update its sshd"
        return AlgorithmsRefused(name, via + what)
    offers = "; ".join(f"for {kind} it offers only {', '.join(theirs) or 'nothing'}" for kind, theirs, _ in apart)
    needs = "; ".join(f"{kind}: {', '.join(ours)}" for kind, _, ours in apart)
    remedy = f"Update its sshd, or allow one of these in its sshd_config: {needs}"
    return too_weak(name, login, via, offers, remedy)


def _reason(error: Exception) -> str:
    return str(error) or "the connection was closed"


def _authenticate(name: str, login: Login, session: Session, via: str, keyring: Keyring) -> Path | None:
    """Log in. Where only an encrypted key is left to try, give its file."""
    tried: list[str] = []
    with identities_of(login, keyring) as identities:
        why = "it takes none of them"
        for identity in identities:
            tried.append(identity.name)
            try:
                more = session.auth_publickey(login.user, identity.key)
            except paramiko.BadAuthenticationType as error:
                why = f"it allows no login by key (only {', '.join(error.allowed_types)})"
                identities.locked.clear()
                break
            except (paramiko.SSHException, EOFError, OSError) as error:
                if session.is_active():
                    continue
                why = f"it closed the connection after {len(tried)} of them (MaxAuthTries?): {_reason(error)}"
                break
            if not more:
                return None
            why = f"it wants more than a key ({', '.join(more)}), which kubestrap cannot give"
            identities.locked.clear()
            break
    if identities.locked:
        return identities.locked[0]
    names = ", ".join(tried) or "none, as there is no usable key"
    unusable = "".join(f"; {what}" for what in identities.unusable)
    raise AuthenticationRefused(
        name,
        f"{via}{login.place} refuses user {login.user}: {why}. Keys tried: {names}{unusable}. "
        "Check the user and that one of these keys is in its authorized_keys",
    )


def failed(name: str, session: Session, error: Exception) -> HostError:
    """Give the error for `error` on a connection that may be gone."""
    if isinstance(error, paramiko.ChannelException):
        return HostError(name, f"its sshd opens no further session: {error.text} (MaxSessions?)")
    if session.is_lost():
        return ConnectionLost(name, session.why_lost())
    return HostError(name, f"the connection is in order, but: {_reason(error)}")
