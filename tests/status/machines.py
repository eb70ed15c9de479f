"""Machines of a cluster for `status`: real files and the real script, with a kubectl that answers from a folder."""

from __future__ import annotations

import dataclasses
import datetime
import functools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from bootstrap import kubeconfig, paths
from bootstrap.connections import Connections
from bootstrap.errors import BootstrapError, ConnectionLost, Unreachable
from bootstrap.site import Node
from bootstrap.spec import Cluster, Host
from bootstrap.transport.base import Result
from bootstrap.transport.local import LocalHost
from tests.etcd.members import Etcd, Member

HOSTS = {"cp1": "control-plane", "cp2": "control-plane", "w1": "worker"}
INVENTORY = "apiVersion: kubestrap.io/v1alpha1\nkind: Inventory\nhosts:\n" + "".join(
    f"  - {{name: {name}, address: 192.0.2.{number}, roles: [{role}]}}\n"
    for number, (name, role) in enumerate(HOSTS.items(), 1)
)
_KUBECTL = """#!/bin/sh
for path; do :; done
case $* in *--server*) from=api ;; *) from=endpoint ;; esac
[ "$path" = /readyz ] && path=/readyz-$from
file=$(dirname "$0")/answers/$(printf %s "$path" | tr '/?%=' ____)
[ ! -f "$file.refused" ] || { cat "$file.refused" >&2; exit 1; }
cat "$file"
"""


def node(name: str, *, ready: bool = True, version: str = "v1.37.2") -> dict[str, Any]:
    conditions = [{"type": "Ready", "status": "True" if ready else "Unknown"}]
    info = {"kubeletVersion": version, "containerRuntimeVersion": "containerd://2.3.1"}
    addresses = [{"type": "InternalIP", "address": "10.0.0.1"}]
    return {
        "metadata": {"name": name},
        "status": {"conditions": conditions, "nodeInfo": info, "addresses": addresses},
    }


def pod(component: str, host: str, *, ready: bool = True) -> dict[str, Any]:
    spec = {"nodeName": host, "containers": [{"image": f"registry.example:5000/{component}:v1.37.2"}]}
    status = {"conditions": [{"type": "Ready", "status": str(ready)}]}
    return {"metadata": {"name": f"{component}-{host}", "labels": {"component": component}}, "spec": spec} | {
        "status": status
    }


def workload(name: str, ready: int, wanted: int, version: str) -> dict[str, Any]:
    template = {"spec": {"containers": [{"image": f"registry.example/{name}:v{version}@sha256:00"}]}}
    status = {"numberReady": ready, "desiredNumberScheduled": wanted}
    return {"metadata": {"name": name}, "spec": {"template": template}, "status": status}


class Machine(LocalHost):
    """A machine whose files are below `root`."""

    def __init__(self, name: str, root: Path, etcd: Etcd, lost: Set[str]) -> None:
        super().__init__(name)
        self.lost = lost
        self.root = root
        self.etcd = etcd
        self.asked = 0
        program = root / "kubectl"
        program.write_text(_KUBECTL)
        program.chmod(0o755)
        (root / "answers").mkdir()
        (root / "bin").mkdir()
        self.units("active")

    def units(self, state: str) -> None:
        program = self.root / "bin" / "systemctl"
        program.write_text(f"#!/bin/sh\necho {state}\n")
        program.chmod(0o755)

    def answer(self, path: str, answer: object = None, *, refused: str = "") -> None:
        """Have kubectl answer so to `path`; `/readyz-api` and `/readyz-endpoint` tell both ways to ask apart."""
        name = "".join("_" if letter in "/?%=" else letter for letter in path)
        file = self.root / "answers" / (f"{name}.refused" if refused else name)
        file.write_text(refused or (answer if isinstance(answer, str) else json.dumps(answer)))

    def run(
        self,
        command: str,
        *,
        stdin: bytes | Iterable[bytes] = b"",
        seconds: float,
        on_line: Callable[[bytes], None] | None = None,
    ) -> Result:
        if self.name in self.lost:
            raise ConnectionLost(self.name, "the connection is lost")
        if "kubectl create" in command:
            return Member(self.name, self.etcd).run(command, stdin=stdin, seconds=seconds, on_line=on_line)
        self.asked += 1
        for path in (paths.KUBERNETES, paths.KUBELET):
            command = command.replace(path, f"{self.root}{path}")
        command = command.replace(f"{paths.BINARIES}/kubectl", f"{self.root}/kubectl")
        result = super().run(f"PATH={self.root}/bin:$PATH; {command}", stdin=stdin, seconds=seconds, on_line=on_line)
        return dataclasses.replace(result, stdout=result.stdout.replace(f"{self.root}/".encode(), b"/"))


@functools.cache
def files() -> Mapping[str, Mapping[str, bytes]]:
    """PKI and kubeconfigs of the control planes."""
    masters = [name for name, role in HOSTS.items() if role == "control-plane"]
    hosts = [
        Host.model_validate({"name": name, "address": "192.0.2.1", "roles": ["control-plane"]}) for name in masters
    ]
    nodes = [Node(host, f"10.0.0.{number}") for number, host in enumerate(hosts, 1)]
    return kubeconfig.site_files(Cluster(), nodes, datetime.datetime.now(datetime.UTC))


class Machines:
    """A cluster that is well, until a test says otherwise; `lost` hosts cannot be reached."""

    def __init__(self, folder: Path) -> None:
        self.etcd = Etcd(("cp1", "cp2"))
        self.lost: set[str] = set()
        self.held: dict[str, Machine] = {}
        self.connections = 0
        for name, role in HOSTS.items():
            root = folder / name
            root.mkdir()
            machine = self.held[name] = Machine(name, root, self.etcd, self.lost)
            for path, data in files().get(name, {}).items():
                file = Path(f"{root}{path}")
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(data)
            if role == "worker":
                conf = Path(f"{root}{paths.KUBELET_CONF}")
                conf.parent.mkdir(parents=True)
                conf.write_text(yaml.safe_dump({"users": []}))
            machine.answer("/readyz-endpoint", "ok")
            machine.answer("/readyz-api", "ok")
        masters = [name for name, role in HOSTS.items() if role == "control-plane"]
        kinds = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
        self.answer("/api/v1/nodes", [node(name) for name in HOSTS])
        self.answer(
            "/api/v1/namespaces/kube-system/pods?labelSelector=tier%3Dcontrol-plane",
            [pod(kind, name) for kind in kinds for name in masters],
        )
        self.answer("/apis/apps/v1/namespaces/kube-system/daemonsets", [workload("kube-proxy", 3, 3, "1.37.2")])
        coredns = workload("coredns", 0, 0, "1.14.0") | {"status": {"readyReplicas": 2}}
        coredns["spec"]["replicas"] = 2
        self.answer("/apis/apps/v1/namespaces/kube-system/deployments", [coredns])
        self.answer("/apis/apps/v1/namespaces/kube-flannel/daemonsets", [workload("kube-flannel-ds", 3, 3, "0.28.0")])

    def answer(self, path: str, items: list[Any]) -> None:
        """Have every API server answer so."""
        for machine in self.held.values():
            machine.answer(path, {"items": items})

    @contextmanager
    def connected(self, _: object, machines: Any) -> Iterator[Connections]:
        """Stand for `bootstrap.connections.connected`."""
        self.connections += 1
        names = [machine.name for machine in machines]
        lost: dict[str, BootstrapError] = {
            name: Unreachable(name, "no route to it") for name in names if name in self.lost
        }
        yield Connections({name: self.held[name] for name in names if name not in self.lost}, lost)
