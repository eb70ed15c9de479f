"""Hosts that are in a cluster and not in the inventory any more: its Nodes, and members of its etcd."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from bootstrap import spec
from bootstrap.connections import connected
from bootstrap.departure import is_ready
from bootstrap.etcd.members import Member
from bootstrap.etcd.membership import Quorum
from bootstrap.standing import seen_from

_ROLES = "node-role.kubernetes.io/"


@dataclass(frozen=True, slots=True)
class Stray:
    """A host that only the cluster has. `node` and `etcd` say in which state; `created` is the Node's time (UTC)."""

    name: str
    role: str
    node: str
    etcd: str
    created: str


def strays(inventory: spec.Inventory) -> list[Stray]:
    """Ask the cluster of `inventory` for them, by name. Nothing is changed. Raises as `standing.seen_from` does."""
    with (
        connected(inventory, [host for host in inventory.hosts if not host.is_worker]) as connections,
        seen_from(inventory, connections, None) as standing,
    ):
        return compare(inventory, standing.api.list("v1", "Node"), standing.ask_etcd())


def compare(inventory: spec.Inventory, nodes: list[dict[str, Any]], quorum: Quorum | None) -> list[Stray]:
    """Give those of `nodes` and of the members that `inventory` does not have."""
    known = {host.name for host in inventory.hosts}
    by_name = {node["metadata"]["name"]: node for node in nodes}
    members = {
        name: member
        for name, member in (quorum.members if quorum else {}).items()
        if member.name or _is_far(inventory, member)
    }
    return [
        Stray(
            name,
            _role(by_name.get(name), members.get(name)),
            _state(by_name.get(name)),
            _etcd(members.get(name)),
            (by_name.get(name) or {}).get("metadata", {}).get("creationTimestamp", ""),
        )
        for name in sorted({*by_name, *members} - known)
    ]


def _is_far(inventory: spec.Inventory, member: Member) -> bool:
    """Say whether a member that has not started, and has no name, is on no host of the inventory."""
    addresses = {str(address) for host in inventory.hosts for address in (host.address, host.node_address)}
    return not addresses & {urlsplit(url).hostname for url in member.peers}


def _role(node: dict[str, Any] | None, member: Member | None) -> str:
    labels = ((node or {}).get("metadata") or {}).get("labels") or {}
    roles = [label.removeprefix(_ROLES) for label in labels if label.startswith(_ROLES)]
    return ",".join(sorted(roles)) or ("etcd" if member and node is None else "-")


def _state(node: dict[str, Any] | None) -> str:
    return "none" if node is None else "Ready" if is_ready(node) else "NotReady"


def _etcd(member: Member | None) -> str:
    return "-" if member is None else "learner" if member.learner else "member"
