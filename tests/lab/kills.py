"""Ways to break a run from outside: kill its process, cut its link, and watch what it writes meanwhile."""

from __future__ import annotations

import ctypes
import os
import re
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from bootstrap.lab import machines
from bootstrap.lab.calls import podman
from tests.lab.clusters import Cluster

_CHANGES = {
    "modified": 0x2,
    "written": 0x8,
    "moved from": 0x40,
    "moved to": 0x80,
    "created": 0x100,
    "deleted": 0x200,
    "overflow": 0x4000,
}  # inotify(7)


def until(process: subprocess.Popen[str], pattern: str) -> str:
    """Read what a command says until a line matches, and give all of that."""
    assert process.stderr
    said = ""
    for line in process.stderr:
        said += line
        if re.search(pattern, line):
            return said
    raise AssertionError(f"it ended ({process.wait(60)}) before it said {pattern}:\n{said}")


def kill_at(cluster: Cluster, command: list[str], pattern: str) -> None:
    """Run a command, and kill it as soon as it says a line like `pattern`."""
    with cluster.start(*command) as process:
        until(process, pattern)
        process.kill()


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
    table = f"inet kubestrap_test_{port}"
    to = f"ip daddr {address} tcp dport 22 tcp sport {port}"
    rules = [f"add rule {table} outward {to} {'drop' if how == 'drop' else 'reject with tcp reset'}"]
    if how == "drop":
        rules.append(f"add rule {table} inward ip saddr {address} tcp sport 22 tcp dport {port} drop")
    chains = [
        f"add chain {table} {name} {{ type filter hook {hook} priority -300; }}"
        for name, hook in (("outward", "output"), ("inward", "input"))
    ]
    _nft("\n".join([f"add table {table}", *chains, *rules]))
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


def acting(cluster: Cluster, machine: str) -> str:
    """List the processes of runs on a machine."""
    return cluster.on(machine, "grep -l -s KUBESTRAP_RUN= /proc/[0-9]*/environ || :")


def eventually_free(cluster: Cluster, machine: str) -> None:
    """Wait until nobody holds the lock of a machine."""
    deadline = time.monotonic() + 300
    while cluster.ssh(machine, "test -e /run/kubestrap/lock").returncode != 1:
        assert time.monotonic() < deadline
        time.sleep(1)
