"""The control-plane hosts as members of one etcd: who they are by their manifests, so that no second one is formed.

A member whose manifest lists all members never starts a cluster of its own: without data it is refused by the
others, or waits for them. So a manifest is only ever written where it lists those who formed the cluster.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from bootstrap import paths
from bootstrap.errors import ConfigError, HostError, NotSupported
from bootstrap.site import Node
from bootstrap.spec import Cluster, Host

MANIFEST = f"{paths.MANIFESTS}/etcd.yaml"
_FLAG = re.compile(rb"--initial-cluster=([^\"'\s]+)")
_SHARED = tuple(f"{paths.PKI}/{name}" for name in ("ca.crt", "front-proxy-ca.crt", "etcd/ca.crt", "sa.key"))


def listed(manifest: bytes) -> Mapping[str, str]:
    """Give the members that an etcd manifest lists, as peer URLs by name; empty where it lists none."""
    found = _FLAG.findall(manifest)
    entries = found[-1].decode(errors="replace").split(",") if found else []
    return {name: url for name, _, url in (entry.partition("=") for entry in entries) if url}


def stands(nodes: Sequence[Node]) -> bool:
    """Say whether a control plane was made already, and these machines hold all that its other machines share."""
    return any(all(path in node.facts.files for path in (*_SHARED, MANIFEST, paths.ADMIN_CONF)) for node in nodes)


def settled(machines: Sequence[Host], nodes: Sequence[Node], cluster: Cluster) -> tuple[Node, ...]:
    """Give a node for each of `machines`, all of the control plane; `nodes` are those that were looked at.

    One that was not has the address by which the other members know it.

    Raises `NotSupported` where the members are others than `machines`, or are known by other addresses, and
    `ConfigError` where data are left of a cluster that nothing tells about.
    """
    by_name = {node.name: node for node in nodes}
    lists = {node.name: members for node in nodes if (members := listed(node.facts.files.get(MANIFEST, b"")))}
    names = {machine.name for machine in machines}
    if len(machines) > 1 or any(len(members) > 1 for members in lists.values()):
        _require_same_members(lists, names)
        _require_known_data(nodes, lists, cluster)
    known = {name: urlsplit(url).hostname or "" for members in lists.values() for name, url in members.items()}
    if len(machines) > 1:
        _require_same_addresses(nodes, known)
    found = []
    for machine in machines:
        address = str(machine.node_address or known.get(machine.name, ""))
        if machine.name not in by_name and not address:
            raise HostError(machine.name, "its nodeAddress is not in the inventory, and no other machine knows it")
        found.append(by_name.get(machine.name) or Node(machine, address))
    return tuple(found)


def _require_same_members(lists: Mapping[str, Mapping[str, str]], names: set[str]) -> None:
    # All lists together: one that kubeadm grew has shorter ones on its first machines.
    if lists and {name for of in lists.values() for name in of} != names:
        others = [f"  {host}: its members are {', '.join(of)}" for host, of in lists.items()]
        lines = [
            "This version does not change the members of a control plane that stands:",
            *others,
            f"  the inventory has {', '.join(sorted(names))}",
            "Give the role control-plane to the same hosts as before, or reset all hosts and begin anew.",
        ]
        raise NotSupported("\n".join(lines))


def _require_known_data(nodes: Sequence[Node], lists: Mapping[str, Mapping[str, str]], cluster: Cluster) -> None:
    strays = [node.name for node in nodes if node.facts.etcd_data and not lists]
    if strays:
        raise ConfigError(
            f"{', '.join(strays)}: {cluster.etcd.local.data_dir} holds the data of an etcd member, and no "
            f"control-plane host has {MANIFEST}, which tells of which cluster: put it back, or reset the hosts"
        )


def _require_same_addresses(nodes: Sequence[Node], known: Mapping[str, str]) -> None:
    moved = [node for node in nodes if known.get(node.name, node.address) != node.address]
    if moved:
        lines = [f"  {node.name}: {known[node.name]} -> {node.address}" for node in moved]
        what = "This version does not change the addresses of control-plane hosts by which etcd's members know them:"
        raise NotSupported("\n".join([what, *lines, "Give the old ones as nodeAddress, or reset all hosts."]))
