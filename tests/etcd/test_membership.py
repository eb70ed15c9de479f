"""Who may leave etcd, and how, with members that answer as real ones do; real ones leave in tests/lab."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from bootstrap.errors import EtcdRefused, EtcdUnfit, HostsFailed, Unreachable
from bootstrap.etcd import membership
from bootstrap.etcd.membership import Quorum
from bootstrap.events import Event, StepDone, Waiting
from bootstrap.transport.base import Result
from tests.etcd.members import UNCONFIRMED, Etcd, Member, answer, said

NAMES = ("cp1", "cp2", "cp3")
REMOVE = "/v3/cluster/member/remove"
HAND_OVER = "/v3/maintenance/transfer-leadership"


@pytest.fixture
def etcd(monkeypatch: pytest.MonkeyPatch) -> Etcd:
    """Three members, of which `cp1` leads."""
    monkeypatch.setattr(membership, "_PAUSE", 0.001)
    return Etcd(NAMES, may_ask_all=True)


def quorum_of(etcd: Etcd, unreached: Sequence[str] = ()) -> Quorum:
    hosts = {name: host for name, host in etcd.hosts.items() if name not in unreached}
    return membership.ask(hosts, {name: Unreachable(name, "no route") for name in unreached})


def ids(quorum: Quorum, *names: str) -> list[int]:
    return [quorum.members[name].id for name in names]


def expel(etcd: Etcd, name: str, leaving: Sequence[str] = ()) -> list[Event]:
    quorum, events = quorum_of(etcd), list[Event]()
    going = ids(quorum, name, *leaving)
    membership.expel(etcd.hosts, quorum, quorum.members[name], going, name, events.append)
    return events


def test_one_of_three_may_go_whether_it_is_well_or_not(etcd: Etcd) -> None:
    quorum = quorum_of(etcd)
    for name in NAMES:
        assert membership.hindrances(quorum, ids(quorum, name)) == []
    etcd.down = {"cp3"}
    quorum = quorum_of(etcd)
    assert membership.hindrances(quorum, ids(quorum, "cp3")) == []


def test_a_living_one_may_not_go_while_another_is_down(etcd: Etcd) -> None:
    quorum = quorum_of(etcd, unreached=["cp3"])
    assert membership.hindrances(quorum, ids(quorum, "cp2")) == [
        "2 voting members would be left, of which 2 must be well: cp1 is, and cp3 not"
    ]
    # With the one that is down gone, too, what is left is whole.
    assert membership.hindrances(quorum, ids(quorum, "cp2", "cp3")) == []
    assert membership.in_order(quorum, {name: quorum.members[name] for name in ("cp2", "cp3")}) == ["cp3", "cp2"]


def test_the_last_one_may_not_go(etcd: Etcd) -> None:
    quorum = quorum_of(etcd)
    assert "no voting member would be left" in membership.hindrances(quorum, ids(quorum, *NAMES))[0]


def test_a_learner_does_not_count(etcd: Etcd) -> None:
    def learning(name: str, path: str, body: Any) -> Result | None:
        if path != "/v3/cluster/member/list":
            return None
        members = [
            {"ID": str(number), "name": each, "peerURLs": [f"https://{each}:2380"], "isLearner": number > 1}
            for number, each in enumerate(NAMES, 1)
        ]
        return said({"members": members})

    etcd.on = learning
    quorum = quorum_of(etcd)
    assert membership.hindrances(quorum, ids(quorum, "cp3")) == []
    assert membership.hindrances(quorum, ids(quorum, "cp1")) != []


def test_members_of_another_cluster_stop_it(etcd: Etcd) -> None:
    etcd.states["cp2"] = answer(2, cluster=7)
    quorum = quorum_of(etcd)
    assert "different clusters" in membership.hindrances(quorum, ids(quorum, "cp3"))[0]


def test_without_a_quorum_nothing_is_known(etcd: Etcd) -> None:
    etcd.on = lambda name, path, body: UNCONFIRMED if path == "/v3/kv/range" else None
    with pytest.raises(EtcdUnfit, match="no quorum"):
        quorum_of(etcd)
    etcd.down = set(NAMES)
    with pytest.raises(HostsFailed):
        quorum_of(etcd)


@pytest.mark.parametrize(("streams", "alive"), [("1", True), ("0", False), ("", False)])
def test_a_member_that_others_are_connected_to_is_alive(etcd: Etcd, streams: str, alive: bool) -> None:
    class Told(Member):
        def run(self, command: str, **options: Any) -> Result:
            if "/metrics" not in command:
                return super().run(command, **options)
            line = f'etcd_network_active_peers{{Local="1",Remote="3"}} {streams}\n' if streams else ""
            return Result(0, line.encode(), b"")

    quorum = quorum_of(etcd, unreached=["cp3"])
    hosts = {name: Told(name, etcd) for name in ("cp1", "cp2")}
    assert membership.is_in_touch(hosts, quorum, quorum.members["cp3"]) is alive


def test_a_member_is_removed_by_one_that_stays(etcd: Etcd) -> None:
    events = expel(etcd, "cp2", leaving=["cp1"])
    assert etcd.calls(REMOVE) == ["cp3"]
    assert etcd.removed == ["2"]
    assert etcd.calls(HAND_OVER) == []
    assert [event.what for event in events if isinstance(event, StepDone)] == ["removed, id 2"]


def test_a_leader_hands_over_to_one_that_stays_first(etcd: Etcd) -> None:
    expel(etcd, "cp1", leaving=["cp2"])
    (handed,) = [(name, body) for name, path, body in etcd.asked if path == HAND_OVER]
    assert handed == ("cp1", {"targetID": "3"})
    assert etcd.calls(REMOVE) == ["cp3"]


def test_one_that_is_out_already_is_left_so(etcd: Etcd) -> None:
    quorum, events = quorum_of(etcd), list[Event]()
    etcd.removed.append("2")
    membership.expel(etcd.hosts, quorum, quorum.members["cp2"], [2], "cp2", events.append)
    assert not any(isinstance(event, StepDone) for event in events)


def test_etcd_that_does_not_let_go_yet_is_asked_again(etcd: Etcd, monkeypatch: pytest.MonkeyPatch) -> None:
    refusals = iter([UNCONFIRMED, UNCONFIRMED])
    etcd.on = lambda name, path, body: next(refusals, None) if path == REMOVE else None
    events = expel(etcd, "cp2")
    assert len([event for event in events if isinstance(event, Waiting)]) == 2
    assert etcd.removed == ["2"]
    monkeypatch.setattr(membership, "_SECONDS", 0)
    etcd.on = lambda name, path, body: UNCONFIRMED if path == REMOVE else None
    with pytest.raises(EtcdRefused):
        expel(etcd, "cp3")
