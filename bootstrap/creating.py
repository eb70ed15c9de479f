"""A first inventory, made from nothing but addresses: what the machines say of themselves, for their owner to read."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from bootstrap import consistency, inventory, paths, survey
from bootstrap.addresses import candidates
from bootstrap.connections import connected
from bootstrap.errors import UsageError
from bootstrap.importing.draft import Draft, Imported
from bootstrap.parallel import attempt, raise_failures
from bootstrap.site import Facts
from bootstrap.spec import Inventory, Networking
from bootstrap.transport.openssh_config import split_server
from bootstrap.values import ip_address, is_dns_name

COMMAND = "kubestrap config create"


def given(servers: Sequence[str], *, identity_file: str = "", proxy_jump: str = "") -> Inventory:
    """Give an inventory by which to log in to `servers`, each `[user@]address[:port]`; the first one is of both roles.

    Each host is named by its address, for messages. Raises `UsageError` for what is no such server, or is given twice,
    and `InventoryError` for what no inventory may hold.
    """
    if wrong := [repr(server) for server in servers if split_server(server) is None]:
        raise UsageError(f"no server: {', '.join(wrong)}; write [user@]address[:port], an IPv6 address in brackets")
    hosts = []
    for user, address, port in filter(None, map(split_server, servers)):
        login = {key: value for key, value in (("user", user), ("port", port)) if value}
        name = address.lower() if is_dns_name(address.lower()) else f"host-{re.sub('[^0-9a-z]+', '-', address.lower())}"
        hosts.append({"name": name.strip("-"), "address": address, "roles": ["control-plane", "worker"], "ssh": login})
    if twice := {server for server in servers if servers.count(server) > 1}:
        raise UsageError(f"given more than once: {', '.join(sorted(twice))}")
    ssh = {key: value for key, value in (("identityFile", identity_file), ("proxyJump", proxy_jump)) if value}
    data = {"apiVersion": consistency.API_VERSION, "kind": consistency.KIND, "ssh": ssh, "hosts": hosts}
    return inventory.read(json.dumps(data).encode(), name="the command line", folder=Path.cwd())


def look(servers: Inventory) -> dict[str, Facts]:
    """Ask all machines what they are, changing nothing. Raises `HostsFailed` with every one that cannot be asked."""
    with connected(servers, servers.hosts) as connections:
        found, failures = attempt(
            list(connections.hosts), lambda name: survey.look(connections.hosts[name], (paths.KUBELET_CONF,))
        )
        raise_failures({**connections.failures, **failures}, {})
    return {host.name: found[host.name] for host in servers.hosts}


def create(servers: Inventory, facts: Mapping[str, Facts], *, control_planes: int) -> Imported:
    """Make an inventory of the machines: the first `control_planes` of them as such, all others as workers.

    Where a machine has several addresses, the one that it is logged in to by is written as its nodeAddress, if it is
    among them; else none is, and the choice is told. Raises `UsageError` for more control planes than machines, and
    `ImportRefused` where no valid inventory comes out.
    """
    if control_planes > len(servers.hosts):
        raise UsageError(f"{control_planes} control planes are wanted of {len(servers.hosts)} machines")
    draft = Draft("what the machines say", COMMAND)
    for index, host in enumerate(servers.hosts):
        found = facts[host.name]
        roles = ["control-plane"] if index < control_planes else ["worker"]
        if len(servers.hosts) == control_planes:
            roles = ["control-plane", "worker"]
        usable = candidates(found.addresses, Networking())
        node_address = None
        if len(usable) > 1:
            own = ip_address(host.address)
            others = ", ".join(str(address) for address in usable if address != own)
            if own in usable:
                node_address = host.address
                draft.note(host.address, f"it has the addresses {others}, too; nodeAddress is the one that you gave")
            else:
                choice = f"write one of its addresses as nodeAddress, the one for the cluster: {others}"
                draft.note(host.address, choice)
        if paths.KUBELET_CONF in found.files:
            draft.note(host.address, f"it is in a cluster already ({paths.KUBELET_CONF} is there)")
        login = host.ssh.model_dump(by_alias=True, exclude_unset=True)
        login |= servers.ssh.model_dump(by_alias=True, exclude_unset=True)
        draft.host(found.hostname, host.address, roles, host.address, nodeAddress=node_address, ssh=login)
    return draft.finish()
