"""k0sctl's Cluster: hosts, how to log in to them, and what k0s' configuration has like ours."""

from __future__ import annotations

from typing import Any

from bootstrap.importing.draft import Draft, Given, arguments, jump, labels, taints

_ROLES = {
    "controller": ["control-plane"],
    "server": ["control-plane"],
    "worker": ["worker"],
    "controller+worker": ["control-plane", "worker"],
    "server+worker": ["control-plane", "worker"],
    "single": ["control-plane", "worker"],
}
_CONFIG = {
    "spec.network.podCIDR": "networking.podSubnet",
    "spec.network.serviceCIDR": "networking.serviceSubnet",
    "spec.network.clusterDomain": "networking.dnsDomain",
    "spec.network.kubeProxy.disabled": "kubeProxy.disabled",
    "spec.network.kubeProxy.mode": "kubeProxy.config.mode",
    "spec.api.sans": "apiServer.certSANs",
}


def draft(data: Any, name: str) -> Draft:
    """Read a k0sctl.yaml."""
    made, given = Draft(name), Given(data)
    for key in ("apiVersion", "kind"):
        given.take(key)
    made.set("name", given.text("metadata.name"))
    made.version(f"{name}: spec.k0s.version", given.take("spec.k0s.version"))
    for index, host in enumerate(given.given("spec.hosts")):
        _host(made, host, f"{name}: spec.hosts[{index}]")
    _config(made, Given(given.take("spec.k0s.config", dict)), f"{name}: spec.k0s.config")
    made.left(name, given.left())
    return made


def _host(made: Draft, host: Given, where: str) -> None:
    role = host.text("role") or ""
    way = next((way for way in ("ssh", "openSSH") if f"{way}.address" in host.left()), None)
    if role not in _ROLES or way is None:
        why = f"the role {role or '(none)'} is not known" if role not in _ROLES else "it has no SSH address"
        made.note(where, f"the host is left out: {why}")
        return
    bastion = Given(host.take(f"{way}.bastion", dict))
    address = host.text(f"{way}.address")
    login = {
        "user": host.text(f"{way}.user"),
        "port": host.number(f"{way}.port"),
        "identityFile": host.text(f"{way}.keyPath"),
        "proxyJump": jump(bastion.text("user"), bastion.text("address"), bastion.number("port")),
    }
    flags = dict(_flag(flag) for flag in host.take("installFlags", list) or ())
    roles = _ROLES[role]
    untainted = host.take("noTaints", bool)
    made.host(
        host.text("hostname") or (address if address and not address[-1:].isdigit() else None),
        address,
        roles if not untainted or "worker" in roles else [*roles, "worker"],
        where,
        nodeAddress=host.text("privateAddress"),
        labels=labels(flags.pop("--labels", None)),
        taints=taints(flags.pop("--taints", None)),
        ssh={key: value for key, value in login.items() if value},
    )
    made.left(f"{where}.installFlags", list(flags))
    made.left(f"{where}.{way}.bastion", bastion.left())
    made.left(where, host.left())


def _flag(text: object) -> tuple[str, str]:
    name, _, value = str(text).strip().replace(" ", "=", 1).partition("=")
    return name, value.strip("\"'")


def _config(made: Draft, config: Given, where: str) -> None:
    for key in ("apiVersion", "kind", "metadata.name"):
        config.take(key)
    for theirs, ours in _CONFIG.items():
        made.set(ours, config.take(theirs))
    made.network(f"{where}.spec.network.provider", config.text("spec.network.provider"))
    for theirs, ours in (("api", "apiServer"), ("controllerManager", "controllerManager"), ("scheduler", "scheduler")):
        made.set(f"{ours}.extraArgs", arguments(config.take(f"spec.{theirs}.extraArgs", dict)))
    external, port = config.text("spec.api.externalAddress"), config.number("spec.api.port")
    if external:
        made.set("endpoint", {"kind": "external", "name": external, **({"port": port} if port else {})})
    elif port:
        made.set("endpoint", {"kind": "local-proxy", "port": port})
    made.left(where, config.left())
