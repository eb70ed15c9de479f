"""Ansible's inventories, with kubespray's groups and variables."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from bootstrap.importing import draft
from bootstrap.importing.draft import Draft, Imported
from bootstrap.importing.files import Encrypted
from bootstrap.importing.groups import Groups, Variable, Variables, read, read_folder

_CONTROL = (
    "kube_control_plane",
    "kube-controlplane",
    "kube-master",
    "kube_master",
    "control_plane",
    "controlplane",
    "masters",
    "master",
)
_NODES = ("kube_node", "kube-node", "workers", "worker", "nodes", "node")
_ETCD = ("etcd",)
_BASTION = ("bastion",)
_SECRETS = re.compile(r"ansible_(ssh_|become_|sudo_|su_)?pass(word)?")
_SIMPLE = re.compile(r"\{\{\s*(\w+)\s*\}\}")
_JUMP = re.compile(
    r"(?:-J\s*|ProxyJump[= ])([^\s'\"]+)|ssh\b[^'\"]*-W\s+(?:'?%h:%p'?|\[%h\]:%p)\s(?:[^'\"]*\s)?([^\s'\"-][^\s'\"]*)"
)
_FLAGS = {
    "kube_kubeadm_apiserver_extra_args": "apiServer.extraArgs",
    "kube_kubeadm_controller_extra_args": "controllerManager.extraArgs",
    "kube_kubeadm_scheduler_extra_args": "scheduler.extraArgs",
}
_AS_THEY_ARE = {
    "kube_service_addresses": "networking.serviceSubnet",
    "kube_pods_subnet": "networking.podSubnet",
    "supplementary_addresses_in_ssl_keys": "apiServer.certSANs",
    "etcd_data_dir": "etcd.local.dataDir",
    "flannel_backend_type": "addons.flannel.backend",
    "kube_proxy_mode": "kubeProxy.config.mode",
    "kube_proxy_remove": "kubeProxy.disabled",
    "kubelet_max_pods": "kubelet.config.maxPods",
}
_ONLY = {
    "container_manager": ("containerd", "containerd is the runtime that is installed"),
    "etcd_deployment_type": ("kubeadm", "etcd runs as a static Pod, as kubeadm has it"),
    "kube_network_node_prefix": (24, "every node gets a /24 of the Pod subnet"),
    "ansible_become": (True, "commands run as root, by sudo where the login is not root's"),
    "ansible_become_user": ("root", "commands run as root, by sudo where the login is not root's"),
    "ansible_become_method": ("sudo", "commands run as root, by sudo where the login is not root's"),
    "ansible_connection": ("ssh", "machines are reached by SSH"),
    "enable_dual_stack_networks": (False, "networks are of one address family"),
    "kube_encrypt_secret_data": (False, "Secrets are not encrypted in etcd"),
    "kubernetes_audit": (False, "auditing is set up by apiServer.extraArgs and extraVolumes"),
}


def file(path: Path, text: str, name: str) -> Imported:
    """Make an inventory of an inventory file, and of group_vars and host_vars beside it."""
    return _Reader(read(path, text, name), name).draft().finish()


def folder(path: Path) -> Imported:
    """Make an inventory of a folder that holds inventory files, group_vars and host_vars."""
    return _Reader(read_folder(path), str(path)).draft().finish()


def _number(value: Any) -> Any:
    return int(value) if str(value).isdecimal() else value


def jump_host(arguments: str) -> str | None:
    """Give the jump host that arguments of ssh name, by -J, ProxyJump or a ProxyCommand of `ssh -W`."""
    found = _JUMP.search(arguments)
    return (found[1] or found[2]) if found else None


class _Reader:
    def __init__(self, groups: Groups, source: str) -> None:
        self.groups = groups
        self.made = Draft(source)
        self.used: set[str] = set()

    def draft(self) -> Draft:
        masters, workers, etcd = (self._members(names) for names in (_CONTROL, _NODES, _ETCD))
        for path in self.groups.encrypted:
            self.made.note(path, "it is encrypted by ansible-vault, and was not read")
        bastion = self._bastion()
        for name in dict.fromkeys([*masters, *workers, *etcd]):
            roles = [role for role, members in (("control-plane", masters), ("worker", workers)) if name in members]
            if not roles:
                roles = ["etcd"]
            self._host(name, roles, bastion)
        alone = [name for name in etcd if name not in (*masters, *workers)]
        if alone and (lost := [name for name in etcd if name not in alone]):
            self.made.note(
                self.made.source, f"etcd runs on {', '.join(alone)} alone here, and not on {', '.join(lost)}"
            )
        elif etcd and not alone and (more := [name for name in masters if name not in etcd]):
            self.made.note(self.made.source, f"etcd runs on every control-plane host here, also on {', '.join(more)}")
        if masters:
            self._cluster(self.groups.variables(masters[0]))
        roled = {*masters, *workers, *etcd, *self._members(_BASTION)}
        self.made.left(self.made.source, [f"the host {name}" for name in self.groups.hosts if name not in roled])
        self._leftovers()
        return self.made

    def _members(self, names: tuple[str, ...]) -> list[str]:
        return list(dict.fromkeys(host for name in names for host in self.groups.members(name)))

    def take(self, variables: Variables, name: str) -> Any:
        """Give a variable's value, worked out as far as it only names others; None where there is none."""
        found = variables.get(name)
        if found is None:
            return None
        self.used.add(name)
        value = self._resolved(found.value, variables, name, found, 0)
        return None if value is None or value == "" else value

    def _resolved(self, value: Any, variables: Variables, name: str, found: Variable, depth: int) -> Any:
        if isinstance(value, Encrypted):
            self.made.note(found.where, f"{name} is encrypted by ansible-vault, and was not read")
            return None
        if not isinstance(value, str) or ("{{" not in value and "{%" not in value):
            return value
        simple = _SIMPLE.fullmatch(value.strip())
        other = variables.get(simple[1]) if simple else None
        if other is None or depth > 10:
            self.made.note(found.where, f"{name} is an expression that only Ansible can work out, and is left out")
            return None
        return self._resolved(other.value, variables, name, found, depth + 1)

    def _bastion(self) -> str | None:
        hosts = self._members(_BASTION)
        if not hosts:
            return None
        mine = self.groups.variables(hosts[0])
        self.made.left(self.made.source, [f"the bastion {name}" for name in hosts[1:]])
        user, address, port = self._login(mine)
        self.take(mine, "ansible_ssh_private_key_file")
        return draft.jump(user, address or hosts[0], port)

    def _login(self, mine: Variables) -> tuple[Any, Any, Any]:
        user, address, port = (
            next(
                (
                    value
                    for name in (f"ansible_{what}", f"ansible_ssh_{what}")
                    if (value := self.take(mine, name)) is not None
                ),
                None,
            )
            for what in ("user", "host", "port")
        )
        return user, address, _number(port)

    def _host(self, name: str, roles: list[str], bastion: str | None) -> None:
        mine = self.groups.variables(name)
        user, address, port = self._login(mine)
        key = self.take(mine, "ansible_ssh_private_key_file") or self.take(mine, "ansible_private_key_file")
        node, access = self.take(mine, "ip"), self.take(mine, "access_ip")
        if access and access != (node or address):
            self.made.note(
                mine["access_ip"].where,
                f"{name}: machines reach each other by one address, nodeAddress: {node or access}",
            )
        login = {"user": user, "port": port, "identityFile": key, "proxyJump": self._jump(mine) or bastion}
        self.made.host(
            name,
            address or node or access or name,
            roles,
            self.made.source,
            nodeAddress=node or access,
            labels=draft.labels(self.take(mine, "node_labels")),
            taints=draft.taints(self.take(mine, "node_taints")),
            ssh={key: value for key, value in login.items() if value is not None},
        )
        for variable in mine:
            if _SECRETS.fullmatch(variable):
                self.used.add(variable)
                self.made.note(
                    mine[variable].where, f"{variable}: passwords do not stand in inventories, and it is left out"
                )
        self._only(mine)

    def _jump(self, mine: Variables) -> str | None:
        for variable in ("ansible_ssh_common_args", "ansible_ssh_extra_args"):
            text = str(self.take(mine, variable) or "")
            found = jump_host(text)
            if "StrictHostKeyChecking" in text:
                what = "host keys are always checked; log in once by hand, or name a known_hosts file"
                self.made.note(mine[variable].where, f"{variable}: {what}")
            elif text and not found:
                self.made.note(mine[variable].where, f"{variable} is left out; write it into ~/.ssh/config")
            if found:
                return found
        return None

    def _only(self, mine: Variables) -> None:
        for variable, (fits, why) in _ONLY.items():
            value = self.take(mine, variable)
            if value is not None and value != fits:
                self.made.note(mine[variable].where, f"{variable}: {value} is left out: {why}")

    def _cluster(self, mine: Variables) -> None:
        made = self.made
        if "kube_version" in mine:
            made.version(f"{mine['kube_version'].where}: kube_version", self.take(mine, "kube_version"))
        for variable, setting in _AS_THEY_ARE.items():
            made.set(setting, self.take(mine, variable))
        cluster_name = self.take(mine, "cluster_name")
        made.set("networking.dnsDomain", self.take(mine, "dns_domain") or cluster_name)
        if self.take(mine, "kube_proxy_strict_arp"):
            made.set("kubeProxy.config.ipvs.strictARP", value=True)
        for variable, setting in _FLAGS.items():
            made.set(setting, draft.arguments(self.take(mine, variable)))
        flags = self.take(mine, "kubelet_custom_flags")
        listed = flags if isinstance(flags, list) else [] if flags is None else [flags]
        pairs = [str(flag).lstrip("-").partition("=") for flag in listed]
        made.set("kubelet.extraArgs", [{"name": name, "value": value} for name, _, value in pairs] or None)
        config = self.take(mine, "kubelet_config_extra_args")
        for key, value in config.items() if isinstance(config, dict) else ():
            made.set(f"kubelet.config.{key}", value)
        plugin = mine.get("kube_network_plugin")
        if plugin:
            made.network(f"{plugin.where}: kube_network_plugin", self.take(mine, "kube_network_plugin"))
        if (mode := self.take(mine, "dns_mode")) == "none":
            made.set("addons.coredns.disabled", value=True)
        elif mode not in (None, "coredns"):
            made.note(mine["dns_mode"].where, f"dns_mode: {mode} is left out: CoreDNS is installed")
        self._endpoint(mine)

    def _endpoint(self, mine: Variables) -> None:
        port = _number(self.take(mine, "kube_apiserver_port"))
        balancer = self.take(mine, "loadbalancer_apiserver")
        name = self.take(mine, "apiserver_loadbalancer_domain_name")
        self.take(mine, "loadbalancer_apiserver_localhost")
        if isinstance(balancer, dict) and balancer.get("address"):
            at = _number(balancer.get("port")) or port
            endpoint = {"kind": "external", "name": str(balancer["address"]), "port": at}
            sans = self.made.cluster.get("apiServer", {}).get("certSANs") or []
            self.made.set("apiServer.certSANs", [*(sans if isinstance(sans, list) else [sans]), name] if name else None)
        else:
            endpoint = {"kind": "local-proxy", "name": name, "port": port}
        if endpoint["kind"] == "external" or name or port != 6443:
            kept = {key: value for key, value in endpoint.items() if value is not None}
            self.made.set("endpoint", kept if len(kept) > 1 else None)

    def _leftovers(self) -> None:
        """Tell what was not looked at, by file."""
        found: dict[str, dict[str, None]] = {}
        everything = [group.variables for group in self.groups.groups.values()]
        everything += [group.late for group in self.groups.groups.values()]
        everything += self.groups.hosts.values()
        for variables in everything:
            for name, variable in variables.items():
                if name not in self.used and variable.value is not None:
                    found.setdefault(variable.file, {})[name] = None
        for file_name, names in found.items():
            self.made.left(file_name, list(names))
