"""What etcd's members say of themselves, and what follows from it. Nothing here asks anybody."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

FULL = 80
"""The percentage of its quota at which a database is told to be too large: at 100 the cluster takes no writes."""
HOLLOW = 50
"""The percentage of a database that must be in use, or else it is told that defragmenting it is worth while."""
_LARGE = 64 * 1024 * 1024  # of what a defragmentation gives back; less is not worth a word
_DEFAULT_QUOTA = 2 * 1024**3  # etcd before 3.6 does not tell its quota
NOSPACE = "NOSPACE"
_ALARM = re.compile(r"(?:memberID:(\d+)\s+)?alarm:(\w+)")


@dataclass(frozen=True, slots=True, order=True)
class Alarm:
    """An alarm of the cluster. `member` is the id of who raised it, 0 where etcd does not tell."""

    kind: str
    member: int


@dataclass(frozen=True, slots=True)
class Status:
    """What the member on a host says of itself; sizes in bytes. `leader` is 0 where it knows of none."""

    host: str
    cluster: int
    id: int
    version: str
    size: int
    in_use: int
    quota: int
    leader: int
    learner: bool
    term: int
    index: int
    applied: int
    revision: int
    alarms: tuple[Alarm, ...] = ()
    errors: tuple[str, ...] = ()

    @property
    def leads(self) -> bool:
        """Whether it is the leader."""
        return self.leader == self.id

    @property
    def raised(self) -> list[str]:
        """The kinds of alarm that it tells of itself, or of no member in particular."""
        return [alarm.kind for alarm in self.alarms if alarm.member in (0, self.id)]

    @property
    def is_full(self) -> bool:
        """Whether its database is near its quota, or beyond it."""
        return self.size * 100 > self.quota * FULL


@dataclass(frozen=True, slots=True)
class Member:
    """A member as the cluster lists it. One that was added and never started has no name yet."""

    id: int
    name: str
    learner: bool
    peers: tuple[str, ...]
    has_started: bool = True

    def __str__(self) -> str:
        """Name it for people."""
        return self.name or f"one that has not started ({', '.join(self.peers)})"


@dataclass(frozen=True, slots=True)
class Seen:
    """What was found out: by host what its member says, and the members that the cluster has.

    `unasked` are the hosts that gave no answer; why is told with them.
    """

    statuses: Mapping[str, Status]
    members: tuple[Member, ...]
    unasked: frozenset[str] = frozenset()

    def name(self, member: int) -> str:
        """Name a member: as the cluster does, or else by its id. An alarm may be of none (0)."""
        if not member:
            return "all members"
        return next((str(each) for each in self.members if each.id == member), identity(member))

    @property
    def alarms(self) -> list[Alarm]:
        """All alarms, each once."""
        return sorted({alarm for status in self.statuses.values() for alarm in status.alarms})

    @property
    def silent(self) -> list[Member]:
        """The members that are on none of the hosts that were asked."""
        answered = {status.id for status in self.statuses.values()}
        return [member for member in self.members if member.id not in answered and member.name not in self.unasked]


def identity(number: int) -> str:
    """Write an id as etcd's own tools do."""
    return f"{number:x}"


def status(host: str, answer: Mapping[str, Any]) -> Status:
    """Read the answer of `/v3/maintenance/status`. Numbers of 64 bits are text in it, and zeros are left out."""
    header = answer["header"]
    said = [str(each) for each in answer.get("errors", [])]

    def number(name: str, source: Mapping[str, Any] = answer) -> int:
        return int(source.get(name, 0))

    return Status(
        host=host,
        cluster=number("cluster_id", header),
        id=number("member_id", header),
        version=str(answer.get("version", "")),
        size=number("dbSize"),
        in_use=number("dbSizeInUse"),
        quota=number("dbSizeQuota") or _DEFAULT_QUOTA,
        leader=number("leader"),
        learner=bool(answer.get("isLearner", False)),
        term=number("raftTerm"),
        index=number("raftIndex"),
        applied=number("raftAppliedIndex"),
        revision=number("revision", header),
        alarms=tuple(alarms(said)),
        errors=tuple(each for each in said if not _ALARM.search(each)),
    )


def alarms(errors: Sequence[str]) -> Iterator[Alarm]:
    """Find the alarms among the errors of a status, as in `memberID:123 alarm:NOSPACE`."""
    for text in errors:
        if found := _ALARM.search(text):
            yield Alarm(found[2], int(found[1] or 0))


def members(answer: Mapping[str, Any]) -> tuple[Member, ...]:
    """Read the answer of `/v3/cluster/member/list`, in the order of the names."""
    listed = (
        Member(
            int(each["ID"]),
            each.get("name", ""),
            bool(each.get("isLearner", False)),
            tuple(each["peerURLs"]),
            has_started=bool(each.get("clientURLs")),
        )
        for each in answer.get("members", [])
    )
    return tuple(sorted(listed, key=lambda member: (member.name, member.id)))


def discord(seen: Seen) -> list[str]:
    """Say on what the members do not agree, or what they lack to be one cluster."""
    statuses = seen.statuses
    told = []
    clusters = {each.host: identity(each.cluster) for each in statuses.values()}
    if len(set(clusters.values())) > 1:
        says = ", ".join(f"{host} in {cluster}" for host, cluster in clusters.items())
        told.append(
            f"the members are in different clusters: {says}. Change nothing before it is clear which one is yours"
        )
    told += [
        f"{each.host}: its member has no leader: more than half of the voting members must run and reach each other "
        "on port 2380"
        for each in statuses.values()
        if not each.leader
    ]
    leaders = {each.host: seen.name(each.leader) for each in statuses.values() if each.leader}
    if len(set(leaders.values())) > 1 and len(set(clusters.values())) == 1:
        says = ", ".join(f"{host} follows {leader}" for host, leader in leaders.items())
        told.append(f"the members do not agree on the leader: {says}. Ask again; it lasts where machines are cut off")
    return told


def warnings(seen: Seen) -> list[str]:
    """Say in plain words what somebody should look after."""
    told = discord(seen)
    told += [f"{seen.name(alarm.member)}: {advice(alarm.kind)}" for alarm in seen.alarms]
    told += [
        f"{member}: this member (id {identity(member.id)}) is on no control-plane host of the inventory"
        for member in seen.silent
    ]
    for each in seen.statuses.values():
        name = seen.name(each.id)
        if each.learner:
            told.append(f"{name}: it is a learner, and has no vote yet")
        if each.is_full:
            told.append(f"{name}: {lack_of_room(each)}")
        elif each.size - each.in_use >= _LARGE and each.in_use * 100 < each.size * HOLLOW:
            told.append(
                f"{name}: {mebibytes(each.in_use)} of the {mebibytes(each.size)} MiB of its database are in use: "
                "`kubestrap etcd defrag` gives the rest back"
            )
    return told


def advice(alarm: str) -> str:
    """Say what an alarm of this kind means, and what to do."""
    if alarm == NOSPACE:
        return (
            "alarm NOSPACE: the cluster takes no writes, as a database reached its quota. Make room with "
            "`kubestrap etcd defrag --compact`, then `kubestrap etcd alarms disarm`"
        )
    if alarm == "CORRUPT":
        return (
            "alarm CORRUPT: the data of members differ, so one of them is damaged. Save a snapshot of a good one "
            "(`kubestrap etcd snapshot save`), and replace the damaged member"
        )
    return f"alarm {alarm}"


def lack_of_room(each: Status) -> str:
    """Say how full a database is, and what makes room."""
    used = f"its database has {mebibytes(each.size)} of {mebibytes(each.quota)} MiB"
    if each.in_use * 100 > each.quota * FULL:
        return (
            f"{used}, and {mebibytes(each.in_use)} MiB are in use. Drop the history and defragment it (`kubestrap etcd "
            "defrag --compact`); where that is not enough, delete objects, or raise the quota (quota-backend-bytes in "
            "cluster.etcd.local.extraArgs, then `kubestrap init`)"
        )
    return f"{used}, of which {mebibytes(each.in_use)} MiB are in use: `kubestrap etcd defrag` gives the rest back"


def mebibytes(count: int) -> str:
    """Write bytes as MiB, without the unit."""
    return f"{count / 1024**2:.1f}"


def sources(seen: Seen) -> list[Status]:
    """Give the members of which a snapshot can be taken, the best first.

    The followers that have applied most, then the leader, whose work a snapshot would slow down. Members without a
    leader may lag behind, learners give none, and the data of those that raised CORRUPT are damaged.
    """
    damaged = {alarm.member for alarm in seen.alarms if alarm.kind == "CORRUPT"}
    sound = [
        each
        for each in seen.statuses.values()
        if each.leader and not each.learner and each.id not in damaged and 0 not in damaged
    ]
    return sorted(sound, key=lambda each: (each.leads, -each.applied))


def next_of(left: Sequence[Status]) -> Status:
    """Say which of `left` is to be defragmented next: the leader is the last."""
    return min(left, key=lambda each: (each.leads, each.host))


def obstacles(seen: Seen) -> list[str]:
    """Say why no member may be taken out of service for a while.

    A member that is being defragmented answers nothing. Where another one is down already, that may be one too many.
    """
    told = discord(seen)
    told += [
        f"the member {member} (id {identity(member.id)}) is on no control-plane host of the inventory"
        for member in seen.silent
    ]
    for each in seen.statuses.values():
        told += [f"{each.host}: its member says: {error}" for error in each.errors if each.leader]
    told += [f"{seen.name(alarm.member)}: {advice(alarm.kind)}" for alarm in seen.alarms if alarm.kind != NOSPACE]
    return told


def hindrances(seen: Seen) -> list[str]:
    """Say why the alarm NOSPACE would be raised again, or may not be taken back."""
    told = [f"{seen.name(each.id)}: {lack_of_room(each)}" for each in seen.statuses.values() if each.is_full]
    answered = {each.id for each in seen.statuses.values()}
    told += [
        f"{seen.name(alarm.member)}: it raised the alarm and does not answer, so nobody knows whether it has room"
        for alarm in seen.alarms
        if alarm.kind == NOSPACE and alarm.member and alarm.member not in answered
    ]
    return told
