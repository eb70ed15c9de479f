"""A cluster that goes on, seen from hosts of it that stay: its API, its etcd, and who its control plane is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

from bootstrap import lock, spec
from bootstrap.api import Api
from bootstrap.connections import Connections
from bootstrap.errors import BootstrapError, HostsFailed
from bootstrap.etcd import membership
from bootstrap.etcd.membership import Quorum
from bootstrap.etcd.quorum import require as require_quorum
from bootstrap.gather import Request, gather
from bootstrap.run import ControlPlane, control_plane_of
from bootstrap.site import Node


@dataclass(frozen=True, slots=True)
class Standing:
    """A cluster that goes on. `inventory` has only hosts that stay; others may be connected, too."""

    inventory: spec.Inventory
    connections: Connections
    nodes: tuple[Node, ...]
    failures: Mapping[str, BootstrapError]
    control_plane: ControlPlane
    api: Api

    def ask_etcd(self) -> Quorum | None:
        """Ask its members, those that leave among them; None where others run etcd. Raises as `membership.ask`."""
        if self.inventory.cluster.etcd.external:
            return None
        asked = {name: host for name, host in self.connections.hosts.items() if self._may_have_etcd(name)}
        return membership.ask(asked, {name: why for name, why in self.failures.items() if self._may_have_etcd(name)})

    def serving(self, quorum: Quorum | None) -> tuple[Node, ...]:
        """Give the hosts that serve the API; one that was not reached has the address by which etcd knows it.

        A host of the inventory that is no member yet serves nothing.
        """
        found = (self._serving(host, quorum) for host in self.inventory.control_plane)
        return tuple(node for node in found if node)

    def _serving(self, host: spec.Host, quorum: Quorum | None) -> Node | None:
        seen = next((node for node in self.nodes if node.host == host), None)
        if quorum is None or not self.inventory.is_stacked:
            return seen or (Node(host, str(host.node_address)) if host.node_address else None)
        member = quorum.members.get(host.name)
        if member is None or member.learner:
            return None
        return seen or Node(host, str(host.node_address or urlsplit(member.peers[0]).hostname))

    def _may_have_etcd(self, name: str) -> bool:
        known = next((host for host in self.inventory.hosts if host.name == name), None)
        return known is None or known in self.inventory.etcd_members


@contextmanager
def seen_from(inventory: spec.Inventory, connections: Connections, lease: lock.Lease | None) -> Iterator[Standing]:
    """Look at the cluster of `inventory`; with `lease` all that are connected are locked first.

    Raises `HostsFailed` where no control-plane host is reached, or a host is locked, `QuorumLost` where etcd has none.
    """
    machines = [host for host in inventory.hosts if host.name in connections.hosts]
    staying = {host.name for host in machines}
    if lease:
        others = [lease.take(host) for name, host in connections.hosts.items() if name not in staying]
        for holding in others:
            holding.wait()
    request = Request(skip=("preflight",))
    gathered = gather(machines, connections.hosts, inventory, request, workflow="join", lease=lease)
    seen = [node for node in gathered.nodes if node.host.is_control_plane]
    failures = {**connections.failures, **gathered.failures}
    if not seen:
        names = [host.name for host in inventory.control_plane]
        raise HostsFailed({name: error for name, error in failures.items() if name in names})
    if not inventory.cluster.etcd.external:
        names = [host.name for host in inventory.etcd_members]
        require_quorum(
            {name: connections.hosts[name] for name in names if name in connections.hosts},
            {name: why for name, why in failures.items() if name in names},
        )
    control_plane = control_plane_of(inventory, connections.hosts, seen)
    with control_plane.api() as api:
        yield Standing(inventory, connections, gathered.nodes, failures, control_plane, api)
