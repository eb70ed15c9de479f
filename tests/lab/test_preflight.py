"""Preflight on real machines, which are broken one way and another, and between them.

Costs: three bare machines of its own, about 30 s, and 1 min.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bootstrap import paths
from tests.lab.clusters import Cluster
from tests.lab.conftest import lab_of

OPEN = "nft delete table inet shut 2>/dev/null || true"
EVERY = ("cp1", "worker1", "worker2")
TREE = "find / -xdev \\( -path /proc -o -path /sys -o -path /run -o -path /tmp -o -path /var/log \\) -prune -o"


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with lab_of("preflight", machines=3) as lab:
        made = Cluster(lab, Path(tmp_path_factory.mktemp("preflight")))
        made.write_inventory(EVERY)
        yield made


def _found(machines: Cluster, *arguments: str, status: int = 0) -> dict[tuple[str, str], dict[str, Any]]:
    """Run preflight and give what it found, by host and check, but for what the lab's host and its load bring along."""
    ran = machines.kubestrap("preflight", "--output", "json", *arguments, status=status)
    lines = [json.loads(line) for line in ran.stdout.splitlines()]
    (result,) = [line["data"] for line in lines if line["event"] == "result"]
    return {
        (each["host"], each["check"]): each
        for each in result["problems"]
        if each["check"] not in {"CgroupV1", "EtcdDisk", "DiskSpace", "Swap"}
    }


def _state(machines: Cluster) -> list[str]:
    files = f"{TREE} -printf '%p %y %m %U %G %s %T@ %l\\n' | sort"
    units = "systemctl list-units --all --no-legend --plain | cut -d' ' -f1"
    return [machines.on(machine, f"{files}; {units}") for machine in EVERY]


def test_preflight_finds_nothing_on_fit_machines_and_changes_nothing(machines: Cluster) -> None:
    machines.kubestrap("preflight")
    before = _state(machines)
    ran = machines.kubestrap("preflight")
    assert "3 machines are fit for use." in ran.stderr
    assert ran.stdout == ""
    assert _found(machines) == {}
    after = _state(machines)
    for one, other in zip(before, after, strict=True):
        # Logging in touches the accounting of logins, and a folder of which a file was made and removed its time.
        changed = set(one.splitlines()) ^ set(other.splitlines())
        assert {line.split()[0] for line in changed if not line.startswith("session-")} <= {
            "/var/lib/etcd",
            "/var/lib/lastlog",
        }


def _drop(machines: Cluster, machine: str, *rules: str) -> None:
    chain = "add table inet shut; add chain inet shut in { type filter hook input priority 0; }"
    machines.on(machine, "nft -f -", stdin="\n".join([chain, *(f"add rule inet shut in {rule}" for rule in rules), ""]))


def test_f17_a_port_that_is_dropped_in_one_direction_for_one_pair_is_told_with_all_three_names(
    machines: Cluster,
) -> None:
    cp1, worker1 = (machines.lab.machine(name).address for name in ("cp1", "worker1"))
    _drop(machines, "cp1", f"ip saddr {worker1} tcp dport 6443 drop")
    try:
        ran = machines.kubestrap("preflight", status=4)
        (line,) = [line for line in ran.stderr.splitlines() if "Reach-" in line]
        assert line.startswith(f"  worker1: Reach-6443: worker1 does not reach TCP port 6443 of cp1 ({cp1}), ")
        ignored = _found(machines, "--ignore-preflight-errors", "Reach-6443")
        assert {key: each["level"] for key, each in ignored.items()} == {("worker1", "Reach-6443"): "warning"}
    finally:
        machines.on("cp1", OPEN)
    assert _found(machines) == {}


def test_f17_every_way_that_is_shut_is_told_at_once_and_no_other(machines: Cluster) -> None:
    cp1, worker1 = (machines.lab.machine(name).address for name in ("cp1", "worker1"))
    machines.on("cp1", "systemd-run --collect --unit=stranger socat TCP-LISTEN:6443,fork EXEC:true")
    try:
        _drop(
            machines,
            "worker2",
            f"ip saddr {cp1} tcp dport 10250 reject with icmp type host-prohibited",
            f"ip saddr {worker1} udp dport 8472 drop",
        )
        _drop(machines, "worker1", f"ip saddr {cp1} udp dport 8472 meta length > 1400 drop")
        _drop(machines, "cp1", f"ip saddr {worker1} tcp dport 6443 reject with tcp reset")
        found = _found(machines, status=4)
    finally:
        machines.on("cp1", "systemctl stop stranger")
        for machine in EVERY:
            machines.on(machine, OPEN)
    assert {key: each["level"] for key, each in found.items()} == {
        ("cp1", "Reach-10250"): "error",
        ("worker1", "Reach-8472"): "error",
        ("cp1", "PathMTU"): "warning",
        ("worker1", "Reach-6443"): "error",
        ("cp1", "Port-6443"): "error",
    }
    assert "TCP port 10250 of worker2" in found["cp1", "Reach-10250"]["what"]
    assert "No route to host" in found["cp1", "Reach-10250"]["what"]
    assert "UDP port 8472 of worker2" in found["worker1", "Reach-8472"]["what"]
    assert "do not reach worker1" in found["cp1", "PathMTU"]["what"]
    assert "refused on the way" in found["worker1", "Reach-6443"]["what"]
    assert "socat (pid " in found["cp1", "Port-6443"]["what"]


def test_f12_f13_f14_what_is_wrong_with_machines_is_told_at_once(machines: Cluster) -> None:
    address = machines.lab.machine("worker1").address
    broken = {
        "cp1": "mount -t tmpfs -o nr_inodes=1000,size=3g none /var/lib/etcd",
        "worker1": (
            "mount -t tmpfs -o ro none /opt; "
            f"ip address change {address}/24 dev eth0 valid_lft 36000 preferred_lft 36000; "
            "ip route add 10.100.0.0/16 dev eth0"
        ),
        # The machines share the clock of their host.
        "worker2": (
            'printf \'#!/bin/sh\\nexec /usr/bin/date -d "1 hour ago" "$@"\\n\' >/usr/local/bin/date; '
            "chmod 755 /usr/local/bin/date"
        ),
    }
    mended = {
        "cp1": "umount /var/lib/etcd",
        "worker1": (
            "umount /opt; ip route del 10.100.0.0/16; "
            f"ip address change {address}/24 dev eth0 valid_lft forever preferred_lft forever"
        ),
        "worker2": "rm /usr/local/bin/date; systemd-machine-id-setup",
    }
    identity = machines.on("worker1", "cat /etc/machine-id")
    own = machines.on("worker2", "cat /etc/machine-id")
    try:
        for machine, command in broken.items():
            machines.on(machine, command)
        machines.on("worker2", "cat >/etc/machine-id", stdin=identity)
        found = _found(machines, status=4)
    finally:
        machines.on("worker2", "cat >/etc/machine-id", stdin=own)
        for machine, command in mended.items():
            machines.on(machine, command)
    assert {key: each["level"] for key, each in found.items()} == {
        ("cp1", "Inodes"): "error",
        ("worker1", "DirWritable--opt"): "error",
        ("worker1", "DHCP"): "warning",
        ("worker1", "Routes"): "error",
        ("worker2", "Clock"): "error",
        ("worker1", "DistinctHosts"): "error",
        ("worker2", "DistinctHosts"): "error",
    }
    # What the round trip takes is no skew.
    assert re.search(r"its clock is 3[56]\d\d s behind", found["worker2", "Clock"]["what"])
    assert "10.100.0.0/16" in found["worker1", "Routes"]["what"]
    assert _found(machines) == {}


def test_f10_a_sudo_that_asks_or_is_missing_is_named_and_a_bare_home_does_not_matter(machines: Cluster) -> None:
    sudoers = "/etc/sudoers.d/ops"
    broken = {
        "cp1": "mount -t tmpfs -o noexec none /tmp; chmod 555 /home/ops; echo 'echo welcome' >>/home/ops/.bashrc",
        "worker1": f"sed -i s/NOPASSWD:// {sudoers}",
        "worker2": "mv /usr/bin/sudo /usr/bin/sudo.away",
    }
    mended = {
        "cp1": "umount /tmp; chmod 755 /home/ops; sed -i /welcome/d /home/ops/.bashrc",
        "worker1": f"sed -i 's/ALL$/NOPASSWD: ALL/' {sudoers}",
        "worker2": "mv /usr/bin/sudo.away /usr/bin/sudo",
    }
    machines.write_inventory(EVERY, lambda data: data["ssh"].update(user="ops"))
    try:
        for machine, command in broken.items():
            machines.on(machine, command)
        ran = machines.kubestrap("preflight", status=8)
    finally:
        for machine, command in mended.items():
            machines.on(machine, command)
        said = machines.kubestrap("preflight").stderr
        machines.write_inventory(EVERY)
    assert "worker1: sudo wants a password of user ops" in ran.stderr
    assert "worker2: there is no sudo on the machine" in ran.stderr
    assert "cp1: " not in ran.stderr.replace("cp1: CgroupV1", "").replace("cp1: EtcdDisk", "")
    assert "3 machines are fit for use." in said


def test_f18_what_another_cluster_left_is_refused_and_by_force_moved_aside(machines: Cluster) -> None:
    left = (
        paths.MANIFESTS + "/foreign.yaml",
        paths.ADMIN_CONF,
        "/var/lib/etcd/member/wal",
        paths.KUBELET + "/config.yaml",
    )
    machines.on("cp1", f"for path in {' '.join(left)}; do mkdir -p ${{path%/*}}; echo theirs >$path; done")
    refused = machines.kubestrap("init", "--until", "prepare/modules", status=4)
    assert all(path.removesuffix("/member/wal").removesuffix("/config.yaml") in refused.stderr for path in left)
    assert "--force" in refused.stderr
    looked = machines.kubestrap("init", "--until", "prepare/modules", "--force", "--dry-run")
    assert "--force moves it aside" in looked.stderr
    assert machines.on("cp1", f"cat {' '.join(left)}").split() == ["theirs"] * 4

    forced = machines.kubestrap("init", "--until", "prepare/modules", "--force")
    folder = machines.on("cp1", f"ls -d {paths.ASIDE}/* | tail -n 1").strip()
    assert f"{left[0]} was moved to {folder}{left[0]}" in forced.stderr
    assert machines.on("cp1", f"cat {' '.join(folder + path for path in left)}").split() == ["theirs"] * 4
    assert machines.on("cp1", f"stat -c %a {folder}").strip() == "700"
    assert machines.on("cp1", f"find {' '.join(left)} 2>/dev/null || true") == ""
    again = machines.kubestrap("init", "--until", "prepare/modules", "--force")
    assert "moved" not in again.stderr
