"""`preflight` of machines of the lab, and of many hosts that this machine stands for."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import monotonic, sleep

import yaml

from benchmarks.machines import Machines, bare, say
from benchmarks.report import medians

HOSTS = 100
BRIDGE = "ksbench"
NETWORK = "198.18.0"  # RFC 2544: for benchmarks
SSHD = """\
HostKey {folder}/host
AuthorizedKeysFile {folder}/user.pub
PidFile none
PermitRootLogin prohibit-password
StrictModes no
UsePAM no
SetEnv SHLVL=1
"""


def preflight(runs: int) -> None:
    """Look at three machines, and at 100 hosts, each a network namespace with an sshd of its own, and between them."""
    times: dict[str, list[float]] = {"3 machines": [], f"{HOSTS} simulated hosts": []}
    with bare(3) as machines:
        machines.choose([machine.name for machine in machines.lab.machines])
        for _ in range(runs):
            times["3 machines"].append(_run(machines.command("preflight")))
        say(f"3 machines: {times['3 machines'][-1]:.1f} s")
        for number in range(runs):
            with _simulated(Path(machines.home), machines) as inventory:
                command = [*machines.command("preflight", "--ignore-preflight-errors", "all")[:-1], str(inventory)]
                times[f"{HOSTS} simulated hosts"].append(_run(command))
            say(f"run {number + 1} of {runs}: {times[f'{HOSTS} simulated hosts'][-1]:.1f} s")
    medians("preflight, the whole command", times)


def _run(command: list[str]) -> float:
    started = monotonic()
    ran = subprocess.run([*command, "--output", "json"], capture_output=True, text=True, timeout=600, check=False)
    seconds = monotonic() - started
    results = [json.loads(line) for line in ran.stdout.splitlines()]
    problems = [each for line in results if line["event"] == "result" for each in line["data"]["problems"]]
    between = [each for each in problems if each["check"].startswith(("Reach-", "PathMTU"))]
    if ran.returncode or between:
        sys.exit(f"{command}: {ran.returncode}\n{between}\n{ran.stderr[-5000:]}")
    return seconds


@contextmanager
def _simulated(folder: Path, machines: Machines) -> Iterator[Path]:
    """Have the hosts on a bridge, and give their inventory: the first one is the control plane."""
    for name in ("host", "user"):
        if not (folder / name).exists():
            _call("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name))
    (folder / "sshd_config").write_text(SSHD.format(folder=folder))
    hosts = {f"host{number:03}": f"{NETWORK}.{number}" for number in range(1, HOSTS + 1)}
    key = " ".join((folder / "host.pub").read_text().split()[:2])
    (folder / "known_hosts").write_text("".join(f"{address} {key}\n" for address in hosts.values()))
    inventory = yaml.safe_load(machines.lab.inventory.read_text())
    inventory["ssh"] = {
        "user": "root",
        "identityFile": str(folder / "user"),
        "knownHostsFile": str(folder / "known_hosts"),
        "connectTimeout": "60s",
    }
    inventory["hosts"] = [
        {"name": name, "address": address, "roles": ["worker" if number else "control-plane"]}
        for number, (name, address) in enumerate(hosts.items())
    ]
    path = folder / "simulated.yaml"
    path.write_text(yaml.safe_dump(inventory, sort_keys=False))
    with ExitStack() as stack:
        _take_down(hosts)
        stack.callback(_take_down, hosts)
        _call("ip", "link", "add", BRIDGE, "type", "bridge")
        _call("ip", "address", "add", f"{NETWORK}.254/24", "dev", BRIDGE)
        _call("ip", "link", "set", BRIDGE, "up")
        for name, address in hosts.items():
            _call("ip", "netns", "add", f"{BRIDGE}-{name}")
            link = f"{BRIDGE}{name[-3:]}"
            _call("ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", f"{BRIDGE}-{name}")
            _call("ip", "link", "set", link, "master", BRIDGE, "up")
            inside = f"address add {address}/24 dev eth0\nlink set eth0 up\nlink set lo up\n"
            _call("ip", "-netns", f"{BRIDGE}-{name}", "-batch", "-", stdin=inside)
            sshd = ["ip", "netns", "exec", f"{BRIDGE}-{name}", "/usr/sbin/sshd", "-D", "-f", f"{folder}/sshd_config"]
            process = subprocess.Popen(sshd, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            stack.callback(process.wait)
            stack.callback(process.terminate)
        sleep(5)
        yield path


def _take_down(hosts: Mapping[str, str]) -> None:
    for name in hosts:
        subprocess.run(["ip", "netns", "delete", f"{BRIDGE}-{name}"], capture_output=True, check=False)
    subprocess.run(["ip", "link", "delete", BRIDGE], capture_output=True, check=False)


def _call(*words: str, stdin: str = "") -> None:
    subprocess.run(words, input=stdin, text=True, check=True, capture_output=True, timeout=60)
