"""Going on without a quorum: one member becomes the whole cluster, with its own data or with a snapshot's.

etcd's guide to disaster recovery, with nothing of it left behind: `--force-new-cluster` is in no manifest. The member's
cluster keeps its id where its own data are used, and remembers the others as removed: one of those that comes back is
told so, and ends. The manifest of the member keeps its list of all members, so that it never forms a cluster of its
own where its data are lost later (decision 16); etcd itself reads that list only where it has no data.
"""

from __future__ import annotations

import datetime
import secrets
import shlex
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from bootstrap import run
from bootstrap.errors import HostError, HostsFailed, StepFailed, WaitTimedOut, words
from bootstrap.etcd import asking
from bootstrap.etcd.snapshots import Snapshot
from bootstrap.etcd.survivors import SURVIVOR, Choice, script
from bootstrap.events import HostFailed, Listener, PhaseDone, PhaseStarted, Sending, StepDone, Waiting
from bootstrap.parallel import attempt
from bootstrap.spec import Cluster
from bootstrap.transport.base import Host, Result

PHASE = "etcd/recover"
HEALTH_SECONDS = 300.0
"""How long etcd, and then the API server, may take to answer."""
_SECONDS = 600.0
_UPLOAD_SECONDS = 3600.0
_CHUNK = 256 * 1024
_PAUSE = 1.0


@dataclass(frozen=True, slots=True)
class Recovered:
    """The host whose member is the whole of etcd now, and where former data are, by host."""

    host: str
    aside: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Work:
    hosts: Mapping[str, Host]
    choice: Choice
    cluster: Cluster
    listener: Listener
    values: Mapping[str, str]

    def do(self, name: str, action: str, what: str, how: str) -> dict[str, str]:
        """Do a part of the recovery on a host, and give its answers. Raises `StepFailed`."""
        # The request marks the host that was chosen; the manifests of the others are only held.
        request = self.choice.request * (name == self.choice.source.host)
        values = {**self.values, "node": name, "request": request}
        host = self.hosts[name]
        told = _answers(host, what, host.run("sh -s", stdin=script(action, values), seconds=_SECONDS))
        if how:
            self.listener(StepDone(name, PHASE, what, "changed", how))
        return told


def recover(
    hosts: Mapping[str, Host], choice: Choice, cluster: Cluster, snapshot: Snapshot | None, listener: Listener
) -> Recovered:
    """Do what `choice` says; every part can be done again, and what a killed run left is gone on with.

    Raises `StepFailed` and `WaitTimedOut` for what stopped it, after which nothing of the former cluster is running,
    and `HostsFailed` at the end for hosts whose former members could not be emptied.
    """
    source, name = choice.source, choice.source.host
    now = datetime.datetime.now(datetime.UTC)
    data = source.flags.get("data-dir", cluster.etcd.local.data_dir)
    values = {
        "data": data,
        "aside": f"{data}/kubestrap-before-{now:%Y%m%d-%H%M%S}",
        "image": source.image,
        "member": source.flags["name"],
        "peer": source.flags["initial-advertise-peer-urls"],
        "client": source.flags["advertise-client-urls"],
        "token": secrets.token_hex(8),
    }
    work = _Work(hosts, choice, cluster, listener, values)
    began = time.monotonic()
    involved = [*([] if choice.done else [name]), *choice.others]
    for each in involved:
        listener(PhaseStarted(each, PHASE))
    aside: dict[str, str] = {}
    _stop(work)
    if not choice.done:
        aside |= _make(work, snapshot)
        work.do(name, "etcd", "etcd", "started")
        _await(work, "etcd to be well, alone", lambda: asking.require_health(hosts[name]))
    emptied, failures = attempt(
        list(choice.others), lambda other: work.do(other, "empty", "the former member", "emptied")
    )
    aside |= {other: told["aside"] for other, told in emptied.items() if "aside" in told}
    if not choice.done:
        work.do(name, "rest", "the control plane", "started")
    _await(work, "the API server to be ready", lambda: _require_ready(hosts[name], cluster))
    for each in involved:
        if each not in failures:
            listener(PhaseDone(each, PHASE, time.monotonic() - began, 1, 1))
    for other, error in failures.items():
        listener(HostFailed(other, PHASE, error))
    if failures:
        raise HostsFailed(failures, [each for each in involved if each not in failures])
    return Recovered(name, aside)


def _stop(work: _Work) -> None:
    """Have nothing of etcd and the API servers run on any host, so that there are never two clusters."""
    names = [*([] if work.choice.done else [work.choice.source.host]), *work.choice.others]
    _, failures = attempt(names, lambda name: work.do(name, "stop", "etcd and the API server", "stopped"))
    if failures:
        raise HostsFailed(failures)


def _make(work: _Work, snapshot: Snapshot | None) -> dict[str, str]:
    """Make the new data and put them in place, unless they are; give where the former ones are, by host."""
    name = work.choice.source.host
    host = work.hosts[name]
    told = work.do(name, "begin", "what another run left", "")
    if "replaced" not in told:
        if snapshot:
            _send(work, host, snapshot)
        what = f"data of the member {work.values['member']}"
        how = "made from its own, alone" if work.choice.request == SURVIVOR else "made from the snapshot"
        told |= work.do(name, "make", what, how)
    return {name: told["aside"]} if "aside" in told else {}


def _send(work: _Work, host: Host, snapshot: Snapshot) -> None:
    """Bring the snapshot to the machine, which checks it again before it uses it."""
    path = f"{work.values['data']}/kubestrap-recovery/snapshot.db"

    def pieces() -> Iterator[bytes]:
        sent = 0
        with Path(snapshot.path).open("rb") as file:
            while piece := file.read(_CHUNK):
                yield piece
                sent += len(piece)
                work.listener(Sending(host.name, PHASE, sent, snapshot.size))

    command = f"umask 077; cat >{shlex.quote(path)}"
    result = host.run(command, stdin=pieces(), seconds=_UPLOAD_SECONDS)
    _answers(host, "the snapshot", result)


def _answers(host: Host, what: str, result: Result) -> dict[str, str]:
    if result.status:
        said = result.stderr.decode(errors="replace").strip() or f"status {result.status}"
        raise StepFailed(host.name, PHASE, what, said)
    return dict(line.split("\t", 1) for line in result.stdout.decode(errors="replace").splitlines() if "\t" in line)


def _require_ready(host: Host, cluster: Cluster) -> None:
    if not run.serves({host.name: host}, cluster):
        raise HostError(host.name, "its API server is not ready")


def _await(work: _Work, what: str, ask: Callable[[], None]) -> None:
    name = work.choice.source.host
    began = time.monotonic()
    while True:
        try:
            ask()
        except HostError as error:
            elapsed = time.monotonic() - began
            if elapsed > HEALTH_SECONDS:
                raise WaitTimedOut(name, f"waited {HEALTH_SECONDS:g} s for {what}, in vain: {words(error)}") from error
            work.listener(Waiting(name, PHASE, what, elapsed, HEALTH_SECONDS))
            time.sleep(_PAUSE)
        else:
            return
