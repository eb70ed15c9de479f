"""Where etcd runs: on the control plane's hosts, on hosts of its own, or with others; and that it stays there."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from bootstrap import members, paths
from bootstrap.errors import HostError, NotSupported
from bootstrap.etcd.members import Member
from bootstrap.members import Roster
from bootstrap.site import Node
from bootstrap.spec import Inventory

API_SERVER = f"{paths.MANIFESTS}/kube-apiserver.yaml"
_SERVERS = re.compile(rb"--etcd-servers=([^\"'\s]+)")
_LOCAL = (b"https://127.0.0.1:", b"https://[::1]:", b"https://localhost:")
_SHARED = (*(f"{paths.PKI}/{name}" for name in ("ca.crt", "front-proxy-ca.crt", "sa.key")), paths.ADMIN_CONF)
_ETCD_CA = f"{paths.PKI}/etcd/ca.crt"


def stands(inventory: Inventory, nodes: Sequence[Node]) -> bool:
    """Say whether a control plane was made already, and `nodes` hold all that its other machines share."""
    if inventory.is_stacked:
        return members.stands(nodes)
    masters = [node for node in nodes if node.host.is_control_plane]
    return any(_holds(node, (*_SHARED, _ETCD_CA)) for node in masters) and (
        not inventory.etcd_members
        or any(_holds(node, (_ETCD_CA, members.MANIFEST)) for node in nodes if node.host.is_etcd)
    )


def settled(inventory: Inventory, nodes: Sequence[Node], enrolled: Sequence[Member] = ()) -> Roster:
    """Part the hosts of the control plane and of etcd; `nodes` are those that were looked at, `enrolled` as there.

    Raises what `members.settled` raises for the members of etcd, `NotSupported` where etcd would move or have other
    hosts of its own, and `HostError` for a host that was not looked at and whose address nothing tells.
    """
    found = planes(inventory, nodes, enrolled)
    if inventory.is_stacked or not inventory.etcd_members:
        return found
    own = [node for node in nodes if node.host.is_etcd]
    _require_same_members(inventory, own)
    own_roster = members.settled(inventory.etcd_members, own, inventory.cluster)
    return replace(found, nodes=(*found.nodes, *own_roster.nodes))


def planes(inventory: Inventory, nodes: Sequence[Node], enrolled: Sequence[Member] = ()) -> Roster:
    """Part the hosts of the control plane; raises as `settled` does.

    Where etcd is elsewhere all of them belong to it: nothing of theirs has a vote.
    """
    require_same_place(inventory, nodes)
    if inventory.is_stacked:
        return members.settled(inventory.control_plane, nodes, inventory.cluster, enrolled)
    by_name = {node.name: node for node in nodes}
    found = []
    for machine in inventory.control_plane:
        if machine.name not in by_name and machine.node_address is None:
            raise HostError(machine.name, "it is not reached, and its nodeAddress is not in the inventory")
        found.append(by_name.get(machine.name) or Node(machine, str(machine.node_address)))
    return Roster(tuple(found))


def _require_same_members(inventory: Inventory, nodes: Sequence[Node]) -> None:
    lists = {node.name: members.listed(node.facts.files.get(members.MANIFEST, b"")) for node in nodes}
    known = {name for of in lists.values() for name in of}
    wanted = {machine.name for machine in inventory.etcd_members}
    if known and known != wanted:
        raise NotSupported(
            f"This version does not change the members of an etcd on hosts of its own: they are "
            f"{', '.join(sorted(known))}, and the inventory has {', '.join(sorted(wanted))}. Give the role etcd to the "
            "same hosts as before, or reset all hosts and begin anew"
        )


def require_same_place(inventory: Inventory, nodes: Sequence[Node]) -> None:
    """Refuse to take another etcd for a control plane that has one: all that it knows is there.

    Other endpoints of an etcd beside the control plane are the operator's to change. Raises `NotSupported`.
    """
    for node in nodes:
        servers = _SERVERS.findall(node.facts.files.get(API_SERVER, b""))
        local = bool(servers) and servers[-1].startswith(_LOCAL)
        if servers and local != inventory.is_stacked:
            here = "on the control plane's hosts" if local else f"elsewhere ({servers[-1].decode(errors='replace')})"
            there = "on the control plane's hosts" if inventory.is_stacked else "elsewhere"
            raise NotSupported(
                f"{node.name}: the cluster's etcd is {here}, and the inventory has it {there}. This version does not "
                "move it, and all of the cluster is in it: give the inventory the etcd that there is (cluster.etcd, "
                "hosts with the role etcd), or reset all hosts and begin anew"
            )


def _holds(node: Node, files: Iterable[str]) -> bool:
    return all(path in node.facts.files for path in files)
