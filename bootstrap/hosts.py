"""The inventory's hosts as SSH sees them: their host keys, and writing down those that are new."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from bootstrap.errors import BootstrapError, HostKeyRefused
from bootstrap.parallel import attempt
from bootstrap.spec import Host, Inventory
from bootstrap.transport.known_hosts import State, fingerprint

if TYPE_CHECKING:
    from bootstrap.transport.openssh_config import Login
    from bootstrap.transport.ssh import JumpHosts


@dataclass(frozen=True, slots=True)
class HostKey:
    """A host key that a server shows. `where` is the place that knows it, or knew another."""

    type: str
    fingerprint: str
    state: State
    where: str


@dataclass(frozen=True, slots=True)
class Scanned:
    """The keys of a host, or of a jump host on the way to hosts; `written` is the file to which they were added."""

    host: str
    place: str
    keys: tuple[HostKey, ...]
    is_new: bool
    written: str = ""


@dataclass(frozen=True, slots=True)
class Scan:
    """What came of looking at hosts, and the errors of those that showed no key, or one that is not to be trusted."""

    scanned: tuple[Scanned, ...]
    failures: dict[str, BootstrapError]


def scan(inventory: Inventory, hosts: Sequence[Host], *, write: bool) -> Scan:
    """Ask hosts for their host keys, and with `write` add those of hosts of which nothing is known.

    Jump hosts come first, each once: what is behind them can only be asked when their own keys are known. Changed and
    revoked keys are never written. Raises `ConfigError` for an OpenSSH configuration that cannot be used.
    """
    from bootstrap.terminal import Terminal
    from bootstrap.transport.ssh import JumpHosts, Keyring

    scanned: list[Scanned] = []
    failures: dict[str, BootstrapError] = {}
    with Terminal() as terminal, JumpHosts(keyring=Keyring(terminal.ask, terminal.tell)) as jumps:
        for logins in _in_order(inventory, hosts):
            done, failed = attempt(list(logins), partial(_ask, logins, jumps, write))
            scanned += (one for one, _ in done.values())
            failures |= failed
            failures |= {name: error for name, (_, error) in done.items() if error}
    return Scan(tuple(scanned), failures)


def _in_order(inventory: Inventory, hosts: Sequence[Host]) -> list[dict[str, Login]]:
    """Give who is to be asked, by name: first those reached directly, then those behind one jump host, and so on."""
    from bootstrap.transport.openssh_config import login

    order: list[dict[str, Login]] = []
    hops: set[Login] = set()
    for host in hosts:
        found = login(inventory, host)
        for depth, hop in enumerate(found.jumps):
            way = replace(hop, jumps=found.jumps[:depth])
            if way not in hops:
                hops.add(way)
                _at(order, depth)[f"jump host {hop.user}@{hop.address}:{hop.port}"] = way
        _at(order, len(found.jumps))[host.name] = found
    return order


def _at(order: list[dict[str, Login]], depth: int) -> dict[str, Login]:
    order.extend({} for _ in range(depth + 1 - len(order)))
    return order[depth]


def _ask(
    logins: Mapping[str, Login], jumps: JumpHosts, write: bool, name: str
) -> tuple[Scanned, HostKeyRefused | None]:
    from bootstrap.transport import session

    login = logins[name]
    dial = jumps.dial(name, login) if login.jumps else session.dial_directly(name, login)
    shown = session.host_keys(name, login, dial)
    states = {each.judgement.state for each in shown}
    is_new = states == {"unknown"} and session.is_stranger(login)
    error = None
    written = ""
    if write and is_new:
        problem = session.add_host_keys(login, [(each.key_type, each.key) for each in shown])
        if problem:
            error = HostKeyRefused(name, problem.text)
        else:
            written = str(session.file_to_add_to(login))
    elif not is_new and (states & {"changed", "refused"} or "known" not in states):
        error = HostKeyRefused(name, next(each.judgement.text for each in shown if each.judgement.text))
    keys = (HostKey(each.key_type, fingerprint(each.key), each.judgement.state, each.judgement.where) for each in shown)
    return Scanned(name, login.place, tuple(keys), is_new, written), error
