"""How machines are asked for their part of a cluster's status: all at once, and each wait has a limit."""

from __future__ import annotations

import datetime
import json
import shlex
from importlib import resources
from typing import Any

from bootstrap import paths
from bootstrap.connections import Connections
from bootstrap.errors import BootstrapError, HostError
from bootstrap.etcd import asking, members
from bootstrap.parallel import attempt, pool, settle
from bootstrap.spec import Inventory
from bootstrap.status import cluster
from bootstrap.status.cluster import ClusterStatus, EtcdMember, Machine
from bootstrap.transport.base import Host

SECONDS = 30.0
"""The limit of each question to a machine."""
_KUBECTL = f"{paths.BINARIES}/kubectl"
_LISTS = (
    "/api/v1/nodes",
    "/api/v1/namespaces/kube-system/pods?labelSelector=tier%3Dcontrol-plane",
    "/apis/apps/v1/namespaces/kube-system/daemonsets",
    "/apis/apps/v1/namespaces/kube-system/deployments",
    "/apis/apps/v1/namespaces/kube-flannel/daemonsets",
)
_API_ERROR = 3


def look(inventory: Inventory, connections: Connections) -> tuple[ClusterStatus, dict[str, BootstrapError]]:
    """Ask every machine that is connected, and the API on a control plane that is ready.

    The second value is why some hosts could not be asked; the status tells it, too. Two round trips, etcd's beside the
    first. Keys stay on the machines: kubectl there reads them.
    """
    now = datetime.datetime.now(datetime.UTC)
    by_name = {host.name: host for host in inventory.hosts}
    script = resources.files("bootstrap.status").joinpath("machine.sh").read_bytes()

    def ask(name: str) -> Machine:
        host = by_name[name]
        port = str(inventory.cluster.bind_port) if host.is_control_plane else ""
        conf = paths.ADMIN_CONF if host.is_control_plane else paths.KUBELET_CONF
        command = shlex.join(["sh", "-s", _KUBECTL, port, conf, *cluster.certificate_paths(host)])
        result = connections.hosts[name].run(command, stdin=script, seconds=SECONDS)
        if result.status:
            said = result.stderr.decode(errors="replace").strip() or "nothing"
            raise HostError(name, f"the machine could not be looked at (status {result.status}); it said: {said}")
        return cluster.machine(name, result.stdout.decode(errors="replace"), now)

    enlisted = {host.name for host in inventory.etcd_members}
    with pool(1) as workers:
        etcd = workers.submit(
            asking.look,
            {name: host for name, host in connections.hosts.items() if name in enlisted},
            {name: error for name, error in connections.failures.items() if name in enlisted},
        )
        machines, failed = attempt(list(connections.hosts), ask)
        failures = {**connections.failures, **failed}
        ready = [name for name, machine in machines.items() if machine.api == "ok"]
        lists, unasked = _ask_api(connections.hosts[ready[0]], inventory) if ready else (None, "no API server is ready")
        settle(etcd)
    seen, silent = etcd.result()
    hosts = tuple(cluster.hosts(inventory, machines, failures, lists[0]["items"] if lists else None))
    components = tuple(cluster.components(*lists[1:])) if lists else ()
    certificates = tuple(each for machine in machines.values() for each in machine.certificates)
    told = [
        *cluster.problems(hosts, components, certificates, unasked),
        *(str(error) for name, error in silent.items() if name not in failures),
        *members.warnings(seen),
    ]
    status = ClusterStatus(
        inventory.cluster.name,
        inventory.cluster.kubernetes_version,
        inventory.cluster.control_plane_endpoint,
        cluster.stamp(now),
        hosts,
        components,
        tuple(_member(seen, host.name) for host in inventory.etcd_members),
        certificates,
        tuple(told),
    )
    return status, failures


def _ask_api(host: Host, inventory: Inventory) -> tuple[list[Any] | None, str]:
    """Give the answers to `_LISTS`, or None and why."""
    here = f"--server https://127.0.0.1:{inventory.cluster.bind_port} --tls-server-name kubernetes"
    get = f"{_KUBECTL} --kubeconfig {paths.ADMIN_CONF} {here} --request-timeout 20s get --raw"
    listed = " ".join(shlex.quote(path) for path in _LISTS)
    command = f'for path in {listed}; do timeout 25 {get} "$path" || exit {_API_ERROR}; echo; done'
    try:
        result = host.run(command, seconds=SECONDS)
    except BootstrapError as error:
        return None, str(error)
    if result.status:
        lines = result.stderr.decode(errors="replace").split("\n")
        return None, next((line for line in reversed(lines) if line.strip()), f"kubectl ended with {result.status}")
    try:
        answers = [json.loads(line) for line in result.stdout.splitlines() if line.strip()]
    except ValueError as error:
        return None, f"what it answered is no JSON ({error})"
    return (answers, "") if len(answers) == len(_LISTS) else (None, "its answers are not complete")


def _member(seen: members.Seen, host: str) -> EtcdMember:
    said = seen.statuses.get(host)
    if said is None:
        return EtcdMember(host, "no answer")
    role = "learner" if said.learner else "leader" if said.leads else "follower" if said.leader else "no leader"
    return EtcdMember(seen.name(said.id), role, said.version, said.size, said.quota, tuple(said.raised))
