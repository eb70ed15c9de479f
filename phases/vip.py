"""The virtual address: keepalived as a static Pod on every control-plane host, beside a proxy to all API servers.

Not of kubeadm, whose documents describe the pair (ha-considerations.md). The hosts tell each other by VRRP (RFC 9568),
to each by itself and not by multicast, who is there; who holds the address leads to all API servers that are ready.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

from bootstrap import paths
from bootstrap.phases import local_proxy
from bootstrap.plan import Phase
from bootstrap.render import render
from bootstrap.steps import Absent, File, Step

if TYPE_CHECKING:
    from bootstrap.site import Node, Site
    from bootstrap.spec import VipEndpoint

NAME = "kubestrap-vip"
FILES = (paths.VIP_MANIFEST, paths.VIP_CONFIG, paths.PROXY_MANIFEST, local_proxy.CONFIG)
"""All that it is made of on a host."""
INTERVAL = 0.5
"""Seconds between two messages of the holder; without three of them, and a moment, another host takes the address."""
_PRIORITY, _READY = 100, 50
NOBODY = local_proxy.Server("none yet", "127.0.0.1")
"""In the place of peers: without any, keepalived would go back to multicast."""
_CHECK = (
    "/bin/bash -c 'exec 3<>/dev/tcp/{host}/{port} && echo GET /readyz HTTP/1.0 >&3 && echo >&3 "
    "&& read -r -t 1 _ status _ <&3 && [ $status = 200 ]'"
)


@dataclass(frozen=True, slots=True)
class Config:
    """Fields of templates/vip/keepalived.conf.j2."""

    name: str
    interface: str
    router: int
    address: str
    peers: tuple[local_proxy.Server, ...]
    virtual: str
    check: str
    interval: float = INTERVAL
    priority: int = _PRIORITY
    weight: int = _READY


@dataclass(frozen=True, slots=True)
class Manifest:
    """Fields of templates/vip/pod.yaml.j2."""

    image: str
    checksum: str
    name: str = NAME
    config: str = paths.VIP_CONFIG


def steps(site: Site, node: Node) -> Iterator[Step]:
    """Hold the endpoint's virtual address in turn with the other control-plane hosts, where the endpoint has one."""
    endpoint = site.cluster.endpoint
    if endpoint.kind != "vip":
        yield from map(Absent, FILES)
        return
    # Another host holds the address meanwhile. What a host goes back to when it does not get well is a former Pod, too.
    proxied = local_proxy.configuration_beside(site, node)
    yield from local_proxy.files(site, proxied, _checksum(proxied))
    config = configuration(site, node, endpoint)
    yield File(paths.VIP_CONFIG, config.encode())
    view = Manifest(site.image("keepalived"), _checksum(config))
    yield File(paths.VIP_MANIFEST, render("vip/pod.yaml.j2", view).encode(), mode=0o600)


def _checksum(config: str) -> str:
    return sha256(config.encode()).hexdigest()


def configuration(site: Site, node: Node, endpoint: VipEndpoint) -> str:
    """Give keepalived's configuration, with every other control-plane host of the cluster as a peer."""
    host, _, port = local_proxy.HEALTH.partition(":")
    others = [local_proxy.Server(peer.name, peer.address) for peer in site.control_plane if peer.name != node.name]
    view = Config(
        name=node.name,
        interface=endpoint.interface or (node.link.interface if node.link else ""),
        router=endpoint.virtual_router_id,
        address=node.address,
        peers=tuple(others) or (NOBODY,),
        virtual=str(endpoint.address),
        check=_CHECK.format(host=host, port=port),
    )
    return render("vip/keepalived.conf.j2", view)


VIP = Phase("vip", "control-plane", steps, in_turn=True)
