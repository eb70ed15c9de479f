"""What token discovery and TLS bootstrap need of the cluster (kubeadm: phases/bootstraptoken).

No token is made here: those of a join are made for it, and others when they are asked for.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from bootstrap import paths
from bootstrap.phases.objects import BOOTSTRAPPERS, NODES, PUBLIC, binding, config_map, group, role, rule, user
from bootstrap.plan import Phase
from bootstrap.render import to_yaml
from bootstrap.steps import ApiObject, Json, Step

if TYPE_CHECKING:
    from bootstrap.site import Node, Site

_CSR = "system:certificates.k8s.io:certificatesigningrequests"
_SIGNER = "kubeadm:bootstrap-signer-clusterinfo"


def steps(site: Site, node: Node) -> Iterator[Step]:
    """Let nodes join by token: publish cluster-info, and give bootstrap tokens and nodes their rights."""
    yield role("kubeadm:get-nodes", [rule(["get"], ["nodes"])])
    yield binding("kubeadm:get-nodes", "kubeadm:get-nodes", [group(BOOTSTRAPPERS)])
    yield binding("kubeadm:kubelet-bootstrap", "system:node-bootstrapper", [group(BOOTSTRAPPERS)])
    yield binding("kubeadm:node-autoapprove-bootstrap", f"{_CSR}:nodeclient", [group(BOOTSTRAPPERS)])
    yield binding("kubeadm:node-autoapprove-certificate-rotation", f"{_CSR}:selfnodeclient", [group(NODES)])
    # Without this `kubectl logs` and `exec` are refused by the kubelets.
    yield binding(
        "kubeadm:apiserver-kubelet-client", "system:kubelet-api-admin", [user("kube-apiserver-kubelet-client")]
    )
    # The bootstrapsigner adds a signature for each token beside our key.
    yield config_map("cluster-info", {"kubeconfig": cluster_info(site, node)}, namespace=PUBLIC)
    yield role(_SIGNER, [rule(["get"], ["configmaps"], names=["cluster-info"])], namespace=PUBLIC)
    yield binding(_SIGNER, _SIGNER, [user("system:anonymous")], namespace=PUBLIC)


def cluster_info(site: Site, node: Node) -> str:
    """Give the kubeconfig that anybody may read: where the cluster is and which CA it has, nothing else."""
    authority = b64encode(site.files[node.name][f"{paths.PKI}/ca.crt"]).decode()
    server = f"https://{site.cluster.control_plane_endpoint}"
    return to_yaml(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"cluster": {"certificate-authority-data": authority, "server": server}, "name": ""}],
            "contexts": None,
            "current-context": "",
            "users": None,
        }
    )


BOOTSTRAP_TOKEN = Phase("bootstrap-token", "cluster", steps)


def with_token(secret: Json) -> Phase:
    """Give the phase that also puts a token's Secret into the cluster, for those that join in the same run."""

    def also(site: Site, node: Node) -> Iterator[Step]:
        yield from steps(site, node)
        yield ApiObject(secret)

    also.__doc__ = steps.__doc__
    return replace(BOOTSTRAP_TOKEN, steps=also)
