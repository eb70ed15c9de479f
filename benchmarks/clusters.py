"""`init`, `join` and second runs on real machines, beside kubeadm where kubeadm does the same."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from benchmarks.machines import KUBECTL, Machines, bare, kubeadm_config, prepared, say
from benchmarks.report import medians, ratio
from bootstrap import outline
from bootstrap.bundle import open_bundle
from bootstrap.lab import machines as power
from bootstrap.phases import addons
from bootstrap.render import to_yaml
from bootstrap.spec import Inventory
from bootstrap.steps import ApiObject

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


def ha(runs: int) -> None:
    """Compare three control planes and two workers, all Nodes Ready, with kubeadm in its documented order."""
    seconds: dict[str, list[float]] = {"kubestrap": [], "kubeadm": []}
    work: dict[str, list[float]] = {"kubestrap": [], "kubeadm": []}
    with prepared(5) as machines:
        names = [machine.name for machine in machines.lab.machines]
        inventory = machines.choose(names, _three_masters)
        machines.install_kubeadm(*names)
        # The image of the workers' proxy is not on machines that were prepared for one control plane.
        machines.kubestrap("apply")
        for number in range(runs):
            for side, make in (("kubestrap", _ours), ("kubeadm", _kubeadms)):
                _wipe_all(machines, names, inventory)
                before, started = _cpu(), time.monotonic()
                make(machines, names, inventory)
                ready = " ".join(f"node/{name}" for name in names)
                machines.ssh(machines.master, f"{KUBECTL} wait --for=condition=Ready --timeout=600s {ready}")
                seconds[side].append(time.monotonic() - started)
                work[side].append(_cpu() - before)
            say(
                f"run {number + 1} of {runs}: "
                + ", ".join(f"{side} {found[-1]:.1f} s ({work[side][-1]:.0f} CPU s)" for side, found in seconds.items())
            )
    medians("three control planes and two workers on prepared machines, to all Nodes Ready", seconds)
    ratio("kubestrap / kubeadm", seconds["kubestrap"], seconds["kubeadm"], 0.5)
    medians("the same, CPU time of all machines together", work)
    ratio("kubestrap / kubeadm", work["kubestrap"], work["kubeadm"], 1.0)


def third(runs: int) -> None:
    """Compare the join of a third control plane with `kubeadm join --control-plane`, to its Node Ready, in turn."""
    seconds: dict[str, list[float]] = {"kubestrap": [], "kubeadm": []}
    with prepared(3) as machines:
        names = [machine.name for machine in machines.lab.machines]
        machines.install_kubeadm(*names)
        ready = f"{KUBECTL} wait --for=condition=Ready --timeout=600s node/{names[2]}"
        for number in range(runs):
            inventory = machines.choose(names[:2], _three_masters)
            _wipe_all(machines, names, inventory)
            machines.kubestrap("init")
            machines.choose(names, _three_masters)
            seconds["kubestrap"].append(machines.kubestrap("join") + machines.ssh(names[0], ready))
            _wipe_all(machines, names, inventory)
            join_command = _kubeadm_begins(machines, names[0], inventory)
            machines.ssh(names[1], join_command(control_plane=True))
            seconds["kubeadm"].append(
                machines.ssh(names[2], join_command(control_plane=True)) + machines.ssh(names[0], ready)
            )
            say(
                f"run {number + 1} of {runs}: "
                + ", ".join(f"{side} {found[-1]:.1f} s" for side, found in seconds.items())
            )
    medians("join of a third control plane on a prepared machine, to its Node Ready", seconds)
    ratio("kubestrap / kubeadm", seconds["kubestrap"], seconds["kubeadm"], 1.0)


def masters(runs: int) -> None:
    """Compare forming three control planes with forming one, in turn."""
    seconds: dict[str, list[float]] = {"one": [], "three": []}
    with prepared(3) as machines:
        names = [machine.name for machine in machines.lab.machines]
        for number in range(runs):
            for side, chosen in (("one", names[:1]), ("three", names)):
                for name in names:
                    machines.wipe_here(name)
                machines.choose(chosen, _three_masters)
                seconds[side].append(machines.kubestrap("init"))
            say(f"run {number + 1} of {runs}: " + ", ".join(f"{side} {of[-1]:.1f} s" for side, of in seconds.items()))
    medians("init of prepared machines", seconds)
    ratio("three control planes / one", seconds["three"], seconds["one"], 3.0)


def replacement(runs: int) -> None:
    """Replace one of three control planes, which is lost and known to be, by another machine, to its Node Ready."""
    seconds: list[float] = []
    with prepared(4) as machines:
        first, _, lost, new = names = [machine.name for machine in machines.lab.machines]
        for number in range(runs):
            for name in names:
                machines.wipe_here(name)
            machines.choose(names[:3], _three_masters)
            machines.kubestrap("init")
            power.cut_power(machines.lab.name, lost)
            machines.ssh(first, f"{KUBECTL} wait --for=condition=Ready=Unknown --timeout=300s node/{lost}")
            machines.choose([*names[:2], new], _three_masters)
            took = machines.kubestrap("replace", lost, new, "--dead", "--yes")
            took += machines.ssh(first, f"{KUBECTL} wait --for=condition=Ready --timeout=300s node/{new}")
            seconds.append(took)
            power.start(machines.lab.name, lost)
            power.wait(machines.lab.name, [machines.lab.machine(lost)])
            say(f"run {number + 1} of {runs}: {took:.1f} s")
    medians("a lost control plane of three replaced by a prepared machine, to its Node Ready", {"kubestrap": seconds})


def _three_masters(data: dict[str, Any]) -> None:
    for host in data["hosts"][:3]:
        host["roles"] = ["control-plane"]


def _ours(machines: Machines, _: Sequence[str], __: Inventory) -> None:
    machines.kubestrap("apply")


def _kubeadms(machines: Machines, names: Sequence[str], inventory: Inventory) -> None:
    first, *others = names
    join_command = _kubeadm_begins(machines, first, inventory)
    for number, name in enumerate(others):
        machines.ssh(name, join_command(control_plane=number < 2))


class _JoinCommand(Protocol):
    def __call__(self, *, control_plane: bool) -> str: ...


def _kubeadm_begins(machines: Machines, first: str, inventory: Inventory) -> _JoinCommand:
    """Have kubeadm make the first control plane, with a Pod network; give what makes the command that joins another."""
    said = machines.output(
        first,
        f"systemctl enable --quiet kubelet; kubeadm init --config /root/kubeadm.yaml --upload-certs {IGNORED} 2>&1",
    )
    (key,) = re.findall("--certificate-key ([0-9a-f]{64})", said)
    machines.ssh(first, f"{KUBECTL} apply --filename -", _flannel(inventory))
    made = machines.output(first, "KUBECONFIG=/etc/kubernetes/admin.conf kubeadm token create --print-join-command")

    def command(*, control_plane: bool) -> str:
        words = f"systemctl enable --quiet kubelet; {made.strip()} {IGNORED}"
        return words + (f" --control-plane --certificate-key {key}" if control_plane else "")

    return command


def _flannel(inventory: Inventory) -> bytes:
    """Give the objects of the Pod network, which kubeadm leaves to its user."""
    bundle = open_bundle(None, kubernetes_version=inventory.cluster.kubernetes_version, platform="linux/amd64")
    site = replace(outline.unseen(inventory), contents=bundle.contents)
    steps = addons.flannel_steps(site, site.nodes[0])
    return "---\n".join(to_yaml(step.manifest) for step in steps if isinstance(step, ApiObject)).encode()


def _wipe_all(machines: Machines, names: Sequence[str], inventory: Inventory) -> None:
    """Leave on all machines what `prepare` left, and let them know the endpoint's name as kubeadm needs it."""
    address, name = machines.lab.machine(names[0]).address, inventory.cluster.endpoint_name

    def wipe(machine: str) -> None:
        machines.wipe_here(machine)
        machines.ssh(machine, f"sed '/ {name}$/d' /etc/hosts >/tmp/hosts; cat /tmp/hosts >/etc/hosts")
        machines.ssh(machine, f"echo {address} {name} >>/etc/hosts")

    with ThreadPoolExecutor(len(names)) as workers:
        list(workers.map(wipe, names))
    machines.ssh(names[0], "cat > /root/kubeadm.yaml", kubeadm_config(inventory, address))


def _cpu() -> float:
    """Give how long this host's processors have worked, in seconds, but for waiting."""
    user, nice, system = map(int, Path("/proc/stat").read_text().split()[1:4])
    return (user + nice + system) / os.sysconf("SC_CLK_TCK")


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
