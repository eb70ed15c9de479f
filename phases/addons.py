"""Cluster DNS, Service addresses and the Pod network (kubeadm: phases/addons; flannel's own manifest)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from bootstrap import patching
from bootstrap.phases.objects import (
    BOOTSTRAPPERS,
    SYSTEM,
    account,
    binding,
    config_map,
    group,
    role,
    rule,
    service_account,
    unchanged,
)
from bootstrap.phases.patched import patched
from bootstrap.plan import Phase
from bootstrap.render import from_yaml, merge, render, to_yaml
from bootstrap.steps import ApiObject, Step

if TYPE_CHECKING:
    from bootstrap.site import Node, Site
    from bootstrap.spec import Cluster

CHECKSUM = "kubestrap.io/config-sha256"
"""Annotation of Pods whose configuration is a ConfigMap: another configuration, and they are rolled."""


@dataclass(frozen=True, slots=True)
class CoreDns:
    """Fields of templates/addons/coredns.yaml.j2."""

    image: str
    domain: str
    address: str
    replicas: int


@dataclass(frozen=True, slots=True)
class KubeProxy:
    """Fields of templates/addons/kube-proxy.yaml.j2 and kube-proxy-kubeconfig.yaml.j2."""

    image: str
    server: str
    checksum: str = ""
    annotation: str = CHECKSUM


@dataclass(frozen=True, slots=True)
class Flannel:
    """Fields of templates/addons/flannel.yaml.j2."""

    image: str
    network: str
    backend: str
    port: int
    host: str
    host_port: int
    checksum: str = ""
    annotation: str = CHECKSUM


def coredns_steps(site: Site, _: Node) -> Iterator[Step]:
    """Install CoreDNS as the cluster's DNS."""
    cluster = site.cluster
    if cluster.addons.coredns.disabled:
        return
    yield from _objects(
        cluster,
        "addons/coredns.yaml.j2",
        CoreDns(
            image=site.image("coredns"),
            domain=cluster.networking.dns_domain,
            address=cluster.networking.service_address(10),
            replicas=cluster.addons.coredns.replicas,
        ),
    )


def kube_proxy_config(cluster: Cluster) -> dict[str, Any]:
    """Give the KubeProxyConfiguration: kubeadm's defaults, the inventory's put upon them."""
    ours = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "bindAddress": "0.0.0.0",  # noqa: S104 - kubeadm's, for the health check
        "clientConnection": {"kubeconfig": "/var/lib/kube-proxy/kubeconfig.conf"},
        "clusterCIDR": str(cluster.networking.pod_subnet),
        "mode": "iptables",
    }
    return merge(ours, cluster.kube_proxy.config)


def kube_proxy_steps(site: Site, _: Node) -> Iterator[Step]:
    """Install kube-proxy, which makes Service addresses work on every node."""
    cluster = site.cluster
    if cluster.kube_proxy.disabled:
        return
    server = f"https://{cluster.control_plane_endpoint}"
    view = KubeProxy(image=site.image("kube-proxy"), server=server)
    config = to_yaml(kube_proxy_config(cluster))
    kubeconfig = render("addons/kube-proxy-kubeconfig.yaml.j2", view)
    yield service_account("kube-proxy")
    yield binding("kubeadm:node-proxier", "system:node-proxier", [account("kube-proxy")])
    yield role("kube-proxy", [rule(["get"], ["configmaps"], names=["kube-proxy"])], namespace=SYSTEM)
    yield binding("kube-proxy", "kube-proxy", [group(BOOTSTRAPPERS)], namespace=SYSTEM)
    data = {"config.conf": config, "kubeconfig.conf": kubeconfig}
    own = None if cluster.kube_proxy.config else unchanged(data)
    yield config_map("kube-proxy", data, labels={"app": "kube-proxy"}, annotations=own)
    checksum = sha256((config + kubeconfig).encode()).hexdigest()
    yield from _objects(cluster, "addons/kube-proxy.yaml.j2", replace(view, checksum=checksum))


def flannel_steps(site: Site, _: Node) -> Iterator[Step]:
    """Install flannel as the Pod network."""
    cluster = site.cluster
    if cluster.addons.cni != "flannel":
        return
    settings = cluster.addons.flannel
    view = Flannel(
        image=site.image("flannel"),
        network=str(cluster.networking.pod_subnet),
        backend=settings.backend,
        port=settings.port,
        # The endpoint, not the Service: kube-proxy may not have set that up when flannel starts.
        host=cluster.endpoint_name,
        host_port=cluster.endpoint.port,
    )
    documents = from_yaml(render("addons/flannel.yaml.j2", view))
    config = to_yaml([document["data"] for document in documents if document["kind"] == "ConfigMap"])
    yield from _objects(cluster, "addons/flannel.yaml.j2", replace(view, checksum=sha256(config.encode()).hexdigest()))


def _objects(cluster: Cluster, template: str, view: CoreDns | KubeProxy | Flannel) -> Iterator[Step]:
    for document in from_yaml(render(template, view)):
        # As with kubeadm, a Corefile that somebody edited is theirs.
        theirs = document["kind"] == "ConfigMap" and "Corefile" in document["data"]
        target = _TARGETS.get((document["kind"], document["metadata"]["name"]))
        yield ApiObject(patched(document, target, cluster, None) if target else document, unless_exists=theirs)


_TARGETS = {("Deployment", "coredns"): patching.COREDNS, ("DaemonSet", "kube-proxy"): patching.KUBE_PROXY}


ADDONS = (
    Phase("addon/coredns", "cluster", coredns_steps),
    Phase("addon/kube-proxy", "cluster", kube_proxy_steps),
    Phase("addon/flannel", "cluster", flannel_steps),
)
