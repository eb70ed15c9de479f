"""The control-plane hosts as members of one etcd: who is one, who is not yet, and what each is told of the others.

A member whose manifest lists several never starts a cluster of its own: without data it is refused by the others, or
waits for them. So a list of several stays as it is, and a list of one is extended when the cluster has grown.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from bootstrap import paths
from bootstrap.errors import ConfigError, HostError, NotSupported
from bootstrap.etcd.members import Member
from bootstrap.site import InitialCluster, Node
from bootstrap.spec import Cluster, Host

MANIFEST = f"{paths.MANIFESTS}/etcd.yaml"
_FLAG = re.compile(rb"--initial-cluster=([^\"'\s]+)")
_EXISTING = re.compile(rb"--initial-cluster-state=existing\b")
_SHARED = tuple(f"{paths.PKI}/{name}" for name in ("ca.crt", "front-proxy-ca.crt", "etcd/ca.crt", "sa.key"))


@dataclass(frozen=True, slots=True)
class Roster:
    """The control-plane hosts of the inventory, parted by what etcd counts them as.

    `nodes` are the members, in the inventory's order; `unfinished` are the names of those on which a run was ended
    before the rest of the control plane was there. `outside` are the names of hosts that are no members, or have no
    vote yet, `lost` (ids of members, 0 where etcd has none) those of them whose data, if any, are worth nothing, and
    `removed` those that were members once. `strangers` are members that the inventory does not have.
    """

    nodes: tuple[Node, ...]
    unfinished: tuple[str, ...] = ()
    outside: tuple[str, ...] = ()
    lost: Mapping[str, int] = field(default_factory=dict)
    removed: tuple[str, ...] = ()
    strangers: tuple[str, ...] = ()


def listed(manifest: bytes) -> Mapping[str, str]:
    """Give the members that an etcd manifest lists, as peer URLs by name; empty where it lists none."""
    found = _FLAG.findall(manifest)
    entries = found[-1].decode(errors="replace").split(",") if found else []
    return {name: url for name, _, url in (entry.partition("=") for entry in entries) if url}


def stands(nodes: Sequence[Node]) -> bool:
    """Say whether a control plane was made already, and these machines hold all that its other machines share."""
    return any(all(path in node.facts.files for path in (*_SHARED, MANIFEST, paths.ADMIN_CONF)) for node in nodes)


def initial_clusters(nodes: Sequence[Node], *, adopted: bool = False) -> dict[str, InitialCluster]:
    """Give, by host, the lists in manifests that stay as they are: those of several members.

    Where others made the cluster (`adopted`), a list of one stays, too, as long as its member has data: a member would
    have to be started anew for it. A control plane that joins is reason enough, and then it is extended.
    """
    found = {}
    for node in nodes:
        manifest = node.facts.files.get(MANIFEST, b"")
        members = listed(manifest)
        stays = len(members) > 1 or (adopted and node.facts.etcd_data)
        if stays and node.name in members:
            found[node.name] = InitialCluster(members, bool(_EXISTING.search(manifest)))
    return found


def joining_clusters(enrolled: Sequence[Member], newcomers: Mapping[str, str]) -> dict[str, InitialCluster]:
    """Give, by host, what each of `newcomers` (peer URLs by name) is told, if they join in this order.

    A new member only starts where its list is that of all members at that moment (`ValidateClusterAndAssignIDs`).
    """
    urls = set(newcomers.values())
    members = {member.name: member.peers[0] for member in enrolled if not urls & set(member.peers)}
    # Those that have a vote already are members to all of them.
    members |= {name: url for name, url in newcomers.items() if _votes(enrolled, url)}
    found = {}
    for name, url in newcomers.items():
        members[name] = url
        found[name] = InitialCluster(dict(members), existing=True)
    return found


def has_lost_data(member: Member, node: Node) -> bool:
    """Say whether a member with a vote ran on the host, and has nothing there any more.

    One that is forming the cluster with the others has told no client URL yet, and has no data to lose.
    """
    return not member.learner and member.has_started and not node.facts.etcd_data


def doubtful(machines: Sequence[Host], nodes: Sequence[Node]) -> bool:
    """Say whether manifests alone do not tell who is a member: etcd has to be asked."""
    names = {name for node in nodes for name in listed(node.facts.files.get(MANIFEST, b""))}
    return names != {machine.name for machine in machines} or any(
        not node.facts.etcd_data or not _is_finished(node) for node in nodes
    )


def settled(
    machines: Sequence[Host], nodes: Sequence[Node], cluster: Cluster, enrolled: Sequence[Member] = ()
) -> Roster:
    """Part `machines`, all of the control plane; `nodes` are those that were looked at, `enrolled` etcd's members.

    Without `enrolled`, manifests and data tell. A member that was not looked at has the address by which the other
    members know it. Raises `NotSupported` where members are known by other addresses, and `ConfigError` where data
    are left of a cluster that nothing tells about.
    """
    lists = {node.name: members for node in nodes if (members := listed(node.facts.files.get(MANIFEST, b"")))}
    if len(machines) > 1 or any(len(members) > 1 for members in lists.values()):
        _require_known_data(nodes, lists, cluster)
    known = {name: url for members in lists.values() for name, url in members.items()}
    known |= {member.name: member.peers[0] for member in enrolled if member.name}
    by_name = {node.name: node for node in nodes}
    names = {machine.name for machine in machines}
    if not stands(nodes):
        return Roster(tuple(_node(machine, by_name, known) for machine in machines))
    voters = {member.name: member for member in enrolled if not member.learner}
    everyone: list[Node] = []
    outside: list[str] = []
    removed: list[str] = []
    lost: dict[str, int] = {}
    for machine in machines:
        name, node = machine.name, by_name.get(machine.name)
        member = voters.get(name)
        if not enrolled:
            is_member = name in known or (node is not None and node.facts.etcd_data)
        else:
            is_member = member is not None and not (node and has_lost_data(member, node))
        if is_member:
            everyone.append(_node(machine, by_name, known))
            continue
        outside.append(name)
        if member is not None:
            lost[name] = member.id
        elif node is not None and node.facts.etcd_data and name not in {each.name for each in enrolled}:
            # A learner that has not started has no name yet, and no data.
            if _is_finished(node):
                removed.append(name)
            else:
                lost[name] = 0
    if len(machines) > 1:
        _require_same_addresses(everyone, known)
    return Roster(
        nodes=tuple(everyone),
        unfinished=tuple(node.name for node in everyone if node.name in by_name and not _is_finished(node)),
        outside=tuple(outside),
        lost=lost,
        removed=tuple(removed),
        strangers=tuple(str(member) for member in enrolled if member.name and member.name not in names),
    )


def _node(machine: Host, by_name: Mapping[str, Node], known: Mapping[str, str]) -> Node:
    if machine.name in by_name:
        return by_name[machine.name]
    address = str(machine.node_address or urlsplit(known.get(machine.name, "")).hostname or "")
    if not address:
        raise HostError(machine.name, "its nodeAddress is not in the inventory, and no other machine knows it")
    return Node(machine, address)


def _votes(enrolled: Sequence[Member], url: str) -> bool:
    return any(url in member.peers and not member.learner for member in enrolled)


def _is_finished(node: Node) -> bool:
    """Say whether all phases were done on a machine: the last one points the kubelet to its own certificate."""
    return paths.KUBELET_CLIENT_CERT.encode() in node.facts.files.get(paths.KUBELET_CONF, b"")


def _require_known_data(nodes: Sequence[Node], lists: Mapping[str, Mapping[str, str]], cluster: Cluster) -> None:
    strays = [node.name for node in nodes if node.facts.etcd_data and not lists]
    if strays:
        raise ConfigError(
            f"{', '.join(strays)}: {cluster.etcd.local.data_dir} holds the data of an etcd member, and no "
            f"control-plane host has {MANIFEST}, which tells of which cluster: put it back, or reset the hosts"
        )


def _require_same_addresses(nodes: Sequence[Node], known: Mapping[str, str]) -> None:
    addresses = {name: urlsplit(url).hostname or "" for name, url in known.items()}
    moved = [node for node in nodes if addresses.get(node.name, node.address) != node.address]
    if moved:
        lines = [f"  {node.name}: {addresses[node.name]} -> {node.address}" for node in moved]
        what = "This version does not change the addresses of control-plane hosts by which etcd's members know them:"
        raise NotSupported("\n".join([what, *lines, "Give the old ones as nodeAddress, or reset all hosts."]))
