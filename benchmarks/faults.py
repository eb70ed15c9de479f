"""What goes wrong: how soon it is explained, and what a run that was killed costs when it is run again."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from typing import Any

from benchmarks.machines import Machines, prepared, say
from benchmarks.report import medians, ratio

COMPONENTS = {
    "etcd": ("etcd", "local"),
    "kube-apiserver": ("apiServer",),
    "kube-controller-manager": ("controllerManager",),
    "kube-scheduler": ("scheduler",),
}
UNEXPLAINED = 240.0
"""Seconds after which kubeadm gives up, by default, and so do we."""


def diagnosis(runs: int) -> None:
    """Break a flag of each component in turn: from the start of `init` to its error, which explains it."""
    times: dict[str, list[float]] = {name: [] for name in COMPONENTS}
    with prepared(1) as machines:
        machines.choose([machines.master])
        machines.kubestrap("init")
        for number in range(runs):
            for name, section in COMPONENTS.items():
                times[name].append(_explained(machines, name, section))
                machines.choose([machines.master])
                machines.kubestrap("init")
            say(f"run {number + 1} of {runs}: " + ", ".join(f"{name} {took[-1]:.1f} s" for name, took in times.items()))
    medians(f"init with a flag that is not known, until it says so (goal: well under {UNEXPLAINED:g} s)", times)


def _explained(machines: Machines, component: str, section: tuple[str, ...]) -> float:
    def broken(data: dict[str, Any]) -> None:
        settings = data["cluster"]
        for key in section:
            settings = settings.setdefault(key, {})
        settings["extraArgs"] = [{"name": "no-such-flag", "value": "1"}]

    machines.choose([machines.master], broken)
    started = time.monotonic()
    ran = subprocess.run(machines.command("init"), capture_output=True, text=True, timeout=1800, check=False)
    seconds = time.monotonic() - started
    if f"{component} does not run" not in ran.stderr or "does not know the flag --no-such-flag" not in ran.stderr:
        sys.exit(f"{component} was not explained ({ran.returncode}):\n{ran.stderr}")
    return seconds


def kill(runs: int) -> None:
    """Kill `init` as a phase begins, chosen at random, and run it again; beside it, runs that nobody kills."""
    whole: list[float] = []
    again: list[float] = []
    with prepared(1) as machines:
        machines.choose([machines.master])
        phases: list[str] = []
        for number in range(runs):
            machines.wipe(machines.master)
            whole.append(machines.kubestrap("init"))
            phases = phases or _phases(machines)
            machines.wipe(machines.master)
            phase = random.choice(phases)
            _killed(machines, phase)
            again.append(machines.kubestrap("init"))
            say(f"run {number + 1} of {runs}: whole {whole[-1]:.1f} s, after a kill at {phase} {again[-1]:.1f} s")
    medians("init on a prepared machine", {"not killed": whole, "again after a kill": again})
    ratio("again after a kill / not killed", again, whole, 1.5)


def _phases(machines: Machines) -> list[str]:
    """List the phases that `init` begins."""
    ran = subprocess.run(machines.command("init", "--output", "json"), capture_output=True, timeout=600, check=True)
    events = map(json.loads, ran.stdout.splitlines())
    return [event["phase"] for event in events if event["event"] == "phase-started"]


def _killed(machines: Machines, phase: str) -> None:
    with subprocess.Popen(
        machines.command("init", "--output", "json"), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout
        for line in process.stdout:
            event = json.loads(line)
            if event["event"] == "phase-started" and event["phase"] == phase:
                process.kill()
                return
    sys.exit(f"init ended before the phase {phase} began")
