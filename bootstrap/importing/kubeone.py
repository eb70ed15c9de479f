"""KubeOne's KubeOneCluster (kubeone.k8c.io): static hosts, the endpoint, networks. What clouds do stays with them."""

from __future__ import annotations

from typing import Any

from bootstrap.importing.draft import Draft, Given, jump, labels, taints

_CLUSTER = {
    "clusterNetwork.podSubnet": "networking.podSubnet",
    "clusterNetwork.serviceSubnet": "networking.serviceSubnet",
    "clusterNetwork.serviceDomainName": "networking.dnsDomain",
    "clusterNetwork.kubeProxy.skipInstallation": "kubeProxy.disabled",
    "apiEndpoint.alternativeNames": "apiServer.certSANs",
    "loggingConfig.containerLogMaxSize": "kubelet.config.containerLogMaxSize",
    "loggingConfig.containerLogMaxFiles": "kubelet.config.containerLogMaxFiles",
}
_KUBELET = ("systemReserved", "kubeReserved", "evictionHard", "maxPods", "podPidsLimit")


def draft(data: Any, name: str) -> Draft:
    """Read a KubeOneCluster."""
    made, given = Draft(name), Given(data)
    for key in ("apiVersion", "kind"):
        given.take(key)
    made.set("name", given.text("name"))
    made.version(f"{name}: versions.kubernetes", given.take("versions.kubernetes"))
    for theirs, ours in _CLUSTER.items():
        made.set(ours, given.take(theirs))
    for mode in ("ipvs", "iptables", "nftables"):
        settings = given.take(f"clusterNetwork.kubeProxy.{mode}", dict)
        if settings is not None:
            made.set("kubeProxy.config.mode", mode)
            made.set(f"kubeProxy.config.{mode}", settings or None)
    cni = given.take("clusterNetwork.cni", dict) or {"canal": {}}
    made.network(f"{name}: clusterNetwork.cni", next(iter(cni)))
    host, port = given.text("apiEndpoint.host"), given.number("apiEndpoint.port")
    if host:
        made.set("endpoint", {"kind": "external", "name": host, **({"port": port} if port else {})})
    for section, roles in (("controlPlane", ["control-plane"]), ("staticWorkers", ["worker"])):
        for index, machine in enumerate(given.given(f"{section}.hosts")):
            add(made, machine, roles, f"{name}: {section}.hosts[{index}]")
    made.left(name, given.left())
    return made


def add(made: Draft, machine: Given, roles: list[str], where: str) -> None:
    """Add a host as KubeOne describes one."""
    public, private = machine.text("publicAddress"), machine.text("privateAddress")
    login = {
        "user": machine.text("sshUsername"),
        "port": machine.number("sshPort"),
        "identityFile": machine.text("sshPrivateKeyFile"),
        "proxyJump": jump(machine.text("bastionUser"), machine.text("bastion"), machine.number("bastionPort")),
    }
    kubelet = {key: machine.take(f"kubelet.{key}") for key in _KUBELET}
    config = {key: value for key, value in kubelet.items() if value is not None}
    machine.take("isLeader")
    machine.take("operatingSystem")
    if machine.text("sshAgentSocket") not in {None, "env:SSH_AUTH_SOCK"}:
        made.note(f"{where}.sshAgentSocket", "the agent of your SSH_AUTH_SOCK is used")
    made.host(
        machine.text("hostname"),
        public or private,
        roles,
        where,
        nodeAddress=private,
        labels=labels(machine.take("labels", dict)),
        taints=taints(machine.take("taints", list)),
        kubelet={"config": config} if config else None,
        ssh={key: value for key, value in login.items() if value},
    )
    made.left(where, machine.left())
