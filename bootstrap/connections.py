"""The connections of a run: one to each machine, closed together at its end."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass

from bootstrap.errors import BootstrapError
from bootstrap.parallel import attempt
from bootstrap.spec import Host as Machine
from bootstrap.spec import Inventory, effective_ssh
from bootstrap.transport.base import Host


@dataclass(frozen=True, slots=True)
class Connections:
    """Who was reached, and why the others were not; by host name."""

    hosts: Mapping[str, Host]
    failures: Mapping[str, BootstrapError]


class _Made:
    """Connections, as they are made. `close` closes them, and those that come later."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._hosts: list[Host] = []
        self._is_over = False

    def add(self, host: Host) -> Host:
        with self._lock:
            if not self._is_over:
                self._hosts.append(host)
                return host
        host.close()
        return host

    def close(self) -> None:
        with self._lock:
            self._is_over = True
        for host in self._hosts:
            host.close()


@contextmanager
def connected(inventory: Inventory, machines: Sequence[Machine]) -> Iterator[Connections]:
    """Connect to `machines`, all at once; those that are not reached are among the failures.

    What opens the user's keys, and sudo's password, is asked for at his terminal, if he has one. Raises `ConfigError`
    for a file of a password that cannot be used.
    """
    from bootstrap.terminal import Terminal
    from bootstrap.transport.ssh import JumpHosts, Keyring, connect

    by_name = {machine.name: machine for machine in machines}
    with (
        Terminal() as terminal,
        JumpHosts(keyring=(keyring := Keyring(terminal.ask, terminal.tell))) as jumps,
        closing(_Made()) as made,  # where a run is given up meanwhile, some are connected already
    ):
        keyring.read_passwords(effective_ssh(inventory, machine).sudo_password_file for machine in machines)
        hosts, failures = attempt(
            list(by_name), lambda name: made.add(connect(inventory, by_name[name], jumps=jumps, keyring=keyring))
        )
        yield Connections(hosts, failures)
