"""Logging in to many hosts at once, over real sshd processes on this machine."""

from __future__ import annotations

import time

from benchmarks.fleet import fleet
from benchmarks.report import medians
from bootstrap.connections import connected

HOSTS = 100


def jump100(runs: int) -> None:
    """Log in to 100 hosts behind one jump host, all with OpenSSH's default MaxStartups, and count those lost."""
    seconds, lost = [], []
    with fleet(HOSTS, behind_jump=True) as machines:
        for _ in range(runs):
            began = time.monotonic()
            with connected(machines.inventory, machines.hosts) as connections:
                seconds.append(time.monotonic() - began)
                lost.append(float(len(connections.failures)))
    medians(f"{HOSTS} hosts behind one jump host", {"logged in": seconds})
    medians("hosts lost (goal: 0)", {"lost": lost}, "hosts")
