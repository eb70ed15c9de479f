"""Logging in to many hosts at once, over real sshd processes on this machine."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.report import medians
from bootstrap import spec
from bootstrap.connections import connected

HOSTS = 100
ROOT = Path(__file__).parents[1]


def jump100(runs: int) -> None:
    """Log in to 100 hosts behind one jump host, all with OpenSSH's default MaxStartups, and count those lost."""
    seconds, lost = [], []
    with _machines() as inventory:
        for _ in range(runs):
            began = time.monotonic()
            with connected(inventory, inventory.hosts) as connections:
                seconds.append(time.monotonic() - began)
                lost.append(float(len(connections.failures)))
    medians(f"{HOSTS} hosts behind one jump host", {"logged in": seconds})
    medians("hosts lost (goal: 0)", {"lost": lost}, "hosts")


@contextmanager
def _machines() -> Iterator[spec.Inventory]:
    """Run a jump host, and an sshd for each host, each at an address and a port of its own."""
    sys.path.insert(0, str(ROOT / "tests" / "transport"))
    from sshd import public, running

    with TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        jump = stack.enter_context(running(folder / "jump"))
        known = [f"[127.0.0.1]:{jump.port} {public(jump.host_key)}"]
        hosts = []
        for number in range(1, HOSTS + 1):
            address = f"127.0.2.{number}"
            server = stack.enter_context(running(folder / f"m{number}", "ListenAddress 0.0.0.0"))
            (server.folder / "authorized_keys").write_text(f"{public(jump.user_key)}\n")
            known.append(f"[{address}]:{server.port} {public(server.host_key)}")
            host = server.host(
                identity_file=str(jump.user_key),
                known_hosts_file=str(folder / "known_hosts"),
                proxy_jump=f"root@127.0.0.1:{jump.port}",
            )
            hosts.append(host.model_copy(update={"name": f"m{number}", "address": address}))
        (folder / "known_hosts").write_text("\n".join(known) + "\n")
        yield spec.Inventory(hosts=tuple(hosts))
