"""The kubeconfigs of a control-plane host, made or read back before planning (kubeadm: phases/kubeconfig)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from bootstrap import paths
from bootstrap.phases import kubelet
from bootstrap.plan import Phase
from bootstrap.steps import Directory, File, Step

if TYPE_CHECKING:
    from bootstrap.site import Node, Site


def kubelet_steps(site: Site, node: Node) -> Iterator[Step]:
    """Write the kubeconfig by which the kubelet first comes to the API server; a good one that is there stays."""
    if site.cluster.ca_directory:
        yield from kubelet.issued_steps(site, node)
    # Later the kubelet renews its certificate by itself and kubelet-finalize points this file there: that is good too,
    # and was read back into the site.
    yield Directory(paths.KUBERNETES)
    yield File(paths.KUBELET_CONF, site.files[node.name][paths.KUBELET_CONF], mode=0o600, secret=True)


def _written(path: str, whose: str) -> Callable[[Site, Node], Iterator[Step]]:
    def steps(site: Site, node: Node) -> Iterator[Step]:
        if path in site.files[node.name]:
            yield Directory(paths.KUBERNETES)
            yield File(path, site.files[node.name][path], mode=0o600, secret=True)

    steps.__doc__ = f"Write the kubeconfig of {whose}."
    return steps


KUBECONFIG = (
    Phase("kubeconfig/admin", "control-plane", _written(paths.ADMIN_CONF, "the cluster's administrators")),
    Phase(
        "kubeconfig/super-admin",
        "cluster",  # kubeadm's init makes it, its join does not
        _written(paths.SUPER_ADMIN_CONF, "the administrator whom no RBAC rule can stop"),
    ),
    Phase("kubeconfig/kubelet", "control-plane", kubelet_steps),
    Phase(
        "kubeconfig/controller-manager",
        "control-plane",
        _written(paths.CONTROLLER_MANAGER_CONF, "the controller-manager"),
    ),
    Phase("kubeconfig/scheduler", "control-plane", _written(paths.SCHEDULER_CONF, "the scheduler")),
)
