"""Taking members out of a running etcd: who may go, and the going.

Of what is left a majority must be well at once: etcd takes no writes otherwise, and no change of its members.
"""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from bootstrap import paths
from bootstrap.errors import BootstrapError, EtcdRefused, EtcdUnfit, HostsFailed
from bootstrap.etcd import asking
from bootstrap.etcd.members import Member, Seen, discord, identity
from bootstrap.events import Listener, PhaseDone, PhaseStarted, StepDone, Waiting
from bootstrap.parallel import attempt
from bootstrap.transport.base import Host

PHASE = "remove-etcd-member"
_METRICS = (
    f"timeout 10 {paths.BINARIES}/kubectl --kubeconfig /dev/null --server http://127.0.0.1:2381 get --raw /metrics | "
    "grep '^etcd_network_active_peers'"
)
_PASSING = ("ServiceUnavailable", "Timeout")
_SECONDS = 60.0  # etcd keeps members while another one has been connected for less than 5 s, or it has no leader
_PAUSE = 1.0


@dataclass(frozen=True, slots=True)
class Quorum:
    """A running etcd: its members as a majority knows them, and by member's id the hosts of those that are well."""

    seen: Seen
    well: Mapping[int, str]

    @property
    def members(self) -> Mapping[str, Member]:
        """The members by name; one that has not started by the first of its peer URLs."""
        return {each.name or next(iter(each.peers), identity(each.id)): each for each in self.seen.members}


def ask(hosts: Mapping[str, Host], unreached: Mapping[str, BootstrapError]) -> Quorum:
    """Ask the members on `hosts`; `unreached` is why others could not be connected to.

    Raises `EtcdUnfit` where no majority confirms what they say, `HostsFailed` where none answers.
    """
    seen, failures = asking.look(hosts, unreached)
    if not seen.statuses:
        raise HostsFailed(failures)
    voters = [name for name, status in seen.statuses.items() if status.leader and not status.learner]
    _, unwell = attempt(voters, lambda name: asking.require_health(hosts[name]))
    well = {seen.statuses[name].id: name for name in voters if name not in unwell}
    if not well:
        reasons = [*discord(seen), *map(str, failures.values()), *map(str, unwell.values())]
        raise EtcdUnfit("etcd has no quorum, so its members cannot be changed; nothing was done", reasons)
    # Asked of a majority: one that is behind may list members that are gone.
    listed = asking.enrolled(hosts[next(iter(well.values()))])
    return Quorum(replace(seen, members=listed), well)


def hindrances(quorum: Quorum, leaving: Collection[int]) -> list[str]:
    """Say why the members `leaving` (ids) may not go, all of them."""
    seen = quorum.seen
    staying = {host: each for host, each in seen.statuses.items() if each.id not in leaving}
    told = discord(replace(seen, statuses={host: each for host, each in staying.items() if each.id in quorum.well}))
    voters = [member for member in seen.members if not member.learner]
    rest = [member for member in voters if member.id not in leaving]
    if not rest:
        return [*told, f"{_listed(voters)}: no voting member would be left, and the cluster's data would be lost"]
    well = [member for member in rest if member.id in quorum.well]
    needed = len(rest) // 2 + 1
    if len(well) < needed:
        others = [member for member in rest if member.id not in quorum.well]
        told.append(
            f"{len(rest)} voting members would be left, of which {needed} must be well: {_listed(well) or 'none'} "
            f"{'is' if len(well) == 1 else 'are'}, and {_listed(others)} not"
        )
    return told


def is_in_touch(hosts: Mapping[str, Host], quorum: Quorum, member: Member) -> bool:
    """Say whether `member`, which cannot be asked, is connected to one that is well: then it is alive.

    One whose metrics cannot be read says nothing.
    """
    asked = {name: hosts[name] for number, name in quorum.well.items() if number != member.id}

    def ask(name: str) -> bool:
        answer = asked[name].run(_METRICS, seconds=asking.SECONDS).stdout.decode(errors="replace")
        return bool(re.search(rf'Remote="{identity(member.id)}"\}} 1$', answer, re.MULTILINE))

    return any(attempt(list(asked), ask)[0].values())


def _listed(members: Iterable[Member]) -> str:
    return ", ".join(map(str, members))


def in_order(quorum: Quorum, leaving: Mapping[str, Member]) -> list[str]:
    """Give the hosts in the order in which their members go: first those that are down, each one less to outvote."""
    return sorted(leaving, key=lambda name: leaving[name].id in quorum.well)


def expel(
    hosts: Mapping[str, Host],
    quorum: Quorum,
    member: Member,
    leaving: Collection[int],
    name: str,
    listener: Listener,
) -> None:
    """Take `member` of the host `name` out, by way of one that is well and not among `leaving`.

    A leader hands over first. One that is out already is left so. Raises `EtcdRefused`, and what else
    `asking.call` does.
    """
    by = next(host for number, host in quorum.well.items() if number not in leaving)
    began = time.monotonic()
    listener(PhaseStarted(name, PHASE))
    _hand_over(hosts, quorum, member, leaving)
    while True:
        elapsed = time.monotonic() - began
        try:
            asking.call(hosts[by], "/v3/cluster/member/remove", {"ID": str(member.id)})
        except EtcdRefused as error:
            if error.reason == "NotFound":
                break
            if error.reason not in _PASSING or elapsed >= _SECONDS:
                raise
            listener(Waiting(name, PHASE, f"etcd to let the member go ({error.what})", elapsed, _SECONDS))
            time.sleep(_PAUSE)
        else:
            what = f"removed, id {identity(member.id)}"
            listener(StepDone(name, PHASE, f"etcd member {member}", "changed", what))
            break
    listener(PhaseDone(name, PHASE, time.monotonic() - began, 1, 1))


def _hand_over(hosts: Mapping[str, Host], quorum: Quorum, member: Member, leaving: Collection[int]) -> None:
    """Have a leader that leaves make another one the leader, so that no election has to be waited for."""
    leader = next((each for each in quorum.seen.statuses.values() if each.id == member.id and each.leads), None)
    successor = next((number for number in quorum.well if number not in leaving), 0)
    if leader is None or not successor or leader.host not in hosts:
        return
    try:
        asking.call(hosts[leader.host], "/v3/maintenance/transfer-leadership", {"targetID": str(successor)})
    except BootstrapError:
        return  # then the others elect one
