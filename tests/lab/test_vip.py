"""A virtual address for three control planes: refused where somebody has it, held, lost with its holder, taken over.

The tests go on from each other, on machines of their own. Costs about 2.5 min.
"""

from __future__ import annotations

import itertools
import re
import signal
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from bootstrap import paths
from bootstrap.lab import machines
from tests.lab.clusters import KUBECTL, Cluster, changes
from tests.lab.conftest import lab_of

MASTERS = ("cp1", "cp2", "cp3")
EVERY = (*MASTERS, "worker1")
LOCAL = (
    "keepalived,virtual-address,local-proxy,endpoint-name,endpoint-entry,kubelet-kubeconfig,certificates,ports,"
    "port-owners,images,manifest-strangers,kubeadm-config,cluster-info,kube-proxy,nodes"
)
ASK = "/usr/local/bin/kubectl --kubeconfig /etc/kubernetes/kubelet.conf --request-timeout 2s get --raw /readyz"


@pytest.fixture(scope="module")
def trio(prepared: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Machines that are prepared, and nothing more."""
    with lab_of("vip", machines=4, control_planes=3, snapshot=prepared) as lab:
        cluster = Cluster(lab, tmp_path_factory.mktemp("vip"))

        def virtual(data: dict[str, Any]) -> None:
            data["cluster"]["endpoint"] = {"kind": "vip", "address": address(cluster)}

        cluster.write_inventory(EVERY, virtual)
        yield cluster


def address(cluster: Cluster) -> str:
    return str(cluster.lab.subnet[200])


def holders(cluster: Cluster, among: tuple[str, ...] = MASTERS) -> list[str]:
    shown = {name: cluster.on(name, "ip -o -4 addr show") for name in among}
    return [name for name, text in shown.items() if f" {address(cluster)}/32 " in text]


def settled_holders(cluster: Cluster) -> list[str]:
    """Say who holds the address once `verify` is content."""
    cluster.kubestrap("verify", "--only", "keepalived,virtual-address")
    return holders(cluster)


def test_an_address_that_somebody_has_and_a_way_without_vrrp_are_refused_before_anything_is_written(
    trio: Cluster,
) -> None:
    trio.on("worker1", f"ip addr add {address(trio)}/24 dev eth0")
    trio.on("cp2", "iptables -A INPUT -p 112 -j DROP")
    before = {name: trio.on(name, f"find /etc -type f | xargs cksum | sort; cat {paths.RECEIPT}") for name in MASTERS}
    told = trio.kubestrap("init", status=4).stderr
    mac = trio.on("worker1", "cat /sys/class/net/eth0/address").strip()
    for name in MASTERS:
        assert re.search(rf"{name}\b.*another machine \({mac}\) has the virtual address {address(trio)} already", told)
    for name in ("cp1", "cp3"):
        assert re.search(rf"{name}\b.*keepalived's messages .* do not get to cp2", told)
    assert "do not get to cp1" not in told
    after = {name: trio.on(name, f"find /etc -type f | xargs cksum | sort; cat {paths.RECEIPT}") for name in MASTERS}
    assert after == before
    trio.on("worker1", f"ip addr del {address(trio)}/24 dev eth0")
    trio.on("cp2", "iptables -D INPUT -p 112 -j DROP")


def test_three_hold_it_in_turn_also_after_a_run_that_was_killed(trio: Cluster) -> None:
    run = trio.start("init")
    assert run.stderr is not None
    for line in run.stderr:
        if "wait-control-plane" in line:
            break
    run.send_signal(signal.SIGKILL)
    run.wait()
    trio.kubestrap("init")
    trio.kubestrap("join")
    names = " ".join(f"node/{name}" for name in EVERY)
    trio.on("cp1", f"{KUBECTL} wait --for=condition=Ready --timeout=300s {names}", seconds=360)
    assert len(holders(trio)) == 1
    for master in MASTERS:
        log = f"/var/log/pods/kube-system_kubestrap-vip-{master}_*/kubestrap-vip/*.log"
        trio.on(master, f"timeout 60 sh -c 'until grep -q \"priority from 100 to 150\" {log}; do sleep 1; done'")
    name = trio.on("worker1", "sed -n 's,^ *server: https://\\(.*\\):8443$,\\1,p' /etc/kubernetes/kubelet.conf").strip()
    assert trio.on("worker1", f"getent ahostsv4 {name}").startswith(f"{address(trio)} ")
    assert f"server: https://{address(trio)}:8443" in trio.kubestrap("kubeconfig").stdout
    trio.kubestrap("verify", "--only", LOCAL)


def test_a_second_run_changes_nothing(trio: Cluster) -> None:
    trio.kubestrap("verify", "--only", "system-pods,coredns,kube-proxy,flannel")
    before = {machine: trio.containers(machine) for machine in EVERY}
    held = holders(trio)
    assert changes(trio.kubestrap("init").stderr) == []
    assert changes(trio.kubestrap("join").stderr) == []
    assert {machine: trio.containers(machine) for machine in EVERY} == before
    assert holders(trio) == held


def test_a_killed_keepalived_a_stale_peer_and_a_second_holder(trio: Cluster) -> None:
    (holder,) = holders(trio)
    before = trio.on(holder, "pgrep -x -o keepalived").strip()
    trio.on(holder, f"kill -s KILL {before}")
    trio.on(holder, f"timeout 60 sh -c 'until pgrep -x keepalived | grep -qvx {before}; do sleep 0.5; done'")
    (holder,) = settled_holders(trio)
    other = next(name for name in MASTERS if name != holder)
    third = next(name for name in MASTERS if name not in {holder, other})
    trio.on(other, f"sed -i '/# {third}$/d' {paths.VIP_CONFIG}")
    trio.on(other, f"ip addr add {address(trio)}/32 dev eth0")
    told = trio.kubestrap("verify", "--only", "keepalived,virtual-address", status=1).stdout
    assert f"{paths.VIP_CONFIG} lacks {third}: run `kubestrap init`" in told
    assert f"hold {address(trio)} at once" in told
    assert [line.split(":")[0] for line in changes(trio.kubestrap("init").stderr)] == [paths.VIP_CONFIG]
    trio.on(other, f"ip addr del {address(trio)}/32 dev eth0")
    trio.kubestrap("verify", "--only", "keepalived,virtual-address")


def test_f20_the_holder_loses_its_power_while_a_client_asks(trio: Cluster) -> None:
    (holder,) = holders(trio)
    others = tuple(name for name in MASTERS if name != holder)
    client = f"(while sleep 0.1; do {ASK} >/dev/null 2>&1 && date +%s.%N; done >/tmp/answers) >/dev/null 2>&1 & echo $!"
    pid = trio.on("worker1", client).strip()
    trio.on("worker1", "sleep 3")
    machines.cut_power(trio.lab.name, holder)
    trio.on("worker1", "sleep 10")
    trio.on("worker1", f"kill {pid}")
    times = [float(line) for line in trio.on("worker1", "cat /tmp/answers").split()]
    gap = max(after - before for before, after in itertools.pairwise(times))
    sys.stderr.write(f"longest gap seen by a client while the virtual address's holder was lost: {gap:.1f} s\n")
    assert float(trio.on("worker1", "date +%s.%N")) - times[-1] < 30
    (taken,) = holders(trio, others)
    assert taken != holder
    # Every command does with the other two, and tells of the one that is lost.
    trio.kubestrap("token", "list")
    joined = trio.kubestrap("join")
    assert f"{holder}: " in joined.stderr
    assert changes(joined.stderr) == []
    told = trio.kubestrap("verify", "--only", "virtual-address,endpoint-name", status=1).stdout
    assert "virtual address" not in told


def test_f19_one_that_comes_back_takes_nothing(trio: Cluster) -> None:
    (lost,) = (name for name in MASTERS if trio.ssh(name, "true").returncode)
    (holder,) = holders(trio, tuple(name for name in MASTERS if name != lost))
    machines.start(trio.lab.name, lost)
    machines.wait(trio.lab.name, [trio.lab.machine(lost)])
    asked = "timeout 120 sh -c 'until curl --silent --fail http://127.0.0.1:8404/readyz; do sleep 1; done'"
    trio.on(lost, asked, seconds=150)
    trio.kubestrap("verify", "--only", "keepalived,virtual-address,api-server-health,local-proxy")
    assert holders(trio) == [holder]
    assert changes(trio.kubestrap("init").stderr) == []


def test_reset_leaves_the_address_to_nobody(trio: Cluster) -> None:
    trio.kubestrap("reset", "--yes")
    assert holders(trio) == []
    for name in MASTERS:
        assert trio.on(name, "ls -A /etc/kubernetes 2>/dev/null || true") == ""
