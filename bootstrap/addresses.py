"""Which of a machine's addresses the cluster uses for it. Given by the user, or without a choice; never guessed."""

from __future__ import annotations

from collections.abc import Sequence

from bootstrap.errors import NodeAddressUnclear
from bootstrap.spec import Host, Networking
from bootstrap.values import IPv4Or6Address, ip_address


def node_address(host: Host, addresses: Sequence[str], networking: Networking) -> str:
    """Decide the node address of `host`, whose machine has `addresses`.

    The inventory's `nodeAddress`, which must be one of the machine's (a kubelet refuses any other); else the only
    address there is that other machines can reach, of the family of the cluster's networks. What lies in these
    networks belongs to Pods and Services, as on a machine that has joined before.

    Raises `NodeAddressUnclear`, which names the candidates.
    """
    usable = candidates(addresses, networking)
    shown = ", ".join(map(str, usable)) or "none"
    seen = ", ".join(addresses) or "none"
    if host.node_address is not None:
        if host.node_address in map(ip_address, addresses):
            return str(host.node_address)
        raise NodeAddressUnclear(
            host.name, f"the machine does not have the nodeAddress {host.node_address}; it has {shown}"
        )
    if len(usable) == 1:
        return str(usable[0])
    family = f"IPv{networking.service_subnet.version}"
    if not usable:
        raise NodeAddressUnclear(
            host.name,
            f"the machine has no {family} address that other machines can reach (it has {seen});"
            " give it one outside of the cluster's networks",
        )
    raise NodeAddressUnclear(
        host.name,
        f"the machine has several {family} addresses ({shown}); write the one for the cluster as nodeAddress",
    )


def candidates(addresses: Sequence[str], networking: Networking) -> list[IPv4Or6Address]:
    """List those of a machine's `addresses` by which others can reach it in such a cluster, in order."""
    found = {address for address in map(ip_address, addresses) if address is not None}
    return sorted((address for address in found if _usable(address, networking)), key=int)


def _usable(address: IPv4Or6Address, networking: Networking) -> bool:
    return not (
        address.version != networking.service_subnet.version
        or address.is_loopback
        or address.is_link_local
        or address.is_multicast
        or address.is_unspecified
        or address in networking.pod_subnet
        or address in networking.service_subnet
    )
