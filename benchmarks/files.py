"""The same small work on many hosts, by kubestrap and by others: 25 files of 2 to 4.5 KB, and 5 commands."""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml

from benchmarks import unit
from benchmarks.fleet import STATE, Fleet, fleet
from benchmarks.machines import say
from benchmarks.processes import Ran, ran
from benchmarks.report import medians, ratio

PYINFRA = "pyinfra==3.10.0"
HOSTS = 20
NOOP_HOSTS = 200
MEMORY_HOSTS = 500
BASE_MEGABYTES, MEGABYTES_A_HOST = 80, 0.1  # the goal for memory

Tool = Callable[[str], Ran]
"""Does it once on all hosts, in the folder that is given."""


def files(runs: int, hosts: int = HOSTS) -> None:
    """Put 25 files on 20 hosts and run 5 commands there, then all of it again: kubestrap, pyinfra, Ansible."""
    with fleet(hosts) as machines:
        source = unit.sources(machines.folder / "source")
        tools: dict[str, Tool] = {"kubestrap": partial(kubestrap, machines, source)}
        if pyinfra := _pyinfra(machines, source):
            tools["pyinfra"] = pyinfra
        tools["ansible"] = _ansible(machines, source)
        first: dict[str, list[float]] = {name: [] for name in tools}
        again: dict[str, list[float]] = {name: [] for name in tools}
        cpu: dict[str, list[float]] = {name: [] for name in tools}
        for number in range(runs):
            for name, tool in tools.items():
                target = f"{STATE}/{name}-{number}"
                done, repeated = tool(target), tool(target)
                first[name].append(done.seconds)
                again[name].append(repeated.seconds)
                cpu[name].append(1000 * done.cpu / hosts)
            say(f"run {number + 1} of {runs}: {', '.join(f'{name} {took[-1]:.1f} s' for name, took in first.items())}")
    medians(f"{unit.FILES} files and {unit.COMMANDS} commands on {hosts} hosts, the whole command", first)
    _ratios(first, {"pyinfra": 0.1})
    medians("the same again", again)
    _ratios(again, {})
    medians("processor time of this side, by host, the first time", cpu, "ms")


def _ratios(times: Mapping[str, Sequence[float]], goals: Mapping[str, float]) -> None:
    ours = times["kubestrap"]
    for name, theirs in times.items():
        if name != "kubestrap":
            ratio(f"kubestrap / {name}", ours, theirs, goals.get(name))


def noop(runs: int, hosts: int = NOOP_HOSTS) -> None:
    """Do the work of `files` on 200 hosts where nothing is left to do: the processor time of the whole process."""
    cpu, seconds = [], []
    with fleet(hosts) as machines:
        source = unit.sources(machines.folder / "source")
        kubestrap(machines, source, f"{STATE}/unit")
        for _ in range(runs):
            done = kubestrap(machines, source, f"{STATE}/unit")
            assert json.loads(done.stdout)["changes"] == 0
            cpu.append(1000 * done.cpu / hosts)
            seconds.append(done.seconds)
    medians(f"nothing to do on {hosts} hosts, the whole process", {"time": seconds})
    medians("processor time of this side, by host (goal: at most 15 ms)", {"no-op": cpu}, "ms")


def memory(runs: int, hosts: int = MEMORY_HOSTS) -> None:
    """Do the work of `files` on 1 host and on 500 where nothing is left to do: the process's peak of memory."""
    megabytes: dict[str, list[float]] = {"1 host": [], f"{hosts} hosts": []}
    with fleet(hosts) as machines:
        source = unit.sources(machines.folder / "source")
        one = Fleet(machines.folder, machines.hosts[:1])
        kubestrap(machines, source, f"{STATE}/unit")
        for _ in range(runs):
            for name, some in zip(megabytes, (one, machines), strict=True):
                megabytes[name].append(json.loads(kubestrap(some, source, f"{STATE}/unit").stdout)["megabytes"])
    goal = BASE_MEGABYTES + MEGABYTES_A_HOST * hosts
    medians(
        f"peak of memory (goal: at most {BASE_MEGABYTES} MB, and {MEGABYTES_A_HOST} MB a host: {goal:.0f} MB)",
        megabytes,
        "MB",
    )


def kubestrap(machines: Fleet, source: Path, target: str) -> Ran:
    """Do the unit by kubestrap's plans, steps and connections."""
    return ran(sys.executable, "-m", "benchmarks.unit", machines.written(), source, target)


def _pyinfra(machines: Fleet, source: Path) -> Tool | None:
    """Install pyinfra for this run alone, and give it; None where it cannot be fetched."""
    environment = machines.folder / "pyinfra"
    venv.create(environment, with_pip=True)
    pip = [f"{environment}/bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", PYINFRA]
    got = subprocess.run(pip, capture_output=True, text=True, timeout=600, check=False)
    if got.returncode:
        say(f"pyinfra cannot be installed, so it is left out: {got.stderr.strip()[-1000:]}")
        return None
    described = [
        (
            host.name,
            {
                "ssh_hostname": str(host.address),
                "ssh_port": host.ssh.port,
                "ssh_user": "root",
                "ssh_key": str(machines.key),
                "ssh_known_hosts_file": str(machines.known_hosts),
                "ssh_strict_host_key_checking": "yes",
                "ssh_allow_agent": False,
                "ssh_look_for_keys": False,
            },
        )
        for host in machines.hosts
    ]
    inventory = machines.folder / "machines.py"
    inventory.write_text(f"machines = {described!r}\n")

    def run(target: str) -> Ran:
        deploy = machines.folder / "deploy.py"
        deploy.write_text(
            "from pyinfra.operations import files, server\n"
            f"files.directory({target!r})\n"
            f"for number in range({unit.FILES}):\n"
            f"    files.put(f'{source}/file-{{number}}', f'{target}/file-{{number}}', mode='600')\n"
            f"for number in range({unit.COMMANDS}):\n"
            f"    server.shell(f'touch {target}/made-{{number}}')\n"
        )
        return ran(environment / "bin" / "pyinfra", "-y", inventory, deploy)

    return run


def _ansible(machines: Fleet, source: Path) -> Tool:
    """Give Ansible as its users tune it: pipelining, as many forks as hosts, no facts, shared connections."""
    hosts = {host.name: {"ansible_host": str(host.address), "ansible_port": host.ssh.port} for host in machines.hosts}
    settings = {
        "ansible_user": "root",
        "ansible_ssh_private_key_file": str(machines.key),
        "ansible_python_interpreter": sys.executable,
        "ansible_remote_tmp": f"{STATE}/ansible",
    }
    inventory = machines.folder / "ansible.yaml"
    inventory.write_text(yaml.safe_dump({"all": {"hosts": hosts, "vars": settings}}))

    def run(target: str) -> Ran:
        numbers = {name: list(range(count)) for name, count in (("files", unit.FILES), ("made", unit.COMMANDS))}
        tasks = [
            {"ansible.builtin.file": {"path": target, "state": "directory"}},
            {
                "ansible.builtin.copy": {
                    "src": f"{source}/file-{{{{ item }}}}",
                    "dest": f"{target}/file-{{{{ item }}}}",
                    "mode": "0600",
                },
                "loop": numbers["files"],
            },
            {
                "ansible.builtin.command": {
                    "cmd": f"touch {target}/made-{{{{ item }}}}",
                    "creates": f"{target}/made-{{{{ item }}}}",
                },
                "loop": numbers["made"],
            },
        ]
        playbook = machines.folder / "playbook.yaml"
        playbook.write_text(yaml.safe_dump([{"hosts": "all", "gather_facts": False, "tasks": tasks}]))
        # Connections that it shares live as long as a run's own folder: the next run begins with none.
        with TemporaryDirectory() as sockets:
            try:
                return ran(
                    Path(sys.executable).with_name("ansible-playbook"),
                    "--inventory",
                    inventory,
                    playbook,
                    ANSIBLE_PIPELINING="True",
                    ANSIBLE_FORKS=str(len(machines.hosts)),
                    ANSIBLE_HOST_KEY_CHECKING="True",
                    ANSIBLE_SSH_CONTROL_PATH_DIR=sockets,
                    ANSIBLE_SSH_ARGS=(
                        "-F /dev/null -o ControlMaster=auto -o ControlPersist=60s -o IdentityAgent=none "
                        f"-o UserKnownHostsFile={machines.known_hosts} -o StrictHostKeyChecking=yes"
                    ),
                )
            finally:
                for socket in Path(sockets).iterdir():
                    end = ["ssh", "-F", "/dev/null", "-o", f"ControlPath={socket}", "-O", "exit", "any"]
                    subprocess.run(end, capture_output=True, timeout=60, check=False)

    return run
