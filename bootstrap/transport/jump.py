"""Jump hosts (OpenSSH's ProxyJump): one connection to each, shared by all hosts behind it."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Self

import paramiko

from bootstrap.errors import HostError, Unreachable
from bootstrap.transport.keyring import Keyring
from bootstrap.transport.openssh import OpenSsh
from bootstrap.transport.openssh_config import Login
from bootstrap.transport.session import LOST_AFTER, Dial, Session, check_host_key, dial_directly, failed, open_session

_OPENING_AT_ONCE = 32
_PROHIBITED = 1  # RFC 4254 section 5.1: SSH_OPEN_ADMINISTRATIVELY_PROHIBITED


@dataclass(slots=True)
class _Shared:
    """The connection to one jump host: `lock` is held while it is made, so that it is made once.

    Hosts may come with keys and known_hosts files of their own: `trusted_by` are those whose files know its host key,
    `failures` what became of those who could not use it.
    """

    lock: threading.Lock = field(default_factory=threading.Lock)
    session: Session | None = None
    trusted_by: set[Login] = field(default_factory=set)
    failures: dict[Login, HostError] = field(default_factory=dict)


class JumpHosts:
    """The jump hosts of a run. A context manager: at its end the connections are closed.

    Each jump host gets one connection, made when the first host needs it, with a channel in it for every host behind;
    MaxStartups of the jump host so counts one. A jump host that failed is not tried again in this run.
    """

    def __init__(self, *, lost_after: float = LOST_AFTER, keyring: Keyring | None = None) -> None:
        self._lost_after = lost_after
        self._keyring = keyring
        self._lock = threading.Lock()
        self._shared: dict[tuple[tuple[str, str, int], ...], _Shared] = {}
        self._opening = threading.BoundedSemaphore(_OPENING_AT_ONCE)
        self.openssh = OpenSsh(lost_after=lost_after, keyring=keyring)
        """What logs in to hosts with the backend openssh, and to the jump hosts before them."""

    def __enter__(self) -> Self:
        """Give the jump hosts themselves."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close every connection."""
        self.close()

    def close(self) -> None:
        """Close every connection, those behind others first."""
        with self._lock:
            shared = sorted(self._shared.items(), key=lambda item: -len(item[0]))
            self._shared.clear()
        for _, one in shared:
            if one.session:
                one.session.close()
        self.openssh.close()

    def dial(self, name: str, login: Login) -> Dial:
        """Give a `Dial` to the server of `login`, through its jump hosts. `name` is the host's, for errors.

        What it opens raises the errors of `open_session` for a jump host that cannot be used, and `Unreachable`
        where the last of them cannot reach the server.
        """
        if login.backend == "openssh":
            return self.openssh.dial(name, login)

        def dial(seconds: float) -> paramiko.Channel:
            session = self._session(name, login.jumps)
            via = _via(login.jumps)
            with self._opening:
                try:
                    return session.open_channel(
                        "direct-tcpip", (login.address, login.port), ("127.0.0.1", 0), timeout=seconds
                    )
                except paramiko.ChannelException as error:
                    if error.code == _PROHIBITED:
                        why = "its sshd forbids it (AllowTcpForwarding, PermitOpen)"
                    else:
                        why = f"it says: {error.text or 'connection failed'}"
                    raise Unreachable(name, f"{via}it cannot connect to {login.place}: {why}") from error
                except (paramiko.SSHException, EOFError, OSError) as error:
                    if session.is_active():
                        # paramiko keeps one refusal at a time: of several at once, all but one have no reason.
                        late = f" within {seconds:g} s" if "Timeout" in str(error) else ""
                        raise Unreachable(name, f"{via}it cannot connect to {login.place}{late}") from error
                    raise failed(name, session, error) from error

        return dial

    def _session(self, name: str, hops: tuple[Login, ...]) -> Session:
        hop = hops[-1]
        with self._lock:
            shared = self._shared.setdefault(tuple((each.user, each.address, each.port) for each in hops), _Shared())
        with shared.lock:
            if failure := shared.failures.get(hop):
                raise type(failure)(name, failure.what)
            try:
                return self._open(name, hops, shared)
            except HostError as error:
                shared.failures[hop] = error
                raise

    def _open(self, name: str, hops: tuple[Login, ...], shared: _Shared) -> Session:
        hop, via = hops[-1], _via(hops)
        if shared.session is None or not shared.session.is_active():
            dial = self.dial(name, replace(hop, jumps=hops[:-1])) if hops[:-1] else dial_directly(name, hop, via)
            shared.session = open_session(name, hop, dial, via=via, lost_after=self._lost_after, keyring=self._keyring)
            shared.trusted_by = {hop}
        elif hop not in shared.trusted_by:
            check_host_key(name, hop, shared.session, via)
            shared.trusted_by.add(hop)
        return shared.session


def _via(hops: tuple[Login, ...]) -> str:
    return f"jump host {hops[-1].address}: "
