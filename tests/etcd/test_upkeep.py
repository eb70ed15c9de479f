"""Defragmenting and disarming, against members that answer as real ones do."""

from __future__ import annotations

from typing import Any

import pytest

from bootstrap.errors import EtcdUnfit, HostError, HostsFailed, Unreachable, WaitTimedOut
from bootstrap.etcd import upkeep
from bootstrap.events import Event, Note, StepDone, Waiting
from bootstrap.transport.base import Result
from tests.etcd.members import COMPACTED, UNCONFIRMED, Etcd, answer

DEFRAGMENT = "/v3/maintenance/defragment"
ALARM = "/v3/maintenance/alarm"
NAMES = ("cp1", "cp2", "cp3")


@pytest.fixture
def etcd(monkeypatch: pytest.MonkeyPatch) -> Etcd:
    """Three members, of which `cp1` leads and `cp2` has something to give back."""
    monkeypatch.setattr(upkeep, "_PAUSE", 0.001)
    etcd = Etcd(NAMES)
    etcd.states["cp2"]["dbSize"] = "9000"
    return etcd


def defrag(etcd: Etcd, **options: Any) -> tuple[dict[str, tuple[int, int]], list[Event]]:
    events: list[Event] = []
    unreached = options.pop("unreached", {})
    hosts = {name: host for name, host in etcd.hosts.items() if name not in unreached}
    return upkeep.defrag(hosts, unreached, "/var/lib/etcd", events.append, **options), events


def test_members_are_defragmented_one_by_one_the_leader_last(etcd: Etcd) -> None:
    done, events = defrag(etcd)
    assert etcd.calls(DEFRAGMENT) == ["cp2", "cp3", "cp1"]
    assert done == {"cp2": (9000, 8192), "cp3": (8192, 8192), "cp1": (8192, 8192)}
    states = [(event.host, event.state) for event in events if isinstance(event, StepDone)]
    assert states == [("cp2", "changed"), ("cp3", "same"), ("cp1", "same")]


def test_a_leader_that_is_new_meanwhile_is_last_all_the_same(etcd: Etcd) -> None:
    def moved(name: str, path: str, body: Any) -> None:
        if path == DEFRAGMENT:
            for number, each in enumerate(NAMES, 1):
                etcd.states[each] = answer(number, leader=3)

    etcd.on = moved
    defrag(etcd)
    assert etcd.calls(DEFRAGMENT) == ["cp2", "cp1", "cp3"]


def test_each_member_is_well_again_before_the_next_begins(etcd: Etcd) -> None:
    late = iter([UNCONFIRMED, UNCONFIRMED])

    def slow(name: str, path: str, body: Any) -> Result | None:
        waited = name == "cp2" and path == "/v3/kv/range" and "cp2" in etcd.calls(DEFRAGMENT)
        if waited and (result := next(late, None)):
            assert etcd.calls(DEFRAGMENT) == ["cp2"]
            return result
        return None

    etcd.on = slow
    _, events = defrag(etcd)
    assert len([event for event in events if isinstance(event, Waiting)]) == 2
    assert etcd.calls(DEFRAGMENT) == ["cp2", "cp3", "cp1"]


def test_a_member_that_does_not_recover_ends_the_work_and_the_others_are_left_alone(
    etcd: Etcd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "HEALTH_SECONDS", 0.01)
    etcd.on = lambda name, path, body: (
        UNCONFIRMED if path == "/v3/kv/range" and "cp2" in etcd.calls(DEFRAGMENT) else None
    )
    with pytest.raises(HostsFailed) as caught:
        defrag(etcd)
    assert isinstance(caught.value.failures["cp2"], WaitTimedOut)
    assert etcd.calls(DEFRAGMENT) == ["cp2"]


def test_nothing_is_defragmented_while_a_member_is_down(etcd: Etcd) -> None:
    etcd.down = {"cp3"}
    with pytest.raises(EtcdUnfit, match="nothing was done") as caught:
        defrag(etcd)
    assert [reason.partition(":")[0] for reason in caught.value.reasons] == ["cp3"]
    with pytest.raises(EtcdUnfit):
        defrag(etcd, unreached={"cp2": Unreachable("cp2", "no route")})
    assert etcd.calls(DEFRAGMENT) == []


def test_nothing_is_defragmented_without_a_majority(etcd: Etcd) -> None:
    etcd.on = lambda name, path, body: UNCONFIRMED if (name, path) == ("cp3", "/v3/kv/range") else None
    with pytest.raises(EtcdUnfit, match="cp3: etcd refuses"):
        defrag(etcd)
    assert etcd.calls(DEFRAGMENT) == []


def test_a_member_that_goes_down_meanwhile_ends_the_work(etcd: Etcd) -> None:
    def fall(name: str, path: str, body: Any) -> None:
        if path == DEFRAGMENT:
            etcd.down = {"cp1"}

    etcd.on = fall
    with pytest.raises(EtcdUnfit, match="only cp2 was defragmented"):
        defrag(etcd)
    assert etcd.calls(DEFRAGMENT) == ["cp2"]


def test_by_force_those_that_answer_are_defragmented_and_the_others_told(etcd: Etcd) -> None:
    etcd.down = {"cp3"}
    events: list[Event] = []
    with pytest.raises(HostsFailed) as caught:
        upkeep.defrag(etcd.hosts, {}, "/var/lib/etcd", events.append, force=True)
    assert (list(caught.value.failures), caught.value.succeeded, caught.value.code) == (["cp3"], ("cp2", "cp1"), 8)
    notes = [event.text for event in events if isinstance(event, Note)]
    assert [text.partition(": cp3: ")[0] for text in notes] == ["In spite of it"]


def test_a_member_is_left_alone_where_the_new_database_would_not_fit_beside_the_old_one(etcd: Etcd) -> None:
    etcd.free = 8  # KiB, and 8 KiB are in use
    with pytest.raises(HostsFailed, match="Make room there") as caught:
        defrag(etcd)
    assert isinstance(caught.value.failures["cp2"], HostError)
    assert etcd.calls(DEFRAGMENT) == []


def test_the_history_is_dropped_on_every_member_before_the_first_is_defragmented(etcd: Etcd) -> None:
    etcd.on = lambda name, path, body: COMPACTED if path == "/v3/kv/compaction" and name != "cp1" else None
    defrag(etcd, compact=True)
    compacted = [(name, body) for name, path, body in etcd.asked if path == "/v3/kv/compaction"]
    assert [name for name, _ in compacted] == ["cp1", "cp2", "cp3"]
    assert {tuple(body.items()) for _, body in compacted} == {(("revision", "40"), ("physical", True))}
    paths = [path for _, path, _ in etcd.asked]
    assert max(at for at, path in enumerate(paths) if path == "/v3/kv/compaction") < paths.index(DEFRAGMENT)


def raise_alarm(etcd: Etcd, kind: str, member: int = 2) -> None:
    for state in etcd.states.values():
        state.setdefault("errors", []).append(f"memberID:{member} alarm:{kind}")


def disarm(etcd: Etcd) -> int:
    return upkeep.disarm(etcd.hosts, {}, lambda _: None)


def test_f23_the_alarm_is_disarmed_for_who_raised_it(etcd: Etcd) -> None:
    raise_alarm(etcd, "NOSPACE")
    assert disarm(etcd) == 1
    ((_, _, body),) = [each for each in etcd.asked if each[1] == ALARM]
    assert body == {"action": "DEACTIVATE", "memberID": "2", "alarm": "NOSPACE"}


def test_f23_an_alarm_that_would_come_again_is_not_disarmed(etcd: Etcd) -> None:
    raise_alarm(etcd, "NOSPACE")
    etcd.states["cp3"] |= {"dbSize": "81000000", "dbSizeInUse": "1000"}
    with pytest.raises(EtcdUnfit, match=r"cp3: its database has .*`kubestrap etcd defrag`"):
        disarm(etcd)
    assert etcd.calls(ALARM) == []


def test_without_an_alarm_nothing_is_done_be_the_database_full_or_not(etcd: Etcd) -> None:
    etcd.states["cp3"] |= {"dbSize": "81000000"}
    assert disarm(etcd) == 0
    assert etcd.calls(ALARM) == []


def test_corruption_is_not_disarmed(etcd: Etcd) -> None:
    raise_alarm(etcd, "CORRUPT")
    with pytest.raises(EtcdUnfit, match="cp2: alarm CORRUPT"):
        disarm(etcd)
    assert etcd.calls(ALARM) == []
