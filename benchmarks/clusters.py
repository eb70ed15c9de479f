"""`init`, `join` and second runs on real machines, beside kubeadm where kubeadm does the same."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Sequence

from benchmarks.machines import KUBECTL, bare, kubeadm_config, prepared, say
from benchmarks.report import medians, ratio

IGNORED = "--ignore-preflight-errors=all"


def init(runs: int) -> None:
    """Compare `kubestrap init` with `kubeadm init` on the same prepared machine, in turn."""
    ours: list[float] = []
    theirs: list[float] = []
    health: dict[str, list[float]] = {"kubestrap": [], "kubeadm": []}
    with prepared(1) as machines:
        master = machines.master
        inventory = machines.choose([master])
        machines.install_kubeadm(master)
        address = machines.lab.machine(master).address
        machines.ssh(master, "cat > /root/kubeadm.yaml", kubeadm_config(inventory, address))
        name = inventory.cluster.endpoint_name
        machines.ssh(master, f"grep -q ' {name}$' /etc/hosts || echo {address} {name} >> /etc/hosts")
        for number in range(runs):
            machines.wipe(master)
            healthy, whole = _until("wait-control-plane", machines.command("init"))
            health["kubestrap"].append(healthy)
            ours.append(whole)
            machines.wipe(master)
            command = f"systemctl enable --quiet kubelet; kubeadm init --config /root/kubeadm.yaml {IGNORED} 2>&1"
            healthy, whole = _until("[upload-config]", machines.lab.ssh(master, command, user="root"))
            health["kubeadm"].append(healthy)
            theirs.append(whole)
            say(f"run {number + 1} of {runs}: kubestrap {ours[-1]:.1f} s, kubeadm {theirs[-1]:.1f} s")
    medians("init on a prepared machine, from the command's start to the control plane's health", health)
    ratio("kubestrap / kubeadm", health["kubestrap"], health["kubeadm"], 1.0)
    medians("init on a prepared machine, the whole command", {"kubestrap": ours, "kubeadm": theirs})
    ratio("kubestrap / kubeadm", ours, theirs, 1.0)


def join(runs: int) -> None:
    """Compare `kubestrap join` of one worker with `kubeadm join`, both until its Node is Ready, in turn."""
    ours: list[float] = []
    theirs: list[float] = []
    with prepared(2) as machines:
        master, worker = machines.master, machines.workers[0]
        inventory = machines.choose([master, worker])
        machines.install_kubeadm(master, worker)
        machines.kubestrap("init")
        address, name = machines.lab.machine(master).address, inventory.cluster.endpoint_name
        machines.ssh(worker, f"sed -i '/ {name}$/d' /etc/hosts; echo {address} {name} >> /etc/hosts")
        for number in range(runs):
            machines.wipe(worker)
            ours.append(machines.kubestrap("join"))
            machines.wipe(worker)
            made = machines.output(
                master, "KUBECONFIG=/etc/kubernetes/admin.conf kubeadm token create --print-join-command"
            )
            started = time.monotonic()
            machines.ssh(worker, f"systemctl enable --quiet kubelet; {made.strip()} {IGNORED}")
            machines.ssh(master, f"{KUBECTL} wait --for=condition=Ready --timeout=300s node/{worker}")
            theirs.append(time.monotonic() - started)
            say(f"run {number + 1} of {runs}: kubestrap {ours[-1]:.1f} s, kubeadm {theirs[-1]:.1f} s")
    medians("join of a prepared worker, to its Node Ready", {"kubestrap": ours, "kubeadm": theirs})
    ratio("kubestrap / kubeadm", ours, theirs, 0.9)


def workers(runs: int) -> None:
    """Compare the join of four workers with that of one, in turn."""
    times: dict[int, list[float]] = {1: [], 4: []}
    with prepared(5) as machines:
        machines.choose([machines.master])
        machines.kubestrap("init")
        for number in range(runs):
            for count, found in times.items():
                machines.wipe(*machines.workers)
                machines.choose([machines.master, *machines.workers[:count]])
                found.append(machines.kubestrap("join"))
            say(
                f"run {number + 1} of {runs}: "
                + ", ".join(f"{count}: {found[-1]:.1f} s" for count, found in times.items())
            )
    medians(
        "join of prepared workers, to their Nodes Ready", {f"{count} workers": found for count, found in times.items()}
    )
    ratio("4 workers / 1 worker", times[4], times[1], 1.3)


def rerun(runs: int) -> None:
    """Compare second runs of `init` and `join` with first ones on bare machines."""
    first: list[float] = []
    second: list[float] = []
    for number in range(runs):
        with bare(2) as machines:
            machines.choose([machines.master, *machines.workers])
            first.append(machines.kubestrap("init") + machines.kubestrap("join"))
            second.append(machines.kubestrap("init") + machines.kubestrap("join"))
        say(f"run {number + 1} of {runs}: first {first[-1]:.1f} s, second {second[-1]:.1f} s")
    medians("init and join of one worker, from bare machines", {"first run": first, "second run": second})
    ratio("second / first", second, first, 0.05)


def _until(mark: str, command: Sequence[str], clock: Callable[[], float] = time.monotonic) -> tuple[float, float]:
    """Run a command; give when a line with `mark` was first written, and when it ended, in seconds."""
    started = clock()
    marked = 0.0
    lines = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout
        for line in process.stdout:
            lines.append(line)
            if mark in line and not marked:
                marked = clock() - started
    if process.returncode or not marked:
        sys.exit(f"{command}: {process.returncode}\n{''.join(lines)}")
    return marked, clock() - started
