"""A large file to one host: by kubestrap's step for the programs of a bundle, and by `scp`."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

from benchmarks.fleet import STATE, Fleet, fleet
from benchmarks.processes import ran
from benchmarks.report import medians, ratio
from benchmarks.unit import no_api
from bootstrap import plan
from bootstrap.connections import connected
from bootstrap.execute import Means, execute
from bootstrap.parallel import raise_failures
from bootstrap.plan import Phase
from bootstrap.site import Contents, Node, Site
from bootstrap.steps import Binary

BYTES = 64 * 1024**2


def send(runs: int, size: int = BYTES) -> None:
    """Bring 64 MiB that it does not have to a host, login included: kubestrap, which checks the digest there; scp."""
    times: dict[str, list[float]] = {"kubestrap": [], "scp": []}
    with fleet(1) as machines:
        source = machines.folder / "source"
        for number in range(runs):
            source.write_bytes(os.urandom(size))
            times["kubestrap"].append(_kubestrap(machines, source, f"{STATE}/kubestrap-{number}"))
            times["scp"].append(_scp(machines, source, f"{STATE}/scp-{number}"))
    medians(f"{size / 1024**2:.0f} MiB to a host", times)
    ratio("kubestrap / scp", times["kubestrap"], times["scp"], 1.0)


def _kubestrap(machines: Fleet, source: Path, target: str) -> float:
    (host,) = machines.hosts
    data = source.read_bytes()
    step = Binary(target, hashlib.sha256(data).hexdigest(), len(data))
    nodes = (Node(host, str(host.address)),)
    site = Site(machines.inventory.cluster, nodes, Contents("", "", (), ()))
    todo = plan.build([Phase("send", "all", lambda _, __: iter([step]))], site, nodes=nodes)
    began = time.monotonic()
    with connected(machines.inventory, machines.hosts) as connections:
        raise_failures(connections.failures, {})
        execute(todo, Means(connections.hosts, no_api, lambda _: source.open("rb")), lambda _: None)
    return time.monotonic() - began


def _scp(machines: Fleet, source: Path, target: str) -> float:
    (host,) = machines.hosts
    settings = {
        "IdentityFile": machines.key,
        "IdentityAgent": "none",
        "UserKnownHostsFile": machines.known_hosts,
        "StrictHostKeyChecking": "yes",
    }
    options = ["-q", "-F", "/dev/null", *(f"-o{name}={value}" for name, value in settings.items())]
    return ran("scp", *options, "-P", str(host.ssh.port), source, f"root@{host.address}:{target}", limit=600).seconds
