"""reset: take off machines what kubestrap put there, by the receipt that it left, and nothing of anybody else.

kubeadm's `cleanup-node` (kubeadm-facts section 8), and what kubeadm leaves to its packages and to the user: programs,
units, images, interfaces and packet filter rules of the Pod network. Swap stays off, and what ran in the cluster is
lost with it; the operator's own kubeconfig is left.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib import resources

from bootstrap import lock, paths, spec
from bootstrap.connections import connected
from bootstrap.errors import BootstrapError, HostsFailed, Locked, NotSupported, StepFailed, UsageError
from bootstrap.events import HostFailed, Listener, PhaseDone, PhaseStarted, StepDone
from bootstrap.parallel import attempt
from bootstrap.transport.base import Host

PHASE = "reset"
SECONDS = 900
"""The limit of one machine."""


@dataclass(frozen=True, slots=True)
class Left:
    """Something that stays on a machine, and why."""

    path: str
    why: str


@dataclass(frozen=True, slots=True)
class Report:
    """What reset did on one host. `nothing` says that no receipt was there."""

    host: str
    nothing: bool
    done: tuple[str, ...]
    left: tuple[Left, ...]


def reset(inventory: spec.Inventory, listener: Listener, *, only: Sequence[str] = ()) -> list[Report]:
    """Take kubestrap's work off the hosts of `inventory` (or those in `only`): workers at once, then control planes.

    Doing it again is harmless, and finishes what was interrupted. Raises `UsageError` for a name in `only` that no
    host has, `NotSupported` for a part of the control plane, and `HostsFailed` after all others are done.
    """
    hosts = chosen(inventory, only)
    _require_whole_control_plane(inventory, hosts)
    reports: dict[str, Report] = {}
    with connected(inventory, hosts) as connections, lock.Lease(lock.Owner.here("reset")) as lease:
        failures: dict[str, BootstrapError] = dict(connections.failures)
        _, unlocked = attempt(list(connections.hosts), lambda name: lease.take(connections.hosts[name]).wait())
        locked = {name: error for name, error in unlocked.items() if isinstance(error, Locked)}
        if locked:
            raise HostsFailed(locked)
        failures |= unlocked
        ready = lease.guard({name: host for name, host in connections.hosts.items() if name not in unlocked})

        def work(name: str) -> Report:
            return clean(ready[name], inventory.cluster, listener)

        for group in (
            [host.name for host in hosts if not host.is_control_plane],
            [host.name for host in hosts if host.is_control_plane],
        ):
            done, failed = attempt([name for name in group if name in ready], work)
            reports |= done
            failures |= failed
    for name, error in failures.items():
        listener(HostFailed(name, PHASE, error))
    if failures:
        raise HostsFailed(failures, list(reports))
    return [reports[host.name] for host in hosts]


def chosen(inventory: spec.Inventory, only: Sequence[str]) -> list[spec.Host]:
    """Give the hosts named in `only`, or all. Raises `UsageError` for a name that no host has."""
    known = [host.name for host in inventory.hosts]
    unknown = [name for name in only if name not in known]
    if unknown:
        raise UsageError(f"no such host: {', '.join(unknown)}; the inventory has {', '.join(known)}")
    return [host for host in inventory.hosts if not only or host.name in only]


def _require_whole_control_plane(inventory: spec.Inventory, hosts: Sequence[spec.Host]) -> None:
    masters = [host.name for host in inventory.hosts if host.is_control_plane]
    gone = [host.name for host in hosts if host.is_control_plane]
    if gone and len(gone) < len(masters):
        raise NotSupported(
            f"This version does not take single hosts out of a control plane ({', '.join(gone)} of "
            f"{', '.join(masters)}): etcd would go on counting them as members, which brings it closer to the loss of "
            "its quorum. Reset all hosts, or workers alone"
        )


def clean(host: Host, cluster: spec.Cluster, listener: Listener) -> Report:
    """Take kubestrap's work off one machine. Raises `HostError`."""
    began = time.monotonic()
    listener(PhaseStarted(host.name, PHASE))
    lines: list[str] = []

    def hear(line: bytes) -> None:
        text = line.decode(errors="replace")
        lines.append(text)
        if text.startswith("did\t"):
            listener(StepDone(host.name, PHASE, text.removeprefix("did\t"), "changed", "removed"))

    result = host.run("sh -s", stdin=script(cluster), seconds=SECONDS, on_line=hear)
    if result.status:
        raise _stopped(host.name, result.stderr.decode(errors="replace").strip() or f"exit status {result.status}")
    report = read(host.name, lines)
    listener(PhaseDone(host.name, PHASE, time.monotonic() - began, len(report.done), len(report.done)))
    return report


def script(cluster: spec.Cluster, *, receipt: str = paths.RECEIPT) -> bytes:
    """Give the script that is run on a machine."""
    assignments = f"receipt={shlex.quote(receipt)}\netcd_data={shlex.quote(cluster.etcd.local.data_dir.rstrip('/'))}\n"
    return assignments.encode() + resources.files("bootstrap").joinpath("reset.sh").read_bytes()


def read(host: str, lines: Iterable[str]) -> Report:
    """Read the script's answers. Raises `StepFailed` where it refused to begin, or had to stop."""
    nothing = False
    done: list[str] = []
    left: list[Left] = []
    for line in lines:
        match line.split("\t"):
            case ["nothing"]:
                nothing = True
            case ["did", what]:
                done.append(what)
            case ["left", path, why]:
                left.append(Left(path, why))
            case ["refused", why]:
                raise _stopped(host, f"{why}. Nothing was changed here")
            case ["failed", why]:
                raise _stopped(host, f"{why}. Running reset again goes on from here")
            case _:
                raise _stopped(host, f"unexpected answer: {line!r}")
    return Report(host, nothing, tuple(done), tuple(left))


def confirm(inventory: spec.Inventory, hosts: Sequence[spec.Host], ask: Callable[[str], str]) -> bool:
    """Have the user type the cluster's name, and say whether it was that."""
    names = ", ".join(host.name for host in hosts)
    question = (
        f"This takes Kubernetes off {names}, with all data of the cluster that is there.\n"
        f"Type the cluster's name ({inventory.cluster.name}) to go on"
    )
    return ask(question).strip() == inventory.cluster.name


def _stopped(host: str, why: str) -> StepFailed:
    return StepFailed(host, PHASE, "take off what is ours", why)
