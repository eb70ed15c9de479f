"""Hosts that this machine stands for: real sshd processes, each with keys, a port and a state of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from bootstrap import inventory, spec
from tests.transport.sshd import keygen, public, running

_OWN_STATE = (
    "mkdir -p /run/kubestrap && mount -t tmpfs none /run/kubestrap && mount -t tmpfs none /var/lib && "
    'mkdir /var/lib/bench && exec "$@"'
)
STATE = "/var/lib/bench"
"""A folder that each host has for itself, in memory; it is empty at first."""


@dataclass(frozen=True)
class Fleet:
    """Hosts that run: who they are, and the files by which one logs in to them as root."""

    folder: Path
    hosts: tuple[spec.Host, ...]

    @property
    def key(self) -> Path:
        """The private key that all of them let in."""
        return self.folder / "user"

    @property
    def known_hosts(self) -> Path:
        """Where the keys of all of them stand."""
        return self.folder / "known_hosts"

    @property
    def inventory(self) -> spec.Inventory:
        """The inventory of them all."""
        return spec.Inventory(hosts=self.hosts)

    def written(self) -> Path:
        """Write the inventory, and give its path."""
        path = self.folder / "inventory.yaml"
        path.write_text(inventory.dump(self.inventory))
        return path


@contextmanager
def fleet(count: int, *, behind_jump: bool = False) -> Iterator[Fleet]:
    """Run an sshd for each of `count` hosts, with OpenSSH's default MaxStartups; behind one jump host if wanted."""
    with TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        key = keygen(folder / "user")
        known = []
        jump: str | None = None
        if behind_jump:
            server = stack.enter_context(running(folder / "jump"))
            (server.folder / "authorized_keys").write_text(f"{public(key)}\n")
            known.append(f"[127.0.0.1]:{server.port} {public(server.host_key)}")
            jump = f"root@127.0.0.1:{server.port}"
        hosts = []
        for number in range(1, count + 1):
            address = f"127.0.{1 + (number + 249) // 250}.{1 + (number - 1) % 250}"
            server = stack.enter_context(
                running(
                    folder / f"m{number}",
                    "ListenAddress 0.0.0.0",
                    "Subsystem sftp internal-sftp",
                    within=["unshare", "--mount", "sh", "-c", _OWN_STATE, "sh"],
                )
            )
            (server.folder / "authorized_keys").write_text(f"{public(key)}\n")
            known.append(f"[{address}]:{server.port} {public(server.host_key)}")
            host = server.host(identity_file=str(key), known_hosts_file=str(folder / "known_hosts"), proxy_jump=jump)
            hosts.append(host.model_copy(update={"name": f"m{number}", "address": address}))
        (folder / "known_hosts").write_text("\n".join(known) + "\n")
        yield Fleet(folder, tuple(hosts))
