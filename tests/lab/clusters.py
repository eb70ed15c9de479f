"""A cluster of the tests: a lab, an inventory on its machines, and the commands as a user types them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import yaml

from bootstrap import paths
from bootstrap.lab.labs import Lab

ROOT = Path(__file__).parents[2]
KUBECTL = f"{paths.BINARIES}/kubectl --kubeconfig {paths.ADMIN_CONF}"

ETCDCTL = (
    "ctr -n k8s.io tasks exec --exec-id test-$$ $(ctr -n k8s.io containers ls -q "
    "'labels.\"io.kubernetes.container.name\"==etcd' | while read -r id; do "
    'ctr -n k8s.io tasks ls | grep -q "^$id .*RUNNING" && echo $id; done) etcdctl '
    "--cacert /etc/kubernetes/pki/etcd/ca.crt --cert /etc/kubernetes/pki/etcd/healthcheck-client.crt "
    "--key /etc/kubernetes/pki/etcd/healthcheck-client.key --endpoints https://127.0.0.1:2379 --write-out json"
)


def changes(stderr: str) -> list[str]:
    """List the steps that a run says it changed: the indented lines."""
    return [line.strip() for line in stderr.splitlines() if line.startswith("    ")]


@dataclass(frozen=True)
class Cluster:
    """The machines, and the folder that holds the inventory and everything that the operator keeps.

    `within` begins the command line of every run of `kubestrap`.
    """

    lab: Lab
    home: Path
    within: tuple[str, ...] = ()

    @property
    def inventory(self) -> Path:
        return self.home / "inventory.yaml"

    @property
    def master(self) -> str:
        return self.lab.machines[0].name

    def write_inventory(self, hosts: Sequence[str], change: Callable[[dict[str, Any]], None] | None = None) -> Path:
        """Write an inventory of these machines of the lab, as the lab describes them, changed by `change`."""
        data = yaml.safe_load(self.lab.inventory.read_text())
        data["hosts"] = [host for host in data["hosts"] if host["name"] in hosts]
        if change:
            change(data)
        self.inventory.write_text(yaml.safe_dump(data, sort_keys=False))
        return self.inventory

    @property
    def environment(self) -> dict[str, str]:
        """What the command sees: neither podman nor anything else on PATH."""
        return {
            "HOME": str(self.home),
            "PATH": "/nonexistent",
            "PYTHONPATH": str(ROOT),
            "XDG_CACHE_HOME": os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache"),
            "LANG": "C.UTF-8",
        }

    def start(
        self,
        *arguments: str | Path,
        stdout: int | IO[str] = subprocess.DEVNULL,
        stderr: int | IO[str] = subprocess.PIPE,
    ) -> subprocess.Popen[str]:
        """Start a command, one of whose streams (its stderr, unless told otherwise) is read while it runs."""
        return subprocess.Popen(
            [
                *self.within,
                sys.executable,
                *([] if arguments[0] == "-c" else ["-m", "bootstrap"]),
                *map(str, arguments),
            ],
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            text=True,
            env=self.environment,
            cwd=self.home,
        )

    def kubestrap(
        self, *arguments: str | Path, stdin: str | None = None, status: int | None = 0, seconds: float = 900
    ) -> subprocess.CompletedProcess[str]:
        """Run a command with neither podman nor anything else on PATH, and check its exit status."""
        return self.python("-m", "bootstrap", *arguments, stdin=stdin, status=status, seconds=seconds)

    def python(
        self, *arguments: str | Path, stdin: str | None = None, status: int | None = 0, seconds: float = 900
    ) -> subprocess.CompletedProcess[str]:
        """Run Python as `kubestrap` runs the command."""
        ran = subprocess.run(
            [*self.within, sys.executable, *map(str, arguments)],
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            env=self.environment,
            cwd=self.home,
            timeout=seconds,
            check=False,
        )
        if status is not None:
            assert ran.returncode == status, f"{arguments}: {ran.returncode}\n{ran.stdout}\n{ran.stderr}"
        assert "Traceback" not in ran.stderr, ran.stderr
        return ran

    def verify_but(self, *checks: str) -> None:
        """Make all checks of `verify` but these, and have them pass."""
        listed = [line.split()[0] for line in self.kubestrap("verify", "--list").stdout.splitlines()]
        self.kubestrap("verify", "--only", ",".join(name for name in listed if name not in checks))

    def ssh(
        self, machine: str, command: str, *, stdin: str = "", seconds: float = 300
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on a machine as root, by OpenSSH's client."""
        return subprocess.run(
            self.lab.ssh(machine, command, user="root"),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )

    def on(self, machine: str, command: str, *, stdin: str = "", seconds: float = 300) -> str:
        """Give what a command on a machine writes; it must succeed."""
        ran = self.ssh(machine, command, stdin=stdin, seconds=seconds)
        assert ran.returncode == 0, f"{machine}: {command}: {ran.returncode}\n{ran.stdout}\n{ran.stderr}"
        return ran.stdout

    def kubectl(self, command: str, *, stdin: str = "", seconds: float = 300) -> str:
        """Run kubectl on the control-plane machine with admin rights."""
        return self.on(self.master, f"{KUBECTL} {command}", stdin=stdin, seconds=seconds)

    def get(self, what: str) -> Any:
        """Give what `kubectl get WHAT -o json` gives."""
        return json.loads(self.kubectl(f"get {what} -o json"))

    def containers(self, machine: str) -> Mapping[str, str]:
        """Give the running containers of a machine: id by name and Pod."""
        listed = self.on(
            machine,
            "for id in $(ctr -n k8s.io tasks ls | awk 'NR > 1 && $3 == \"RUNNING\" { print $1 }'); do "
            "ctr -n k8s.io containers info $id | tr -d '\\n' | sed 's/$/\\n/'; done",
        )
        found = {}
        for line in listed.splitlines():
            info = json.loads(line)
            labels = info["Labels"]
            name = labels.get("io.kubernetes.container.name", "sandbox")
            found[f"{labels['io.kubernetes.pod.namespace']}/{labels['io.kubernetes.pod.name']}/{name}"] = info["ID"]
        return found

    def wait_ready(self, nodes: Sequence[str], *, seconds: int = 300) -> None:
        """Wait until Nodes are Ready."""
        names = " ".join(f"node/{node}" for node in nodes)
        self.kubectl(f"wait --for=condition=Ready --timeout={seconds}s {names}", seconds=seconds + 60)


def members(cluster: Cluster, machine: str) -> dict[str, Any]:
    """Give etcd's members as `etcdctl member list` on a machine tells them."""
    found: dict[str, Any] = json.loads(cluster.on(machine, f"{ETCDCTL} member list"))
    return found
