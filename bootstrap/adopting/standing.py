"""What a cluster says of itself: kubeadm's ConfigMaps, its Nodes, and what runs on all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bootstrap import paths
from bootstrap.adopting.machines import Machine, mapping
from bootstrap.adopting.refusal import mistake
from bootstrap.api import FIELD_MANAGER, Api
from bootstrap.errors import AdoptionRefused, ApiError, ApiUnreachable, ApiUntrusted, ConfigError, words
from bootstrap.phases.objects import SYSTEM
from bootstrap.steps import Json
from bootstrap.transport.base import Host

_SECONDS = 20.0
_NETWORKS = (
    "antrea-agent",
    "aws-node",
    "calico-node",
    "canal",
    "cilium",
    "kube-flannel-ds",
    "kube-ovn-cni",
    "kube-router",
    "weave-net",
)
"""DaemonSets of the Pod networks that there are."""


@dataclass(frozen=True, slots=True)
class Standing:
    """A cluster that stands, as its API tells. Configurations are as kubeadm keeps them; None where there is none."""

    configuration: Mapping[str, Any]
    kubelet: Mapping[str, Any]
    kube_proxy: Mapping[str, Any] | None
    coredns_replicas: int | None
    networks: Sequence[str]
    has_our_flannel: bool
    version: str
    nodes: Sequence[Json]


def ask(machines: Sequence[Machine], hosts: Mapping[str, Host]) -> Standing:
    """Ask the cluster, by the admin.conf of the first control-plane machine whose API server answers.

    Raises `AdoptionRefused` where none does, or the cluster is none of kubeadm's.
    """
    able = [machine for machine in machines if machine.is_control_plane and paths.ADMIN_CONF in machine.files]
    problems = []
    for machine in able:
        flags = machine.api_server
        address, port = flags.get("advertise-address", "127.0.0.1"), flags.get("secure-port", "")
        conf = machine.files[paths.ADMIN_CONF]
        try:
            with Api.from_kubeconfig(
                hosts[machine.given.name], conf, address=address, port=_port(port), seconds=_SECONDS
            ) as api:
                return _read(api)
        except (ApiError, ApiUnreachable, ApiUntrusted, ConfigError) as error:
            if isinstance(error, AdoptionRefused):
                raise
            fix = "start it, or see why it does not answer (kubectl get --raw /readyz), and adopt then"
            what = f"its API server does not answer as it should: {words(error)}"
            problems.append(mistake("adopt-no-api", machine.name, what, fix))
    raise AdoptionRefused(problems)


def _port(text: str) -> int:
    return int(text) if text.isdecimal() else 6443


def _read(api: Api) -> Standing:
    configuration = mapping(_data(api, "kubeadm-config").get("ClusterConfiguration", ""))
    if not configuration:
        what = "there is no ConfigMap kube-system/kubeadm-config with a ClusterConfiguration: kubeadm did not make it"
        fix = "adopt clusters of kubeadm's; make others anew (docs/adopt.md)"
        raise AdoptionRefused([mistake("adopt-not-kubeadm", "", what, fix)])
    proxy = api.get_object("apps/v1", "DaemonSet", "kube-proxy", SYSTEM)
    coredns = api.get_object("apps/v1", "Deployment", "coredns", SYSTEM)
    daemons = [daemon for daemon in api.list("apps/v1", "DaemonSet") if daemon["metadata"]["name"] in _NETWORKS]
    ours = [
        daemon
        for daemon in daemons
        if daemon["metadata"]["name"] == "kube-flannel-ds"
        and any(entry.get("manager") == FIELD_MANAGER for entry in daemon["metadata"].get("managedFields") or [])
    ]
    return Standing(
        configuration=configuration,
        kubelet=mapping(_data(api, "kubelet-config").get("kubelet", "")),
        kube_proxy=mapping(_data(api, "kube-proxy").get("config.conf", "")) if proxy else None,
        coredns_replicas=coredns["spec"].get("replicas", 1) if coredns else None,
        networks=[f"{daemon['metadata']['namespace']}/{daemon['metadata']['name']}" for daemon in daemons],
        has_our_flannel=bool(ours),
        version=str(api.get("/version").get("gitVersion", "")).removeprefix("v"),
        nodes=api.list("v1", "Node"),
    )


def _data(api: Api, name: str) -> Mapping[str, str]:
    found = api.get_object("v1", "ConfigMap", name, SYSTEM)
    return (found or {}).get("data") or {}
