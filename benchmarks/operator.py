"""What needs no machines: planning for thousands of hosts, and the command's start."""

from __future__ import annotations

import datetime
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.report import medians

HOSTS = 5000
ROOT = Path(__file__).parents[1]


def plan5000(runs: int) -> None:
    """Plan `init` and `join` of 5,000 hosts in memory, each time in a process of its own."""
    seconds, megabytes = [], []
    for _ in range(runs):
        ran = subprocess.run(
            [sys.executable, "-c", "from benchmarks.operator import plan_once; plan_once()"],
            capture_output=True,
            text=True,
            check=True,
            timeout=600,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        took, peak = map(float, ran.stdout.split())
        seconds.append(took)
        megabytes.append(peak)
    medians(f"plan of {HOSTS:,} hosts (goal: at most 3 s)", {"plan": seconds})
    medians("peak of the process, Python and all modules in it (goal: at most 200 MB)", {"plan": megabytes}, "MB")


def plan_once() -> None:
    """Plan once, and print the seconds it took and the process's peak of memory in MB."""
    from bootstrap import kubeconfig, paths, phases, plan
    from bootstrap.phases import kubelet
    from bootstrap.site import Artifact, Contents, Facts, ImageArtifact, Joining, Node, Site, Token
    from bootstrap.spec import Cluster, Host

    names = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "etcd", "coredns", "pause")
    images = [ImageArtifact(name, f"registry.k8s.io/{name}:v1", "sha256:" + "0" * 64, "0" * 64, 1) for name in names]
    images += [
        ImageArtifact(name, f"example.org/{name}:v1", "sha256:" + "0" * 64, "0" * 64, 1)
        for name in ("flannel", "agnhost")
    ]
    binaries = [
        Artifact(f"{paths.BINARIES}/{name}", "0" * 64, 1)
        for name in ("containerd", "ctr", "runc", "kubelet", "kubectl")
    ]
    contents = Contents("1.37.2", "linux/amd64", tuple(binaries), tuple(images))
    cluster = Cluster()
    nodes = []
    for number in range(HOSTS):
        address = f"10.{16 + number // 62500}.{number // 250 % 250}.{1 + number % 250}"
        name, role = f"host-{number:05}", "worker" if number else "control-plane"
        host = Host.model_validate({"name": name, "address": address, "roles": [role]})
        nodes.append(Node(host, address, Facts(addresses=(address,), hostname=name)))
    files = kubeconfig.site_files(cluster, nodes[:1], datetime.datetime.now(datetime.UTC))
    joining = Joining(
        server=f"https://{cluster.control_plane_endpoint}",
        ca=files[nodes[0].name][f"{paths.PKI}/ca.crt"],
        token=Token("abcdef", "0123456789abcdef"),
        kubelet_config=kubelet.cluster_config(cluster),
        dns_domain=cluster.networking.dns_domain,
    )
    site = Site(cluster, tuple(nodes), contents, files, joining)
    started = time.monotonic()
    plans = [plan.build(phases.INIT, site, nodes=nodes[:1]), plan.build(phases.JOIN, site, nodes=nodes[1:])]
    seconds = time.monotonic() - started
    assert sum(len(one.tasks) for one in plans) > HOSTS
    print(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000)


def help_(runs: int) -> None:
    """Start the command for its help."""
    times = []
    for _ in range(max(runs, 20)):
        started = time.monotonic()
        subprocess.run(
            [sys.executable, "-m", "bootstrap", "--help"],
            capture_output=True,
            check=True,
            timeout=60,
            cwd=ROOT,
        )
        times.append(1000 * (time.monotonic() - started))
    medians("kubestrap --help (goal: at most 150 ms)", {"help": times}, "ms")
