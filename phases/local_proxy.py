"""The way of a worker to all API servers: HAProxy as a static Pod, which the endpoint's name leads to.

Not of kubeadm. With a single control-plane host there is none: the name leads straight there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

from bootstrap import paths
from bootstrap.plan import Phase
from bootstrap.render import render
from bootstrap.steps import Absent, Directory, File, Step

if TYPE_CHECKING:
    from bootstrap.site import Node, Site

NAME = "kubestrap-proxy"
ADDRESS = "127.0.0.1"
CONFIG = f"{paths.KUBERNETES}/{NAME}.cfg"


@dataclass(frozen=True, slots=True)
class Server:
    """One API server, as the proxy knows it."""

    name: str
    address: str


@dataclass(frozen=True, slots=True)
class Config:
    """Fields of templates/proxy/haproxy.cfg.j2."""

    servers: tuple[Server, ...]
    endpoint: str
    port: int
    ca: str
    address: str = ADDRESS


@dataclass(frozen=True, slots=True)
class Manifest:
    """Fields of templates/proxy/pod.yaml.j2."""

    image: str
    checksum: str
    privileged_port: bool
    ca: str
    name: str = NAME
    config: str = CONFIG


def is_kept(site: Site, node: Node) -> bool:
    """Say whether the node's proxy stays as it is: this run does not know the control plane that it leads to."""
    return not site.control_plane and paths.PROXY_MANIFEST in node.facts.files


def steps(site: Site, node: Node) -> Iterator[Step]:
    """Run a proxy that leads to every API server that is ready, where there are several of them."""
    if is_kept(site, node):
        return
    if not site.is_proxied:
        yield Absent(paths.PROXY_MANIFEST)
        yield Absent(CONFIG)
        return
    config = configuration(site)
    yield Directory(paths.KUBERNETES)
    yield File(CONFIG, config.encode())
    yield Directory(paths.MANIFESTS, mode=0o700)
    view = Manifest(
        image=site.image("haproxy"),
        # Another configuration, and the kubelet starts another Pod.
        checksum=sha256(config.encode()).hexdigest(),
        privileged_port=site.cluster.endpoint.port < 1024,
        ca=f"{paths.PKI}/ca.crt",
    )
    yield File(paths.PROXY_MANIFEST, render("proxy/pod.yaml.j2", view).encode(), mode=0o600)


def configuration(site: Site) -> str:
    """Give HAProxy's configuration, with every control-plane host of the cluster."""
    view = Config(
        servers=tuple(Server(node.name, node.address) for node in site.control_plane),
        endpoint=site.cluster.endpoint_name,
        port=site.cluster.endpoint.port,
        ca=f"{paths.PKI}/ca.crt",
    )
    return render("proxy/haproxy.cfg.j2", view)


LOCAL_PROXY = Phase("local-proxy", "worker", steps)
