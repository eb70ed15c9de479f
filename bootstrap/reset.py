"""reset: take off machines what kubestrap put there, by the receipt that it left, and nothing of anybody else.

kubeadm's `cleanup-node` (kubeadm-facts section 8), and what kubeadm leaves to its packages and to the user: programs,
units, images, interfaces and packet filter rules of the Pod network. Nodes leave a cluster that goes on before their
machines are touched. Swap stays off, and what ran in the cluster is
lost with it; the operator's own kubeconfig is left.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources

from bootstrap import departure, lock, paths, run, spec
from bootstrap.connections import connected
from bootstrap.errors import (
    BootstrapError,
    HostError,
    HostsFailed,
    Locked,
    NoControlPlane,
    NotDeparted,
    StepFailed,
    UsageError,
)
from bootstrap.events import HostFailed, Listener, Note, PhaseDone, PhaseStarted, StepDone
from bootstrap.parallel import attempt
from bootstrap.transport.base import Host, Result

PHASE = "reset"
SECONDS = 900
"""The limit of one machine."""
_LOOK_SECONDS = 120


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


def reset(
    inventory: spec.Inventory, listener: Listener, *, only: Sequence[str] = (), force: bool = False
) -> list[Report]:
    """Take kubestrap's work off the hosts of `inventory` (or those in `only`): workers, then control planes, then etcd.

    Where a control plane stays, the hosts' Nodes leave the cluster first; a host whose Node does not is not touched,
    unless `force`. Doing it again is harmless, and finishes what was interrupted. Raises `UsageError` for a name in
    `only` that no host has and for a part of the control plane, and `HostsFailed` after all others are
    done.
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
        machines, refused = attempt(list(ready), lambda name: check(ready[name], inventory.cluster))
        failures |= refused
        nodes = {host.name for host in inventory.nodes}
        leaving = {name: machine for name, machine in machines.items() if name in nodes}
        failures |= depart(inventory, leaving, hosts, listener, force=force)

        def work(name: str) -> Report:
            return clean(ready[name], inventory.cluster, listener)

        for group in (
            [host.name for host in hosts if host.is_worker],
            [host.name for host in hosts if host.is_control_plane],
            [host.name for host in hosts if host.is_etcd],
        ):
            done, failed = attempt([name for name in group if name in ready and name not in failures], work)
            reports |= done
            failures |= failed
    for name, error in failures.items():
        listener(HostFailed(name, PHASE, error))
    if failures:
        raise HostsFailed(failures, list(reports))
    return [reports[host.name] for host in hosts]


def depart(
    inventory: spec.Inventory,
    machines: Mapping[str, str],
    leaving: Sequence[spec.Host],
    listener: Listener,
    *,
    force: bool,
) -> dict[str, BootstrapError]:
    """Take the Nodes of `machines` out of the cluster, if it goes on without `leaving`; give why some could not be."""
    if not machines or not goes_on(inventory, leaving):
        return {}
    limit = spec.seconds(inventory.cluster.timeouts.drain)
    try:
        names = [host.name for host in leaving]
        with run.reached_control_plane(inventory, but=names) as control_plane, control_plane.api() as api:
            api.get("/version")
            failures = departure.depart(api, machines, listener, seconds=limit, force=force)
    except NoControlPlane as error:
        listener(Note(f"There is no cluster that {', '.join(machines)} would have to leave first ({error})"))
        return {}
    except HostsFailed as error:
        failures = dict.fromkeys(machines, next(iter(error.failures.values())))
    except BootstrapError as error:
        failures = dict.fromkeys(machines, error)
    for name, why in failures.items():
        what = why.what if isinstance(why, HostError) and why.host == name else str(why)
        if force:
            listener(Note(f"{name}: its Node stays in the cluster, and the machine is reset all the same: {what}"))
        else:
            failures[name] = NotDeparted(name, what, why.exit_code)
    return {} if force else failures


def chosen(inventory: spec.Inventory, only: Sequence[str]) -> list[spec.Host]:
    """Give the hosts named in `only`, or all. Raises `UsageError` for a name that no host has."""
    known = [host.name for host in inventory.hosts]
    unknown = [name for name in only if name not in known]
    if unknown:
        raise UsageError(f"no such host: {', '.join(unknown)}; the inventory has {', '.join(known)}")
    return [host for host in inventory.hosts if not only or host.name in only]


def check(host: Host, cluster: spec.Cluster) -> str:
    """Give the machine's id, empty where it has none. Raises `StepFailed` where reset would refuse to begin."""
    result = host.run("sh -s", stdin=script(cluster, looking=True), seconds=_LOOK_SECONDS)
    _require_success(host.name, result)
    machine, *lines = result.stdout.decode(errors="replace").splitlines()
    read(host.name, lines)
    return machine.removeprefix("machine\t")


def _require_whole_control_plane(inventory: spec.Inventory, hosts: Sequence[spec.Host]) -> None:
    masters = [host.name for host in inventory.control_plane]
    gone = [host.name for host in hosts if host.is_control_plane]
    etcd = [host.name for host in hosts if host.is_etcd]
    if etcd and (len(gone) < len(masters) or len(etcd) < len(inventory.etcd_members)):
        raise UsageError(
            f"etcd of a cluster that goes on is not taken away ({', '.join(etcd)}): all of the cluster is in it. "
            "Reset the whole control plane with all of etcd's hosts, or leave these out"
        )
    if gone and len(gone) < len(masters):
        raise UsageError(
            f"reset does not take single hosts out of a control plane ({', '.join(gone)} of {', '.join(masters)}): "
            f"`kubestrap remove {' '.join(gone)}` does, with their members of etcd"
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
    _require_success(host.name, result)
    report = read(host.name, lines)
    listener(PhaseDone(host.name, PHASE, time.monotonic() - began, len(report.done), len(report.done)))
    return report


def script(cluster: spec.Cluster, *, receipt: str = paths.RECEIPT, looking: bool = False) -> bytes:
    """Give the script that is run on a machine; with `looking` it says what it would refuse, and changes nothing."""
    values = {
        "receipt": receipt,
        "etcd_data": cluster.etcd.local.data_dir.rstrip("/"),
        "looking": "yes" * looking,
    }
    assignments = "".join(f"{name}={shlex.quote(value)}\n" for name, value in values.items())
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


def goes_on(inventory: spec.Inventory, hosts: Sequence[spec.Host]) -> bool:
    """Say whether a control plane is left when `hosts` are gone."""
    return any(host.is_control_plane and host not in hosts for host in inventory.hosts)


def consequence(inventory: spec.Inventory, hosts: Sequence[spec.Host]) -> str:
    """Say what a reset of `hosts` takes away."""
    names = ", ".join(host.name for host in hosts)
    moved = " Pods move to other machines first." if goes_on(inventory, hosts) else ""
    return f"This takes Kubernetes off {names}, with all data of the cluster that is there.{moved}"


def _require_success(host: str, result: Result) -> None:
    if result.status:
        raise _stopped(host, result.stderr.decode(errors="replace").strip() or f"exit status {result.status}")


def _stopped(host: str, why: str) -> StepFailed:
    return StepFailed(host, PHASE, "take off what is ours", why)
