"""The inventory's JSON Schema, for editors: made from the models, with what each setting is for.

A schema sees one value at a time: what must agree across the file, and what YAML itself leaves unclear, only
`bootstrap.inventory` tells.
"""

from __future__ import annotations

from typing import Any

from bootstrap.spec import Inventory

URI = "https://json-schema.org/draft/2020-12/schema"

MEANINGS = {
    "Addons.cni": "The Pod network that is installed; with none you install one yourself.",
    "ApiServer.certSANs": "More names and addresses under which the API server is called.",
    "Bundle.path": "The bundle's folder or file.",
    "Bundle.url": "Where machines fetch a bundle's files themselves: a server that has its folder; else they are sent.",
    "Bundle.caFile": "CAs (PEM) that signed that server's certificate, where the machines do not know them.",
    "Bundle.platform": "What the cluster's machines are; all are of one kind.",
    "Cluster.caCertificateValidityPeriod": "How long the cluster's CAs are valid.",
    "Cluster.certificateAuthority": "Who holds the keys of the cluster's CAs.",
    "Cluster.caCertHash": "The CA of a cluster that stands already, by which its machines are known.",
    "Cluster.certificateValidityPeriod": "How long all other certificates are valid.",
    "Cluster.encryptionAlgorithm": "The kind of key that every certificate has.",
    "Cluster.endpoint": "How machines and people find the API server.",
    "Cluster.ignorePreflightErrors": "Checks of preflight that may fail on these machines, by name.",
    "Cluster.kubeadm": "kubeadm's documents (v1beta4), or a file of them, whose settings are this cluster's.",
    "Cluster.kubernetesVersion": "The exact release that is installed, as in 1.37.2.",
    "Cluster.patches": "Patches of manifests and configurations, in kubeadm's form.",
    "Cluster.name": "The cluster's name, in kubeconfigs and in the endpoint's name.",
    "CoreDns.disabled": "Install no cluster DNS.",
    "CoreDns.replicas": "How many Pods of CoreDNS run.",
    "Cluster.registries": "Mirrors, logins and proxies for containerd on the machines.",
    "ExternalEtcd.caFile": "The CA that signed etcd's own certificates.",
    "ExternalEtcd.certFile": "The certificate by which API servers are known to etcd.",
    "ExternalEtcd.endpoints": "The client URLs of etcd's members.",
    "ExternalEtcd.keyFile": "The certificate's key, readable by you alone.",
    "Flannel.backend": "How Pods of different nodes reach each other: in UDP packets, or by plain routes.",
    "Flannel.port": "The UDP port of VXLAN.",
    "Cluster.hooks": "Commands of your own before and after phases.",
    "Hook.after": "The phase, or group of phases, after which it is run; see phases ls.",
    "Hook.before": "The phase, or group of phases, before which it is run; see phases ls.",
    "Hook.where": "On which machines: the hosts that do the phase, those of a kind, or yours, once for each of them.",
    "Hook.run": "A command, as a list of its words, or the file of a script.",
    "Hook.timeout": "How long it may take; then it is ended, and has failed.",
    "Host.address": "Where SSH connects to.",
    "Host.hostKey": "What its SSH host key must be, whatever known_hosts files say.",
    "Host.labels": "Labels that the Node has from its first moment; one that is taken out of here goes from it.",
    "Host.name": "The Node's name.",
    "Host.nodeAddress": "The address that Kubernetes uses; needed where a machine has several.",
    "Host.apiServer": "The API server of this host alone.",
    "Host.controllerManager": "The controller-manager of this host alone.",
    "Host.scheduler": "The scheduler of this host alone.",
    "Host.etcd": "The member of etcd of this host alone.",
    "Host.kubelet": "The kubelet of this host alone.",
    "Host.containerd": "containerd of this host alone.",
    "Host.patches": "Patches of this host's files alone, applied after the cluster's.",
    "Host.roles": "What runs on the machine. Control-plane with worker has no control-plane taint; etcd is alone.",
    "Host.taints": "Taints that the Node has, like its labels; without this key, kubeadm's for a control plane.",
    "HostSsh.acceptNewHostKeys": "Add host keys of which nothing is known to the known_hosts file.",
    "HostSsh.backend": "Who speaks SSH: the library paramiko, or the system's ssh (OpenSSH), for keys on hardware.",
    "HostSsh.connectTimeout": "How long a connection may take to come about.",
    "HostSsh.identityFile": "The private key to log in with.",
    "HostSsh.knownHostsFile": "The file with the machines' host keys.",
    "HostSsh.port": "The port of the machine's sshd.",
    "HostSsh.proxyJump": "Hosts to go through, in order; none goes straight.",
    "HostSsh.sudoPasswordFile": "Its first line is the password that sudo wants; else it is asked for.",
    "HostSsh.user": "Who logs in: root, or a user with sudo.",
    "KubeProxy.disabled": "Install no kube-proxy.",
    "Registries.authFile": "Logins by host, as Docker's config.json has them; readable by you alone.",
    "Registries.caFile": "CAs (PEM) that signed certificates of mirrors and of registries with a login.",
    "Registries.httpProxy": "The proxy for http.",
    "Registries.httpsProxy": "The proxy for https.",
    "Registries.mirrors": "URLs of mirrors by the host in images' names; none: the host itself is private.",
    "Registries.noProxy": "What is reached without a proxy, beside the cluster's own networks and names.",
    "Kubelet.config": "Fields of KubeletConfiguration.",
    "KubeProxy.config": "Fields of KubeProxyConfiguration.",
    "LocalEtcd.dataDir": "Where etcd keeps its data.",
    "HostLocalEtcd.peerCertSANs": "More names and addresses in this member's certificate for other members.",
    "HostLocalEtcd.serverCertSANs": "More names and addresses in this member's certificate for clients.",
    "LocalEtcd.peerCertSANs": "More names and addresses in etcd's certificate for other members.",
    "LocalEtcd.serverCertSANs": "More names and addresses in etcd's certificate for clients.",
    "LocalProxyEndpoint.name": "The API server's name; by default api.<cluster name>.<dnsDomain>.",
    "VipEndpoint.name": "The API server's name; by default api.<cluster name>.<dnsDomain>.",
    "VipEndpoint.address": "An address that no machine has, in the network of all control-plane hosts.",
    "VipEndpoint.port": "Where the proxy behind it listens, on every control-plane host.",
    "VipEndpoint.interface": "Where the address is; by default the interface of the host's node address.",
    "VipEndpoint.virtualRouterId": "Which group of hosts this is, where several use VRRP in one network.",
    "OperatorAuthority.directory": "The folder of the keys; made where there is none.",
    "Networking.dnsDomain": "The domain of Services and Pods.",
    "Networking.podSubnet": "The addresses of Pods; each node gets a part.",
    "Networking.serviceSubnet": "The addresses of Services.",
}
"""What a setting is for, by model and key. Others are told by the kind of their value, or by their model."""


def schema() -> dict[str, Any]:
    """Give the JSON Schema of an inventory (draft 2020-12)."""
    made = Inventory.model_json_schema()
    definitions = {name: _plain(model) for name, model in made.pop("$defs").items()}
    top = _plain(made)
    for model, shape in {**definitions, "Inventory": top}.items():
        for key, value in shape["properties"].items():
            meaning = meaning_of(model, key) or _kind(value, definitions)
            shape["properties"][key] = {"description": meaning, **_without(value, "description")}
        told_by = [key for key, value in shape["properties"].items() if "const" in value]
        shape["required"] = list(dict.fromkeys([*told_by, *shape.get("required", [])]))
    return {"$schema": URI, "title": "kubestrap inventory", **top, "$defs": definitions}


def meaning_of(model: str, key: str) -> str | None:
    """Give what a setting is for, where its name alone does not tell."""
    return MEANINGS.get(f"{model}.{key}") or (MEANINGS.get(f"HostSsh.{key}") if model == "Ssh" else None)


def _kind(value: Any, definitions: Any) -> str:
    """Say in words what a value is."""
    if "$ref" in value:
        return str(definitions[value["$ref"].rpartition("/")[2]]["description"])
    if "anyOf" in value:
        return _kind(value["anyOf"][0], definitions)
    if "items" in value:
        return f"A list: {_kind(value['items'], definitions)}"
    if "const" in value or "enum" in value:
        return "One of: " + ", ".join(choice or '""' for choice in value.get("enum", [value.get("const")]))
    words = str(value.get("description") or _TYPES[value["type"]])
    return words[0].upper() + words[1:]


_TYPES = {"string": "text", "integer": "number", "boolean": "true or false", "object": "mapping"}


def _plain(shape: Any) -> Any:
    """Leave out what pydantic adds for itself, and close mappings whose keys have a form."""
    if isinstance(shape, list):
        return [_plain(item) for item in shape]
    if not isinstance(shape, dict):
        return shape
    if "properties" in shape:
        fields = {key: _plain(value) for key, value in shape["properties"].items()}
        return {**_plain(_without(shape, "properties")), "properties": fields}
    kept = {key: _plain(value) for key, value in shape.items() if key not in {"title", "discriminator"}}
    if kept.get("default", kept) is None:
        del kept["default"]
    if "$ref" in kept:
        kept.pop("default", None)
    if "patternProperties" in kept:
        ((pattern, value),) = kept.pop("patternProperties").items()
        kept["propertyNames"] = {"pattern": pattern}
        kept["additionalProperties"] = value
    return kept


def _without(shape: Any, key: str) -> dict[str, Any]:
    return {name: value for name, value in shape.items() if name != key}
