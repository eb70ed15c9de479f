"""How many times a run waits for an answer over the network, found by making every answer late."""

from __future__ import annotations

import contextlib
import queue
import socket
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from benchmarks.machines import Machines, prepared, say
from benchmarks.report import medians

DELAY = 0.1
"""Seconds that a round trip takes longer: much more than what two runs differ by."""


def roundtrips(runs: int) -> None:
    """Count the round trips of a worker's join, by what it takes longer where each takes 100 ms longer."""
    times: dict[str, list[float]] = {"at once": [], "100 ms late": []}
    turns: list[float] = []
    with prepared(2) as machines:
        worker = machines.workers[0]
        machines.choose([machines.master, worker])
        machines.kubestrap("init")
        for number in range(runs):
            for name, delay in (("at once", 0.0), ("100 ms late", DELAY)):
                machines.wipe(worker)
                with _through(machines, worker, delay) as proxy:
                    times[name].append(machines.kubestrap("join"))
                    turns.append(proxy.turns)
            say(
                f"run {number + 1} of {runs}: "
                + ", ".join(f"{name} {found[-1]:.1f} s" for name, found in times.items())
            )
    medians("join of a prepared worker through a proxy", times)
    trips = (statistics.median(times["100 ms late"]) - statistics.median(times["at once"])) / DELAY
    print(f"round trips that the worker's join waits for: {trips:.0f} (goal: at most 25)")
    medians(
        "changes of direction on the worker's connection, its own progress lines among them", {"all runs": turns}, ""
    )


@contextmanager
def _through(machines: Machines, worker: str, delay: float) -> Iterator[Proxy]:
    """Have the inventory lead to `worker` through a proxy on this machine."""
    address = machines.lab.machine(worker).address
    with ExitStack() as stack:
        proxy = stack.enter_context(contextlib.closing(Proxy(address, 22, delay)))
        known = machines.home / "known_hosts"
        lines = machines.lab.known_hosts_file.read_text().splitlines()
        own = [
            line.replace(address, f"[127.0.0.1]:{proxy.port}", 1) for line in lines if line.startswith(f"{address} ")
        ]
        known.write_text("\n".join([*lines, *own]) + "\n")

        def change(data: dict[str, Any]) -> None:
            data["ssh"]["knownHostsFile"] = str(known)
            for host in data["hosts"]:
                if host["name"] == worker:
                    host.update(address="127.0.0.1", nodeAddress=address)
                    host["ssh"] = {**host.get("ssh", {}), "port": proxy.port}

        machines.choose([machines.master, worker], change)
        yield proxy


class Proxy:
    """Forwards TCP connections from a port of loopback, half of `delay` later each way, and counts turns."""

    def __init__(self, address: str, port: int, delay: float) -> None:
        self._target = (address, port)
        self._delay = delay / 2
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.turns = 0
        self._last = ""
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Accept no more."""
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.create_connection(self._target, timeout=30)
            for one in (near, far):
                one.settimeout(None)
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._forward(near, far, "there")
            self._forward(far, near, "back")

    def _forward(self, source: socket.socket, sink: socket.socket, way: str) -> None:
        due: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()

        def take() -> None:
            data = b"-"
            while data:
                try:
                    data = source.recv(65536)
                except OSError:
                    data = b""
                if way == "there" and self._last == "back":
                    self.turns += 1
                self._last = way
                due.put((time.monotonic() + self._delay, data))

        def give() -> None:
            while True:
                when, data = due.get()
                time.sleep(max(0.0, when - time.monotonic()))
                try:
                    if not data:
                        sink.shutdown(socket.SHUT_WR)
                        return
                    sink.sendall(data)
                except OSError:
                    return

        for work in (take, give):
            threading.Thread(target=work, daemon=True).start()
