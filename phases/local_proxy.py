"""The way of a machine to all API servers: HAProxy as a static Pod, which the endpoint's name leads to.

Not of kubeadm. Workers have it where several control-plane hosts have no address in common (with a single one the
name leads straight there), and control-plane hosts where they have (`bootstrap.phases.vip`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bootstrap import diagnosis, paths
from bootstrap.phases import kubelet
from bootstrap.plan import Phase
from bootstrap.render import render
from bootstrap.steps import Absent, Command, Directory, File, Step, Wait

if TYPE_CHECKING:
    from bootstrap.site import Node, Site

NAME = "kubestrap-proxy"
ADDRESS = "127.0.0.1"
EVERYWHERE = "0.0.0.0"  # noqa: S104 - the virtual address is on one host today and on another tomorrow
HEALTH = "127.0.0.1:8404"
"""Where the proxy of a control-plane host says whether the host's own API server is ready."""
FOLDER = f"{paths.KUBERNETES}/{NAME}"
CONFIG = f"{FOLDER}/haproxy.cfg"
_READ = f"{paths.STATE}/proxy-read"
"""Newer than the configuration where the proxy was told to read it after its last change."""
_RUNNING = f"""
changed=$(date -r {CONFIG} +%s%N) || exit 0
former=
for link in /var/log/containers/{NAME}-*_kube-system_{NAME}-*.log; do
    id=${{link%.log}}
    status=/var/lib/containerd/io.containerd.grpc.v1.cri/containers/${{id##*-}}/status
    set -- $(sed -n -E 's/.*"Pid":([0-9]+),"CreatedAt":([0-9]+),.*"FinishedAt":0,.*/\\1 \\2/p' "$status" 2>/dev/null)
    if [ $# -eq 2 ] && [ "$2" -lt "$changed" ]; then former="$former $1"; fi
done
"""
"""sh that finds the processes of proxies which were there before their configuration was changed."""
IS_READ = f"""{_RUNNING}
[ -z "$former" ] || [ {_READ} -nt {CONFIG} ]"""
"""sh that exits 1 where the proxy that runs has not been told of its configuration's last change."""


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
    folder: str = FOLDER
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
    yield Command(
        f"{NAME} to have read its configuration",
        unless=IS_READ,
        # A Pod that is made anew takes ten seconds and more, in which the kubelet and kube-proxy have no API server.
        run=f"{_RUNNING}\nset -e\nkill -USR2 $former\ntouch {_READ}",
    )


def files(site: Site, config: str, checksum: str = "") -> Iterator[Step]:
    """Run a proxy with such a configuration. With a `checksum` another configuration makes another Pod."""
    yield Directory(paths.KUBERNETES)
    yield Directory(FOLDER)
    yield File(CONFIG, config.encode())
    yield Directory(paths.MANIFESTS, mode=0o700)
    view = Manifest(
        image=site.image("haproxy"),
        checksum=checksum,
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
