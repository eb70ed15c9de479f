"""Defragmenting the members one by one, and taking the alarm NOSPACE back."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from bootstrap import lock, spec
from bootstrap.connections import connected
from bootstrap.errors import (
    BootstrapError,
    EtcdRefused,
    EtcdUnfit,
    HostError,
    HostsFailed,
    Locked,
    WaitTimedOut,
    words,
)
from bootstrap.etcd import asking, quorum
from bootstrap.etcd.members import (
    NOSPACE,
    Seen,
    Status,
    advice,
    hindrances,
    identity,
    mebibytes,
    next_of,
    obstacles,
)
from bootstrap.events import HostFailed, Listener, Note, PhaseDone, PhaseStarted, StepDone, Waiting
from bootstrap.parallel import attempt
from bootstrap.transport.base import Host

DEFRAG = "etcd/defrag"
DISARM = "etcd/disarm"
DEFRAG_SECONDS = 1800.0
"""The limit of the defragmentation of one member, and of dropping the history on it."""
HEALTH_SECONDS = 120.0
"""How long a member may take to answer again after it."""
_PAUSE = 1.0
_DISK_SECONDS = 30.0
_SPARE_PERCENT = 10  # of room beside the new database, which stands beside the old one for a while


@contextmanager
def locked(inventory: spec.Inventory, command: str) -> Iterator[tuple[Mapping[str, Host], dict[str, BootstrapError]]]:
    """Have the hosts that run etcd and are reached, locked for `command`, and why the others are not.

    Raises `HostsFailed` where another run holds the lock of one.
    """
    with connected(inventory, inventory.etcd_members) as connections, lock.Lease(lock.Owner.here(command)) as lease:
        holdings = {name: lease.take(host) for name, host in connections.hosts.items()}
        _, unlocked = attempt(list(holdings), lambda name: holdings[name].wait())
        if held := {name: error for name, error in unlocked.items() if isinstance(error, Locked)}:
            raise HostsFailed(held)
        ready = {name: host for name, host in connections.hosts.items() if name not in unlocked}
        yield lease.guard(ready), {**connections.failures, **unlocked}


def defrag(
    hosts: Mapping[str, Host],
    unreached: Mapping[str, BootstrapError],
    data_dir: str,
    listener: Listener,
    *,
    compact: bool = False,
    force: bool = False,
) -> dict[str, tuple[int, int]]:
    """Defragment the members on `hosts` one by one, the leader last; give the sizes before and after by host.

    A member answers nothing meanwhile, and is waited for before the next begins. None begins while one is down or they
    do not agree, unless `force`. With `compact` the history is dropped first: all revisions but the last.

    Raises `EtcdUnfit`, and `HostsFailed` for hosts that failed or are in `unreached`.
    """
    done: dict[str, tuple[int, int]] = {}
    failures = dict(unreached)
    told: set[str] = set()
    left = list(hosts)
    while left:
        seen, unasked = asking.look(hosts, unreached)
        reasons = _reasons(hosts, seen, unasked)
        if reasons and not force:
            quorum.require(hosts, unreached)
            raise _unfit(reasons, done)
        for reason in reasons:
            if reason not in told:
                listener(Note(f"In spite of it: {reason}"))
        told |= set(reasons)
        failures |= {name: error for name, error in unasked.items() if name in left}
        left = [name for name in left if name in seen.statuses]
        if not left:
            break
        if compact:
            _compact(hosts, seen, listener)
            compact = False
        each = next_of([seen.statuses[name] for name in left])
        left.remove(each.host)
        try:
            done[each.host] = _defragment(hosts[each.host], seen.name(each.id), each, data_dir, listener)
        except HostError as failed:
            failures[each.host] = failed
            if not force:
                break  # the others stay up
    for name, error in failures.items():
        listener(HostFailed(name, DEFRAG, error))
    if failures:
        raise HostsFailed(failures, list(done))
    return done


def disarm(hosts: Mapping[str, Host], unreached: Mapping[str, BootstrapError], listener: Listener) -> int:
    """Take the alarm NOSPACE back, where every database has room again; give how many members had raised it.

    No other alarm is touched. Raises `EtcdUnfit` where it would be raised again, or one of another kind is there, and
    `HostsFailed` for hosts that failed or are in `unreached`.
    """
    seen, failures = asking.look(hosts, unreached)
    if not seen.statuses:
        raise HostsFailed(failures)
    quorum.require(hosts, unreached)
    wanted = [alarm for alarm in seen.alarms if alarm.kind == NOSPACE]
    if wanted and (reasons := hindrances(seen)):
        raise EtcdUnfit("the alarm NOSPACE cannot be disarmed yet; nothing was done", reasons)
    asked = min(seen.statuses.values(), key=lambda each: (each.learner, each.leads, each.host)).host
    began = time.monotonic()
    listener(PhaseStarted(asked, DISARM))
    for alarm in wanted:
        body = {"action": "DEACTIVATE", "memberID": str(alarm.member), "alarm": NOSPACE}
        asking.call(hosts[asked], "/v3/maintenance/alarm", body)
        listener(StepDone(asked, DISARM, f"alarm NOSPACE of {seen.name(alarm.member)}", "changed", "disarmed"))
    listener(PhaseDone(asked, DISARM, time.monotonic() - began, len(wanted), len(wanted)))
    for name, error in failures.items():
        listener(HostFailed(name, DISARM, error))
    if failures:
        raise HostsFailed(failures, [asked])
    if others := [alarm for alarm in seen.alarms if alarm.kind != NOSPACE]:
        reasons = [f"{seen.name(alarm.member)}: {advice(alarm.kind)}" for alarm in others]
        raise EtcdUnfit("there are alarms that are not to be disarmed", reasons)
    return len(wanted)


def _reasons(hosts: Mapping[str, Host], seen: Seen, failures: Mapping[str, BootstrapError]) -> list[str]:
    """Say why no member may be taken out of service now."""
    return [*obstacles(seen), *(str(error) for error in failures.values()), *_unready(hosts, seen)]


def _unfit(reasons: Sequence[str], done: Mapping[str, object]) -> EtcdUnfit:
    far = f"only {', '.join(done)} was defragmented" if done else "nothing was done"
    after = "A member that is being defragmented answers nothing, so one more would be down. --force does it."
    return EtcdUnfit(f"etcd is not well enough to be defragmented; {far}", reasons, after)


def _unready(hosts: Mapping[str, Host], seen: Seen) -> list[str]:
    """Say of which members no majority confirms what they answer. Learners cannot be asked."""
    voters = [name for name, status in seen.statuses.items() if status.leader and not status.learner]
    _, failures = attempt(voters, lambda name: asking.require_health(hosts[name]))
    return [str(error) for error in failures.values()]


def _compact(hosts: Mapping[str, Host], seen: Seen, listener: Listener) -> None:
    """Drop the history before the newest revision, and wait until it is gone on every member."""
    voters = [status for status in seen.statuses.values() if not status.learner]
    revision = max(status.revision for status in voters)
    for status in sorted(voters, key=lambda each: not each.leads):
        body = {"revision": str(revision), "physical": True}
        try:
            asking.call(hosts[status.host], "/v3/kv/compaction", body, seconds=DEFRAG_SECONDS)
        except EtcdRefused as error:
            # The second member is asked for what is done already. It says so when it is rid of the history itself.
            if error.reason != "BadRequest":
                raise
    listener(Note(f"The history before revision {revision} is dropped."))


def _defragment(host: Host, name: str, before: Status, data_dir: str, listener: Listener) -> tuple[int, int]:
    """Defragment one member, and wait until it is well again. Give its sizes before and after.

    It is done in any case: how much is in use is told by etcd only as of its last write.
    """
    began = time.monotonic()
    listener(PhaseStarted(host.name, DEFRAG))
    _require_room(host, before, data_dir)
    asking.call(host, "/v3/maintenance/defragment", seconds=DEFRAG_SECONDS)
    after = _await_health(host, before, listener)
    shrunk = after.size < before.size
    what = f"{mebibytes(before.size)} MiB became {mebibytes(after.size)} MiB"
    listener(StepDone(host.name, DEFRAG, f"database of {name}", "changed" if shrunk else "same", what))
    listener(PhaseDone(host.name, DEFRAG, time.monotonic() - began, int(shrunk), 1))
    return before.size, after.size


def _require_room(host: Host, before: Status, folder: str) -> None:
    result = host.run(f"df -P -k -- {shlex.quote(folder)}", seconds=_DISK_SECONDS)
    free = free_bytes(result.stdout.decode(errors="replace"))
    needed = before.in_use * (100 + _SPARE_PERCENT) // 100
    if free is not None and free < needed:
        raise HostError(
            host.name,
            f"its database is not defragmented: that writes a new one beside it, and {folder} has {mebibytes(free)} "
            f"MiB free of the {mebibytes(needed)} MiB that it takes. Make room there",
        )


def free_bytes(listing: str) -> int | None:
    """Read how much is free from what `df -P -k` writes of one folder; `None` where it says nothing."""
    rows = [line.split() for line in listing.splitlines()[1:]]
    return int(rows[0][3]) * 1024 if rows and len(rows[0]) >= 6 and rows[0][3].isdigit() else None


def _await_health(host: Host, before: Status, listener: Listener) -> Status:
    """Wait until the member answers, with a majority where it had one before, and give its status."""
    began = time.monotonic()
    while True:
        try:
            if before.leader and not before.learner:  # or else it was not confirmed before, either
                asking.require_health(host)
            seen, failures = asking.look({host.name: host}, {})
            if not failures:
                return seen.statuses[host.name]
            error: BootstrapError = failures[host.name]
        except HostError as refused:
            error = refused
        elapsed = time.monotonic() - began
        if elapsed > HEALTH_SECONDS:
            raise WaitTimedOut(
                host.name,
                f"its member {identity(before.id)} was defragmented, and is not well {HEALTH_SECONDS:g} s later: "
                f"{words(error)}. The members after it are left alone",
            ) from error
        listener(Waiting(host.name, DEFRAG, "the member to be well again", elapsed, HEALTH_SECONDS))
        time.sleep(_PAUSE)


def sizes(done: Mapping[str, tuple[int, int]]) -> Sequence[dict[str, object]]:
    """Give the sizes as data."""
    return [{"host": host, "before": before, "after": after} for host, (before, after) in done.items()]
