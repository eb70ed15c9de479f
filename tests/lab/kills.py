"""Ways to break a run from outside: kill its process, cut its link, and watch what it writes meanwhile."""

from __future__ import annotations

import ctypes
import itertools
import json
import os
import re
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from bootstrap.lab import machines
from bootstrap.lab.calls import podman
from tests.lab.clusters import KUBECTL, Cluster

_CHANGES = {
    "modified": 0x2,
    "written": 0x8,
    "moved from": 0x40,
    "moved to": 0x80,
    "created": 0x100,
    "deleted": 0x200,
    "overflow": 0x4000,
}  # inotify(7)
_TABLES = itertools.count()


def until(process: subprocess.Popen[str], pattern: str) -> str:
    """Read what a command says until a line matches, and give all of that."""
    assert process.stderr
    said = ""
    for line in process.stderr:
        said += line
        if re.search(pattern, line):
            return said
    raise AssertionError(f"it ended ({process.wait(60)}) before it said {pattern}:\n{said}")


def kill_at_each_phase(
    cluster: Cluster, command: list[str], *, afterwards: Callable[[str], None] = lambda _: None
) -> list[str]:
    """Run a command again and again, and kill it as a phase begins: each run one phase later, until one ends by itself.

    `afterwards` is called with the phase after each kill. Gives the phases, which are those of the run that ended.
    """
    killed: list[str] = []
    while True:
        begun, status, said = _killed_at(cluster, command, len(killed) + 1)
        if status is not None:
            assert status == 0, said
            assert begun == killed
            return killed
        assert begun[:-1] == killed
        killed = begun
        afterwards(begun[-1])


def _killed_at(cluster: Cluster, command: list[str], number: int) -> tuple[list[str], int | None, str]:
    """Kill a run as its phase `number` begins; give the phases that began, and how it ended if it did so by itself."""
    begun: list[str] = []
    with (
        tempfile.TemporaryFile("w+") as said,
        cluster.start(*command, "--output", "json", stdout=subprocess.PIPE, stderr=said) as process,
    ):
        assert process.stdout
        for line in process.stdout:
            event = json.loads(line)
            if event["event"] != "phase-started":
                continue
            begun.append(event["phase"])
            if len(begun) == number:
                process.kill()
                return begun, None, ""
        status = process.wait(60)
        said.seek(0)
        return begun, status, said.read()


def kill_after(cluster: Cluster, command: list[str], seconds: float) -> bool:
    """Run a command, kill it after some time, and say whether it had ended by itself by then."""
    with cluster.start(*command) as process:
        try:
            _, said = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            return False
    assert process.returncode == 0, said
    return True


def connection(process: subprocess.Popen[str], address: str) -> int:
    """Give the local port of a process's connection to the sshd at `address`."""
    sockets = set()
    for entry in Path(f"/proc/{process.pid}/fd").iterdir():
        try:
            sockets.add(str(entry.readlink()))
        except FileNotFoundError:
            continue  # closed meanwhile
    octets = [int(part) for part in address.split(".")]
    remote = f"{int.from_bytes(bytes(octets), 'little'):08X}:{22:04X}"
    for line in Path(f"/proc/{process.pid}/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[2] == remote and f"socket:[{fields[9]}]" in sockets:
            return int(fields[1].partition(":")[2], 16)
    raise AssertionError(f"no connection of {process.pid} to {address}")


@contextmanager
def cut(address: str, port: int, how: Literal["drop", "reset"]) -> Iterator[None]:
    """Cut one connection to a machine in both directions: with silence, or with a reset that only this side hears."""
    outward = f"ip daddr {address} tcp dport 22 tcp sport {port}"
    inward = f"ip saddr {address} tcp sport 22 tcp dport {port}"
    with _rules(f"{outward} drop", f"{inward} drop") if how == "drop" else _rules(f"{outward} reject with tcp reset"):
        yield


@contextmanager
def unreached(address: str) -> Iterator[None]:
    """Let no packet through to the sshd of a machine."""
    with _rules(f"ip daddr {address} tcp dport 22 drop"):
        yield


@contextmanager
def lossy(*addresses: str) -> Iterator[None]:
    """Lose every fiftieth packet between here and the sshds of machines, at random, in both directions."""
    machines = f"{{ {', '.join(addresses)} }}"
    lost = "numgen random mod 50 == 0 drop"
    with _rules(f"ip daddr {machines} tcp dport 22 {lost}", f"ip saddr {machines} tcp sport 22 {lost}"):
        yield


@contextmanager
def _rules(outward: str, inward: str = "") -> Iterator[None]:
    table = f"inet kubestrap_test_{os.getpid()}_{next(_TABLES)}"
    commands = [f"add table {table}"]
    for name, hook, rule in (("outward", "output", outward), ("inward", "input", inward)):
        if rule:
            commands.append(f"add chain {table} {name} {{ type filter hook {hook} priority -300; }}")
            commands.append(f"add rule {table} {name} {rule}")
    _nft("\n".join(commands))
    try:
        yield
    finally:
        _nft(f"delete table {table}")


def _nft(commands: str) -> None:
    subprocess.run(["nft", "-f", "-"], input=commands, text=True, check=True, timeout=60)


class FolderWatch:
    """Notes every change in a folder of a machine, as the kernel tells it: none is missed."""

    def __init__(self, cluster: Cluster, machine: str, folder: str) -> None:
        container = machines.container(cluster.lab.name, machine)
        pid = podman("inspect", "--format", "{{.State.Pid}}", container).stdout.strip()
        libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        path = f"/proc/{pid}/root{folder}".encode()
        if self._descriptor < 0 or libc.inotify_add_watch(self._descriptor, path, sum(_CHANGES.values()) - 0x4000) < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), folder)

    def changes(self) -> list[tuple[str, str]]:
        """Give what happened since it was last asked: kind and name."""
        found = []
        while True:
            try:
                data = os.read(self._descriptor, 65536)
            except BlockingIOError:
                return found
            while data:
                _, mask, _, length = struct.unpack_from("iIII", data)
                name = data[16 : 16 + length].rstrip(b"\0").decode()
                found += [(kind, name) for kind, bit in _CHANGES.items() if mask & bit]
                data = data[16 + length :]

    def close(self) -> None:
        """End it."""
        os.close(self._descriptor)


def restart(cluster: Cluster, machine: str) -> None:
    """Take a machine's power away, and give it back: nothing on it is told, and what was in memory is gone."""
    container = machines.container(cluster.lab.name, machine)
    podman("kill", "--signal=KILL", container)
    podman("wait", container)
    machines.start(cluster.lab.name, machine)
    machines.wait(cluster.lab.name, [cluster.lab.machine(machine)])


def eventually_ready(cluster: Cluster, nodes: Sequence[str]) -> None:
    """Wait until the kubelets of machines that were started anew have said so, and their Nodes are Ready."""
    since = {node: cluster.on(node, "date -u +%Y-%m-%dT%H:%M:%S").strip() for node in nodes}
    deadline = time.monotonic() + 600
    for node in nodes:
        ask = f"{KUBECTL} -n kube-node-lease get lease {node} -o jsonpath={{.spec.renewTime}}"
        while cluster.ssh(cluster.master, ask).stdout < since[node]:
            assert time.monotonic() < deadline
            time.sleep(1)
    cluster.wait_ready(nodes)


def acting(cluster: Cluster, machine: str) -> str:
    """List the processes of runs on a machine."""
    return cluster.on(machine, "grep -l -s KUBESTRAP_RUN= /proc/[0-9]*/environ || :")


def eventually_free(cluster: Cluster, machine: str) -> None:
    """Wait until nobody holds the lock of a machine."""
    deadline = time.monotonic() + 300
    while cluster.ssh(machine, "test -e /run/kubestrap/lock").returncode != 1:
        assert time.monotonic() < deadline
        time.sleep(1)
