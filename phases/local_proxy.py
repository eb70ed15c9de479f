"""The way of a machine to all API servers: HAProxy as a static Pod, which the endpoint's name leads to.

Not of kubeadm. Workers have it where several control-plane hosts have no address in common (with a single one the
name leads straight there), and control-plane hosts where they have (`bootstrap.phases.vip`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

from bootstrap import diagnosis, paths
from bootstrap.phases import kubelet
from bootstrap.plan import Phase
from bootstrap.render import render
from bootstrap.steps import Absent, Directory, File, Step, Wait

if TYPE_CHECKING:
    from bootstrap.site import Node, Site

NAME = "kubestrap-proxy"
ADDRESS = "127.0.0.1"
EVERYWHERE = "0.0.0.0"  # noqa: S104 - the virtual address is on one host today and on another tomorrow
HEALTH = "127.0.0.1:8404"
"""Where the proxy of a control-plane host says whether the host's own API server is ready."""
CONFIG = f"{paths.KUBERNETES}/{NAME}.cfg"


@dataclass(frozen=True, slots=True)
class Server:
    """One API server, as the proxy knows it."""

    name: str
    address: str


@dataclass(frozen=True, slots=True)
class Config:
    """Fields of templates/proxy/haproxy.cfg.j2. `own` is the machine's own API server, whose health is told."""

    servers: tuple[Server, ...]
    endpoint: str
    address: str
    port: int
    server_port: int
    seconds: int  # between two checks of a server, and for a connection to it
    ca: str = f"{paths.PKI}/ca.crt"
    own: str = ""
    health: str = HEALTH


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
    yield from files(site, configuration(site))


def files(site: Site, config: str) -> Iterator[Step]:
    """Run a proxy with such a configuration."""
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


def wait_steps(site: Site, node: Node) -> Iterator[Step]:
    """Wait until the proxy of a worker that has joined runs as it was configured last, and leads to an API server."""
    from bootstrap.spec import seconds

    if is_kept(site, node) or not site.is_proxied or not node.facts.bootstrapped:
        return
    url = f"https://{site.cluster.endpoint_name}:{site.cluster.endpoint.port}/readyz"
    asked = kubelet.answer(NAME, url, f"--kubeconfig {paths.KUBELET_CONF}")
    yield Wait(
        "the proxy to lead to an API server",
        until=diagnosis.until(f"{kubelet.CURRENT}\n{asked}", (NAME,)),
        seconds=seconds(site.cluster.timeouts.control_plane_component_health_check),
        explain=diagnosis.explain((NAME,)),
        evidence=True,
    )


def configuration(site: Site) -> str:
    """Give HAProxy's configuration, with every control-plane host of the cluster."""
    return render("proxy/haproxy.cfg.j2", _config(site, ADDRESS, seconds=2))


def configuration_beside(site: Site, node: Node) -> str:
    """Give that of a control-plane host. There are few of these, so that they can ask all servers more often."""
    return render("proxy/haproxy.cfg.j2", _config(site, EVERYWHERE, seconds=1, own=node.name))


def _config(site: Site, address: str, *, seconds: int, own: str = "") -> Config:
    return Config(
        servers=tuple(Server(node.name, node.address) for node in site.control_plane),
        endpoint=site.cluster.endpoint_name,
        address=address,
        port=site.cluster.endpoint.port,
        server_port=site.cluster.bind_port,
        seconds=seconds,
        own=own,
    )


LOCAL_PROXY = Phase("local-proxy", "worker", steps)
WAIT_LOCAL_PROXY = Phase("wait-local-proxy", "worker", wait_steps)
