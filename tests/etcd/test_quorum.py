"""Whether members are enough to write, by what they tell without a leader."""

from __future__ import annotations

import pytest

from bootstrap.errors import EtcdAbsent, EtcdUnreachable, HostError, QuorumLost, Unreachable
from bootstrap.etcd import quorum
from bootstrap.etcd.quorum import Voice
from bootstrap.transport.base import Result
from bootstrap.transport.local import LocalHost
from tests.etcd.members import Etcd, answer, voice

NAMES = ("cp1", "cp2", "cp3")


def heard(own: str, *, leader: bool = False, learners: tuple[str, ...] = (), committed: str = "50") -> Voice:
    found = quorum.parse(own, voice(NAMES, own, leader=leader, learners=learners, committed=committed))
    assert found is not None
    return found


def gone(*names: str) -> dict[str, HostError]:
    return {name: Unreachable(name, "no route to it") for name in names}


def test_one_of_three_is_told_with_who_is_missing_and_how_many_are_needed() -> None:
    error = quorum.lost({"cp1": heard("cp1")}, gone("cp2", "cp3"))
    assert error is not None
    assert error.exit_code == 13
    told = str(error)
    assert "cp1: its member answers, and has no leader" in told
    assert "cp2: no route to it" in told
    assert "2 of its 3 members must run" in told
    assert "`kubestrap etcd recover`" in told


def test_a_leader_is_the_proof_of_a_quorum() -> None:
    assert quorum.lost({"cp1": heard("cp1", leader=True)}, gone("cp2", "cp3")) is None
    assert quorum.lost({}, gone(*NAMES)) is None  # nobody tells


def test_learners_are_not_counted() -> None:
    error = quorum.lost({"cp1": heard("cp1", learners=("cp3",))}, gone("cp2", "cp3"))
    assert error is not None
    assert "2 of its 2 members" in str(error)
    assert not heard("cp3", learners=("cp3",)).votes


def test_a_member_that_is_on_no_host_is_named() -> None:
    error = quorum.lost({"cp1": heard("cp1")}, gone("cp2"))
    assert error is not None
    assert "cp3: this member is on no host of the inventory" in str(error)


def test_members_that_a_run_may_start_are_as_good_as_those_that_run() -> None:
    assert quorum.lost({"cp1": heard("cp1")}, gone("cp2", "cp3"), startable=["cp2"]) is None
    assert quorum.lost({"cp1": heard("cp1")}, gone("cp2", "cp3"), startable=[]) is not None


def test_members_that_are_enough_have_a_moment_to_find_a_leader(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quorum, "_PAUSE", 0.001)
    etcd = Etcd(NAMES, down={"cp3"})
    etcd.states |= {"cp1": answer(1, leader=0), "cp2": answer(2, leader=0)}
    asked = []

    class Electing(LocalHost):
        def run(self, *_: object, **__: object) -> Result:  # type: ignore[override]
            asked.append(self.name)
            if len(asked) > 4:
                etcd.states["cp2"] = answer(2)
            return etcd.tell(self.name)

    hosts = {name: Electing(name) for name in NAMES}
    quorum.require(hosts, {})
    monkeypatch.setattr(quorum, "_ELECTION_SECONDS", 0.01)
    etcd.states["cp2"] = answer(2, leader=0)
    asked.clear()
    with pytest.raises(QuorumLost, match=r"cp3: its member does not answer: .*refused"):
        quorum.require({name: hosts[name] for name in ("cp1", "cp3")}, gone("cp2"))


def test_what_a_member_does_not_tell_is_an_error_with_its_last_words() -> None:
    class Mute(LocalHost):
        status = 1

        def run(self, *_: object, **__: object) -> Result:  # type: ignore[override]
            return Result(self.status, b"data\tyes\n", b"...\nThe connection was refused - did you specify\n")

    with pytest.raises(EtcdUnreachable, match=r"The connection was refused$"):
        quorum.hear(Mute("cp1"))
    host = Mute("cp1")
    host.status = 64
    with pytest.raises(EtcdAbsent):
        quorum.hear(host)
