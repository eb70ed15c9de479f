"""Labs to measure in: machines that are prepared, the command as a user runs it, and taking a node down again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from bootstrap import lab as labs
from bootstrap import paths
from bootstrap.bundle import open_bundle
from bootstrap.bundle.gomodules import build_tool
from bootstrap.inventory import load
from bootstrap.lab import Lab, snapshots
from bootstrap.spec import Inventory

NAME = "bench"
SNAPSHOT = "bench-prepared"
ROOT = Path(__file__).parents[1]
KUBECTL = f"{paths.BINARIES}/kubectl --kubeconfig {paths.ADMIN_CONF}"
AFTER_PREPARE = (
    "certs,kubeconfig,etcd,control-plane,vip,kubelet-start,wait-control-plane,upload-config,mark-control-plane"
)
AFTER_PREPARE += ",bootstrap-token,kubelet-finalize,addon"
WIPE = f"""
systemctl disable --quiet --now kubelet
for pass in 1 2 3; do
    for id in $(ctr -n k8s.io tasks ls -q); do ctr -n k8s.io tasks rm -f "$id"; done
    for id in $(ctr -n k8s.io containers ls -q); do ctr -n k8s.io containers rm "$id"; done
done >/dev/null 2>&1
systemctl restart containerd
awk '$2 ~ "^{paths.KUBELET}/" {{ print $2 }}' /proc/mounts | sort -r | while read -r mount; do umount "$mount"; done
rm -rf {paths.KUBERNETES}/* {paths.KUBELET}/* /var/lib/etcd/* /var/lib/cni /run/flannel {paths.CNI_CONFIG}/*
for link in cni0 flannel.1; do ip link del "$link"; done 2>/dev/null
iptables -F; iptables -t nat -F; iptables -t mangle -F; iptables -X; iptables -t nat -X; iptables -t mangle -X
systemctl reset-failed
"""
"""Takes a node down to what `prepare` left, whoever made it one."""


@dataclass(frozen=True)
class Machines:
    """A lab's machines, and the operator's folder."""

    lab: Lab
    home: Path
    inventory: Path = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "inventory", self.home / "inventory.yaml")

    @property
    def master(self) -> str:
        """The name of the control plane's machine."""
        return self.lab.machines[0].name

    @property
    def workers(self) -> list[str]:
        """The names of the others."""
        return [machine.name for machine in self.lab.machines[1:]]

    def choose(self, names: Sequence[str], change: Callable[[dict[str, Any]], None] | None = None) -> Inventory:
        """Write the inventory of these machines, changed by `change`."""
        data = yaml.safe_load(self.lab.inventory.read_text())
        data["hosts"] = [
            {**host, "roles": self._roles(host["name"])} for host in data["hosts"] if host["name"] in names
        ]
        if change:
            change(data)
        self.inventory.write_text(yaml.safe_dump(data, sort_keys=False))
        return load(self.inventory)

    def _roles(self, name: str) -> list[str]:
        return ["control-plane"] if name == self.master else ["worker"]

    def command(self, *words: str) -> list[str]:
        """Give the command line of `kubestrap` with these words and the inventory."""
        cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        own = [f"HOME={self.home}", f"XDG_CACHE_HOME={cache}", f"PYTHONPATH={ROOT}"]
        return ["env", *own, sys.executable, "-m", "bootstrap", *words, "--inventory", str(self.inventory)]

    def kubestrap(self, *words: str) -> float:
        """Run a command as a user does, and give how long it took, in seconds."""
        return _timed(self.command(*words))

    def ssh(self, machine: str, command: str, stdin: bytes = b"") -> float:
        """Run a command on a machine by OpenSSH's client, and give how long it took, in seconds."""
        return _timed(self.lab.ssh(machine, command, user="root"), stdin)

    def output(self, machine: str, command: str) -> str:
        """Give what a command on a machine writes."""
        ran = subprocess.run(
            self.lab.ssh(machine, command, user="root"), capture_output=True, text=True, timeout=600, check=True
        )
        return ran.stdout

    def wipe(self, *machines: str) -> None:
        """Leave of Kubernetes on these machines what `prepare` left, and of their Nodes nothing."""
        for machine in machines:
            if machine != self.master:
                self.output(self.master, f"{KUBECTL} delete node {machine} --ignore-not-found")
            self.wipe_here(machine)

    def wipe_here(self, machine: str) -> None:
        """Leave of Kubernetes on this machine what `prepare` left; nothing is asked of its cluster."""
        subprocess.run(self.lab.ssh(machine, WIPE, user="root"), capture_output=True, timeout=600, check=False)

    def install_kubeadm(self, *machines: str) -> None:
        """Put kubeadm, built from the pinned modules, on these machines."""
        program = build_tool("kubeadm").read_bytes()
        for machine in machines:
            self.ssh(machine, "cat > /usr/local/bin/kubeadm && chmod 755 /usr/local/bin/kubeadm", program)


def kubeadm_config(inventory: Inventory, address: str) -> bytes:
    """Write kubeadm's configuration for what the inventory of a lab says."""
    cluster = inventory.cluster
    bundle = open_bundle(None, kubernetes_version=cluster.kubernetes_version, platform="linux/amd64")
    tags = {name: bundle.contents.image(name).reference.rpartition(":")[2] for name in ("etcd", "coredns")}
    documents = [
        {
            "apiVersion": "kubeadm.k8s.io/v1beta4",
            "kind": "InitConfiguration",
            "localAPIEndpoint": {"advertiseAddress": address},
            "nodeRegistration": {"criSocket": paths.CONTAINERD_SOCKET},
        },
        {
            "apiVersion": "kubeadm.k8s.io/v1beta4",
            "kind": "ClusterConfiguration",
            "clusterName": cluster.name,
            "kubernetesVersion": f"v{cluster.kubernetes_version}",
            "controlPlaneEndpoint": cluster.control_plane_endpoint,
            "encryptionAlgorithm": cluster.encryption_algorithm,
            "networking": cluster.networking.model_dump(mode="json", by_alias=True),
            "etcd": {"local": {"imageTag": tags["etcd"]}},
            "dns": {"imageTag": tags["coredns"]},
        },
        {"apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration", **cluster.kubelet.config},
        {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            **cluster.kube_proxy.config,
        },
    ]
    return yaml.safe_dump_all(json.loads(json.dumps(documents)), encoding="utf-8")


@contextmanager
def bare(machines: int, name: str = NAME) -> Iterator[Machines]:
    """Have machines on which nothing of Kubernetes is."""
    with _lab(name, machines, None) as there:
        yield there


@contextmanager
def prepared(machines: int) -> Iterator[Machines]:
    """Have machines that our `prepare` prepared: container runtime, kubelet and all images are there."""
    if not snapshots.exists(SNAPSHOT):
        say("preparing a machine, and keeping it as a snapshot")
        with bare(1, f"{NAME}-prepare") as one:
            one.choose([one.master])
            one.kubestrap("init", "--skip-phases", AFTER_PREPARE)
            labs.save(one.lab, one.master, SNAPSHOT)
    with _lab(NAME, machines, SNAPSHOT) as there:
        yield there


def forget() -> None:
    """Take the snapshot away: another version of kubestrap may prepare otherwise."""
    snapshots.remove(SNAPSHOT)


@contextmanager
def _lab(name: str, machines: int, snapshot: str | None) -> Iterator[Machines]:
    labs.down(name)
    try:
        with TemporaryDirectory(prefix="kubestrap-bench-") as home:
            say(f"bringing up {machines} machine{'s' if machines > 1 else ''}")
            yield Machines(labs.up(name, machines=machines, snapshot=snapshot), Path(home))
    finally:
        labs.down(name)


def say(text: str) -> None:
    """Tell how it goes."""
    print(f"# {text}", file=sys.stderr, flush=True)


def _timed(command: Sequence[str], stdin: bytes = b"") -> float:
    started = time.monotonic()
    ran = subprocess.run(command, input=stdin, capture_output=True, timeout=1800, check=False)
    seconds = time.monotonic() - started
    if ran.returncode:
        sys.exit(f"{command}: {ran.returncode}\n{ran.stdout.decode()}\n{ran.stderr.decode()}")
    return seconds
