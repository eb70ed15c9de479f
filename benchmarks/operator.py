"""What needs no machines: planning for thousands of hosts, the command's start, and what an installation takes."""

from __future__ import annotations

import datetime
import sys
import time
import tomllib
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from benchmarks.processes import ROOT, peak, ran
from benchmarks.report import medians, ratio

if TYPE_CHECKING:
    from bootstrap.site import Site

HOSTS = 5000
SMALL, LARGE = 10, 1000  # hosts of the inventories to which one is added
STARTS = 20  # how often at least a command is started that takes less than a second


def plan5000(runs: int) -> None:
    """Plan `init` and `join` of 5,000 hosts in memory, each time in a process of its own."""
    seconds, megabytes = [], []
    for _ in range(runs):
        done = ran(sys.executable, "-c", "from benchmarks.operator import plan_once; plan_once()", limit=600)
        took, peak = map(float, done.stdout.split())
        seconds.append(took)
        megabytes.append(peak)
    medians(f"plan of {HOSTS:,} hosts (goal: at most 3 s)", {"plan": seconds})
    medians("peak of the process, Python and all modules in it (goal: at most 200 MB)", {"plan": megabytes}, "MB")


def plan_once() -> None:
    """Plan once, and print the seconds it took and the process's peak of memory in MB."""
    from bootstrap import phases, plan

    site = _site(HOSTS)
    started = time.monotonic()
    plans = [
        plan.build(phases.INIT, site, nodes=site.nodes[:1]),
        plan.build(phases.JOIN, site, nodes=site.nodes[1:]),
    ]
    seconds = time.monotonic() - started
    assert sum(len(one.tasks) for one in plans) > HOSTS
    print(seconds, peak())


def grow(runs: int) -> None:
    """Add one worker to an inventory of 1,000 hosts and to one of 10: what it costs beside looking at that machine."""
    from bootstrap import phases, plan

    names = {f"{count:,} hosts": count for count in (SMALL, LARGE)}
    whole: dict[str, list[float]] = {name: [] for name in names}
    planned: dict[str, list[float]] = {name: [] for name in names}
    with TemporaryDirectory() as folder:
        sites = {name: _site(count + 1) for name, count in names.items()}
        for name, site in sites.items():
            (Path(folder) / name).write_text(_inventory(site))
        for _ in range(max(runs, STARTS)):
            for name, site in sites.items():
                new = site.nodes[-1]
                command = ["plan", "join", "--limit", new.name, "--inventory", f"{folder}/{name}"]
                done = ran(sys.executable, "-m", "bootstrap", *command, limit=60)
                assert done.stdout.startswith(f"{new.name}:\n")
                whole[name].append(1000 * done.seconds)
                began = time.monotonic()
                plan.build(phases.JOIN, site, nodes=[new])
                planned[name].append(1000 * (time.monotonic() - began))
    small, large = names
    for title, times in (
        ("kubestrap plan join --limit NEW, the whole command", whole),
        ("the plan of a run that has looked at that machine, in memory", planned),
    ):
        medians(title, times, "ms")
        ratio(f"added to {large} / to {small}", times[large], times[small], 1.1)


def _site(count: int) -> Site:
    """Give a site of `count` hosts, the first one a control plane's and the others workers; its keys are real."""
    from bootstrap import kubeconfig, paths
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
    for number in range(count):
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
    return Site(cluster, tuple(nodes), contents, files, joining)


def _inventory(site: Site) -> str:
    """Write the hosts of a site as a user does."""
    lines = [
        f"  - {{name: {node.name}, address: {node.address}, roles: [{', '.join(node.host.roles)}]}}\n"
        for node in site.nodes
    ]
    networking = "{podSubnet: 172.16.0.0/12}"  # there is room for the Pods of all of them
    head = f"apiVersion: kubestrap.io/v1alpha1\nkind: Inventory\ncluster: {{networking: {networking}}}\nhosts:\n"
    return head + "".join(lines)


def help_(runs: int) -> None:
    """Start the command for its help."""
    times = [
        1000 * ran(sys.executable, "-m", "bootstrap", "--help", limit=60).seconds for _ in range(max(runs, STARTS))
    ]
    medians("kubestrap --help (goal: at most 150 ms)", {"help": times}, "ms")


def completion(runs: int) -> None:
    """Complete the name of a command, of a phase, and of a host of an inventory of 1,000, as bash asks for it."""
    last = f"host-{LARGE - 1:05}"
    lines = {
        "a command": ("kubestrap comple", "completion"),
        "a phase": ("kubestrap init --until addon/core", "addon/coredns"),
        "a host": (f"kubestrap join -i {{}} --limit {last[:-1]}", last),
    }
    times: dict[str, list[float]] = {name: [] for name in lines}
    with TemporaryDirectory() as folder:
        inventory = Path(folder) / "inventory.yaml"
        inventory.write_text(_inventory(_site(LARGE)))
        for _ in range(max(runs, STARTS)):
            for name, (typed, completed) in lines.items():
                words = typed.format(inventory).split()
                asked = {
                    "_KUBESTRAP_COMPLETE": "complete_bash",
                    "COMP_WORDS": "\n".join(words),
                    "COMP_CWORD": str(len(words) - 1),
                }
                done = ran(sys.executable, "-m", "bootstrap", limit=60, **asked)
                assert completed in done.stdout.split(), done.stdout
                times[name].append(1000 * done.seconds)
    medians("completing (goal: at most 200 ms)", times, "ms")


def size(_: int) -> None:
    """Install the wheel and all it needs by pip into an empty folder: what it takes there, and how many it needs."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    with TemporaryDirectory() as name:
        folder = Path(name)
        ran(sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", folder)
        (wheel,) = folder.glob("*.whl")
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        done = ran(*pip, "--target", folder / "installed", wheel)
        files = [path for path in (folder / "installed").rglob("*") if path.is_file()]
        megabytes = {path: path.stat().st_size / 1e6 for path in files}
        packages = len(list((folder / "installed").glob("*.dist-info")))
        source = sum(taken for path, taken in megabytes.items() if path.suffix != ".pyc")
    medians(
        "the wheel with all it needs, on disk (goal: at most 60 MB)",
        {"all of it": [sum(megabytes.values())], "without byte code": [source]},
        "MB",
    )
    print(f"direct dependencies: {len(project['dependencies'])} (goal: at most 5); packages in all: {packages}")
    print(f"installed in {done.seconds:.1f} s, from where pip got them")
