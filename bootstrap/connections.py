"""The connections of a run: one to each machine, closed together at its end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
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


@contextmanager
def connected(inventory: Inventory, machines: Sequence[Machine]) -> Iterator[Connections]:
    """Connect to `machines`, all at once; those that are not reached are among the failures.

    What opens the user's keys, and sudo's password, is asked for at his terminal, if he has one. Raises `ConfigError`
    for a file of a password that cannot be used.
    """
    from bootstrap.terminal import Terminal
    from bootstrap.transport.ssh import JumpHosts, Keyring, connect

    by_name = {machine.name: machine for machine in machines}
    with Terminal() as terminal, JumpHosts(keyring=(keyring := Keyring(terminal.ask, terminal.tell))) as jumps:
        keyring.read_passwords(effective_ssh(inventory, machine).sudo_password_file for machine in machines)
        hosts, failures = attempt(
            list(by_name), lambda name: connect(inventory, by_name[name], jumps=jumps, keyring=keyring)
        )
        try:
            yield Connections(hosts, failures)
        finally:
            for host in hosts.values():
                host.close()
