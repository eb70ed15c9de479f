"""Whether etcd can write at all: who of its members answers, who is missing, and how many are needed."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

from bootstrap.errors import BootstrapError, EtcdAbsent, EtcdUnreachable, QuorumLost, words
from bootstrap.etcd.members import Member
from bootstrap.parallel import attempt
from bootstrap.transport.base import Host

_ABSENT = 64
_ASK_SECONDS = 40.0
_ELECTION_SECONDS = 6.0  # for members that are enough to find a leader
_PAUSE = 1.0


@dataclass(frozen=True, slots=True)
class Voice:
    """What a member tells though it may have no leader: its id, the members it knows, and how far its log is committed.

    What is committed is the same on all members as far as it goes, so that the highest index tells the newest data.
    `committed` is -1 where it does not tell.
    """

    host: str
    id: int
    members: tuple[Member, ...]
    committed: int
    leader: bool

    @property
    def votes(self) -> bool:
        """Whether it is one of those whose majority decides."""
        return any(member.id == self.id and not member.learner for member in self.members)


def hear(host: Host) -> Voice:
    """Ask the member on `host`, on the machine itself, at the addresses that its manifest gives.

    Raises `EtcdAbsent` where the machine has no manifest, `EtcdUnreachable` where its member does not answer its
    peers; `HostError` for all that is wrong with the connection.
    """
    script = resources.files("bootstrap.etcd").joinpath("voice.sh").read_bytes()
    result = host.run("sh -s", stdin=script, seconds=_ASK_SECONDS)
    if result.status == _ABSENT:
        raise EtcdAbsent(host.name, "it runs no etcd member")
    voice = parse(host.name, result.stdout)
    if voice is None:
        said = result.stderr.decode(errors="replace").strip().splitlines() or ["nothing was said"]
        raise EtcdUnreachable(host.name, f"its member does not answer: {said[-1].partition(' - did')[0]}")
    return voice


def parse(host: str, answer: bytes) -> Voice | None:
    """Read what the script wrote; None where the member did not answer."""
    told = dict(line.split("\t", 1) for line in answer.decode(errors="replace").splitlines() if "\t" in line)
    try:
        listed = json.loads(told.get("members", ""))
        members = tuple(map(_member, listed))
        own = int(told.get("id", "0"), 16)
        committed = int(float(told.get("committed", "-1")))
    except (ValueError, TypeError, KeyError):
        return None
    return Voice(host, own, members, committed, told.get("leader", "0").strip() == "1")


def _member(listed: Mapping[str, Any]) -> Member:
    peers = tuple(map(str, listed["peerURLs"]))
    return Member(int(listed["id"]), str(listed.get("name", "")), bool(listed.get("isLearner", False)), peers)


def lost(
    voices: Mapping[str, Voice], silent: Mapping[str, BootstrapError], *, startable: Collection[str] = ()
) -> QuorumLost | None:
    """Say whether, by what its members tell, etcd has no quorum; None where it has, or nobody tells.

    The members on the hosts `startable` do not answer, but the command that asks may have them start.
    """
    if not voices or any(voice.leader for voice in voices.values()):
        return None
    # The longest list is the newest while members are added, and names all where one is behind.
    listed = max((voice.members for voice in voices.values()), key=len)
    voters = [member for member in listed if not member.learner]
    needed = len(voters) // 2 + 1
    answering = [voice for voice in voices.values() if voice.votes]
    if startable and len(answering) + len(startable) >= needed:
        return None
    reasons = [f"{host}: its member answers, and has no leader" for host in voices]
    reasons += [f"{host}: {words(error)}" for host, error in silent.items()]
    told = {*voices, *silent}
    reasons += [f"{member}: this member is on no host of the inventory" for member in voters if member.name not in told]
    return QuorumLost(reasons, needed, len(voters))


def require(
    hosts: Mapping[str, Host], unreached: Mapping[str, BootstrapError], *, startable: Collection[str] = ()
) -> None:
    """Raise `QuorumLost` where the members on `hosts` have no leader. `unreached` is why other hosts are not asked.

    Members that are enough have a moment to find one. Where no member answers at all, nothing is known, and nothing
    is raised: whatever needs etcd tells better why it does not run.
    """
    began = time.monotonic()
    while True:
        voices, failures = attempt(list(hosts), lambda name: hear(hosts[name]))
        error = lost(voices, {**failures, **unreached}, startable=[name for name in startable if name not in voices])
        if error is None:
            return
        if len(voices) < error.needed or time.monotonic() - began > _ELECTION_SECONDS:
            raise error
        time.sleep(_PAUSE)
