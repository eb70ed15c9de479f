"""What is done on many hosts to compare with others: `python -m benchmarks.unit INVENTORY SOURCE TARGET`.

Each file in the folder SOURCE is put into the folder TARGET of every host with mode 0600, then five commands are run,
each unless what it makes is there. It is done as every command of kubestrap does its work: by a plan, under the
hosts' locks. In the end it prints JSON: how many steps changed something, and the process's peak of memory in MB.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from benchmarks.processes import peak
from bootstrap import inventory, lock, plan
from bootstrap.api import Api
from bootstrap.connections import connected
from bootstrap.events import Event, StepDone
from bootstrap.execute import Means, execute
from bootstrap.parallel import attempt, raise_failures
from bootstrap.plan import Phase
from bootstrap.site import Contents, Node, Site
from bootstrap.steps import Command, Directory, File, Step

FILES = 25
COMMANDS = 5


def sources(folder: Path) -> Path:
    """Write the files that are placed, of 2 to 4.5 KB, and give their folder."""
    folder.mkdir()
    for number in range(FILES):
        line = f"setting {number} of the file, as long as settings are\n"
        (folder / f"file-{number}").write_text((line * 100)[: 2000 + 100 * number])
    return folder


def main() -> None:
    """Do it once."""
    changes = 0

    def hear(event: Event) -> None:
        nonlocal changes
        changes += isinstance(event, StepDone) and event.state == "changed"

    read = inventory.load(Path(sys.argv[1]), control_plane=False)
    contents = {path.name: path.read_bytes() for path in sorted(Path(sys.argv[2]).iterdir())}
    target = sys.argv[3]

    def steps(_: Site, __: Node) -> Iterator[Step]:
        yield Directory(target)
        for name, data in contents.items():
            yield File(f"{target}/{name}", data, mode=0o600)
        for number in range(COMMANDS):
            made = f"{target}/made-{number}"
            yield Command(f"make {made}", run=f"touch {made}", unless=f"test -e {made}")

    nodes = tuple(Node(host, str(host.address)) for host in read.hosts)
    site = Site(read.cluster, nodes, Contents(read.cluster.kubernetes_version, "", (), ()))
    todo = plan.build([Phase("unit", "all", steps)], site, nodes=nodes)
    with connected(read, read.hosts) as connections, lock.Lease(lock.Owner.here("benchmark")) as lease:
        hosts = connections.hosts
        _, unlocked = attempt(list(hosts), lambda name: lease.take(hosts[name]).wait())
        raise_failures({**connections.failures, **unlocked}, {})
        execute(todo, Means(lease.guard(hosts), no_api, no_blob, lease), hear)
    print(json.dumps({"changes": changes, "megabytes": peak()}))


def no_api(host: str) -> Api:
    """Refuse to reach an API server."""
    raise AssertionError(f"no step on {host} needs the API server")


def no_blob(digest: str) -> BinaryIO:
    """Refuse to open a blob."""
    raise AssertionError(f"no step needs the blob {digest}")


if __name__ == "__main__":
    main()
