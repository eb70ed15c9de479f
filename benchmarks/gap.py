"""What a client sees when a control-plane machine loses its power, with each kind of endpoint."""

from __future__ import annotations

import io
import itertools
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks.machines import KUBECTL, Machines, prepared, say
from benchmarks.report import medians
from bootstrap.bundle import debian
from bootstrap.bundle.oci import write_layer
from bootstrap.lab import machines as power
from bootstrap.spec import Inventory

KINDS = ("local-proxy", "vip", "external")
GOAL = 5.0
_BEFORE, _AFTER = 3, 15
_ASK = "curl --silent --fail --max-time 2 --cacert /etc/kubernetes/pki/ca.crt {url}/readyz"
_BALANCER = """\
defaults
    mode tcp
    timeout connect 1s
    timeout client 1h
    timeout server 1h
listen api
    bind *:6443
    balance roundrobin
    option redispatch 1
    option httpchk GET /readyz
    default-server check check-ssl verify none inter 1s fall 2 rise 2 on-marked-down shutdown-sessions
"""


def gap(runs: int) -> None:
    """Cut a control plane's power while a client asks ten times a second, with each kind of endpoint."""
    gaps: dict[str, list[float]] = {kind: [] for kind in KINDS}
    with prepared(5) as machines:
        names = [machine.name for machine in machines.lab.machines]
        _balance(machines, names[4], names[:3])
        for number in range(runs):
            for kind in KINDS:
                inventory = _form(machines, names, kind)
                gaps[kind].append(_longest(machines, names, inventory))
            say(
                f"run {number + 1} of {runs}: " + ", ".join(f"{kind} {found[-1]:.1f} s" for kind, found in gaps.items())
            )
    medians("longest gap between two answers, as a control plane of three loses its power", gaps)
    for kind, found in gaps.items():
        print(f"{kind}: {max(found):.1f} s at most (goal: at most {GOAL:g} s)")


def _balance(machines: Machines, balancer: str, masters: Sequence[str]) -> None:
    """Run a load balancer on a machine that is in no cluster: the HAProxy of this host, with its libraries."""
    layer = io.BytesIO()
    write_layer([*debian.layer("haproxy")], layer)
    servers = [f"    server {name} {machines.lab.machine(name).address}:6443\n" for name in masters]
    machines.ssh(balancer, "mkdir -p /opt/balancer && tar -x -C /opt/balancer", layer.getvalue())
    machines.ssh(balancer, "cat > /opt/balancer/haproxy.cfg", (_BALANCER + "".join(servers)).encode())
    machines.ssh(balancer, "systemd-run --unit balancer chroot /opt/balancer haproxy -db -f /haproxy.cfg")


def _form(machines: Machines, names: Sequence[str], kind: str) -> Inventory:
    """Make a new cluster of three control planes and a worker, with this kind of endpoint."""
    virtual = str(machines.lab.subnet[200])
    more = {"vip": {"address": virtual}, "external": {"name": machines.lab.machine(names[4]).address}}

    def change(data: dict[str, Any]) -> None:
        for host in data["hosts"][:3]:
            host["roles"] = ["control-plane"]
        data["cluster"]["endpoint"] = {"kind": kind, **more.get(kind, {})}

    def wipe(name: str) -> None:
        machines.wipe_here(name)
        machines.ssh(name, f"ip addr del {virtual}/32 dev eth0 2>/dev/null || true")

    with ThreadPoolExecutor(4) as workers:
        list(workers.map(wipe, names[:4]))
    inventory = machines.choose(names[:4], change)
    machines.kubestrap("apply")
    ready = " ".join(f"node/{name}" for name in names[:4])
    machines.ssh(names[0], f"{KUBECTL} wait --for=condition=Ready --timeout=300s {ready}")
    time.sleep(10)  # what was started may settle
    return inventory


def _longest(machines: Machines, names: Sequence[str], inventory: Inventory) -> float:
    """Cut the power of who holds the virtual address, or of the first, and give the client's longest wait."""
    lab, worker, virtual = machines.lab, names[3], inventory.cluster.virtual_address
    held = [name for name in names[:3] if f" {virtual}/32 " in machines.output(name, "ip -o addr show")]
    lost = (held if virtual else names)[0]
    ask = _ASK.format(url=f"https://{inventory.cluster.control_plane_endpoint}")
    loop = f"while sleep 0.1; do {ask} >/dev/null && date +%s.%N; done >/tmp/answers"
    asking = machines.output(worker, f"({loop}) >/dev/null 2>&1 & echo $!").strip()
    time.sleep(_BEFORE)
    power.cut_power(lab.name, lost)
    time.sleep(_AFTER)
    machines.ssh(worker, f"kill {asking}")
    times = [float(line) for line in machines.output(worker, "cat /tmp/answers").split()]
    times.append(float(machines.output(worker, "date +%s.%N")))  # where no answer came any more
    power.start(lab.name, lost)
    power.wait(lab.name, [lab.machine(lost)])
    return max(after - before for before, after in itertools.pairwise(times))
