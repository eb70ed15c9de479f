"""What follows from what members say."""

from __future__ import annotations

from typing import Any

import pytest

from bootstrap.etcd.members import (
    Alarm,
    Member,
    Seen,
    alarms,
    discord,
    hindrances,
    members,
    next_of,
    obstacles,
    sources,
    status,
    warnings,
)
from tests.etcd.members import answer

MIB = 1024 * 1024
THREE = tuple(Member(number, f"cp{number}", False, ()) for number in (1, 2, 3))


def seen(*differences: dict[str, Any], unasked: frozenset[str] = frozenset()) -> Seen:
    """Give three members, of which `cp1` leads, each with its differences; one of `None` is not seen."""
    given = (*differences, *({},) * (3 - len(differences)))
    statuses = {
        f"cp{number}": status(f"cp{number}", answer(number, **fields))
        for number, fields in enumerate(given, 1)
        if f"cp{number}" not in unasked
    }
    return Seen(statuses, THREE, unasked)


def test_a_status_is_read_with_its_zeros_left_out() -> None:
    one = status(
        "cp1", answer(1, errors=["etcdserver: no leader", "memberID:1  alarm:NOSPACE "], leader=0, raftIndex=0)
    )
    assert (one.id, one.leader, one.index, one.learner, one.leads) == (1, 0, 0, False, False)
    assert one.errors == ("etcdserver: no leader",)
    assert one.alarms == (Alarm("NOSPACE", 1),)


def test_before_3_6_the_quota_is_the_default() -> None:
    assert status("cp1", answer(1, dbSizeQuota=0)).quota == 2048 * MIB


@pytest.mark.parametrize(
    ("text", "alarm"),
    [
        ("memberID:18028722028808219690 alarm:NOSPACE ", Alarm("NOSPACE", 18028722028808219690)),
        ("memberID:7  alarm:CORRUPT", Alarm("CORRUPT", 7)),
        ("alarm:NOSPACE", Alarm("NOSPACE", 0)),
    ],
)
def test_an_alarm_is_read_in_every_form_that_etcd_gives_it(text: str, alarm: Alarm) -> None:
    assert list(alarms([text])) == [alarm]


def test_a_member_that_never_started_is_named_by_where_it_should_be() -> None:
    (one,) = members({"members": [{"ID": "5", "peerURLs": ["https://192.0.2.9:2380"], "isLearner": True}]})
    assert str(one) == "one that has not started (https://192.0.2.9:2380)"
    assert one.learner


def test_members_that_are_well_give_no_warning_and_are_in_nobodys_way() -> None:
    assert warnings(seen()) == obstacles(seen()) == hindrances(seen()) == []


def test_members_of_two_clusters_are_told_with_both() -> None:
    (told,) = discord(seen({}, {"cluster": 0xBAD, "leader": 2}))
    assert "cp1 in c1, cp2 in bad, cp3 in c1" in told


def test_members_with_two_leaders_are_told_with_both() -> None:
    (told,) = discord(seen({}, {"leader": 3}))
    assert "cp1 follows cp1, cp2 follows cp3, cp3 follows cp1" in told


def test_a_member_without_a_leader_is_told() -> None:
    (told,) = discord(seen({}, {}, {"leader": 0}))
    assert told.startswith("cp3: its member has no leader")


def test_a_member_that_no_host_holds_is_told_and_one_that_is_down_is_not_told_twice() -> None:
    gone = Seen({name: one for name, one in seen().statuses.items() if name != "cp3"}, THREE)
    assert warnings(gone) == ["cp3: this member (id 3) is on no control-plane host of the inventory"]
    assert warnings(seen(unasked=frozenset({"cp3"}))) == []


def test_a_learner_is_told() -> None:
    assert warnings(seen({}, {"isLearner": True})) == ["cp2: it is a learner, and has no vote yet"]


def test_a_database_that_is_mostly_holes_is_worth_a_defragmentation() -> None:
    big = {"dbSizeQuota": 8192 * MIB, "dbSize": 200 * MIB}
    (told,) = warnings(seen({}, {**big, "dbSizeInUse": 90 * MIB}))
    assert told.startswith("cp2: 90.0 of the 200.0 MiB of its database are in use: `kubestrap etcd defrag`")
    assert warnings(seen({**big, "dbSizeInUse": 110 * MIB})) == []
    assert warnings(seen({"dbSize": 10 * MIB, "dbSizeInUse": MIB})) == []


def test_what_makes_room_depends_on_what_is_in_use() -> None:
    full = {"dbSizeQuota": 100 * MIB, "dbSize": 90 * MIB}
    (holes,) = warnings(seen({**full, "dbSizeInUse": 20 * MIB}))
    (used,) = warnings(seen({**full, "dbSizeInUse": 85 * MIB}))
    assert "`kubestrap etcd defrag` gives the rest back" in holes
    assert "`kubestrap etcd defrag --compact`" in used
    assert "quota-backend-bytes" in used
    assert warnings(seen({**full, "dbSize": 80 * MIB, "dbSizeInUse": 80 * MIB})) == []


def test_an_alarm_is_told_once_with_what_to_do_though_every_member_tells_it() -> None:
    alarm = {"errors": ["memberID:2 alarm:NOSPACE"]}
    (told,) = warnings(seen(alarm, alarm, alarm))
    assert told.startswith("cp2: alarm NOSPACE")
    assert "kubestrap etcd alarms disarm" in told


def test_a_snapshot_comes_from_the_follower_that_has_applied_most_and_last_from_the_leader() -> None:
    found = sources(seen({"raftAppliedIndex": 99}, {"raftAppliedIndex": 7}, {"raftAppliedIndex": 8}))
    assert [each.host for each in found] == ["cp3", "cp2", "cp1"]


@pytest.mark.parametrize(
    "fault",
    [{"leader": 0}, {"isLearner": True}, {"errors": ["memberID:2 alarm:CORRUPT"]}],
    ids=lambda fault: str(fault),
)
def test_no_snapshot_comes_from_a_member_that_is_not_sound(fault: dict[str, Any]) -> None:
    assert [each.host for each in sources(seen({}, fault))] == ["cp3", "cp1"]


def test_corruption_of_nobody_knows_whom_leaves_no_source() -> None:
    assert sources(seen({"errors": ["alarm:CORRUPT"]})) == []


def test_the_leader_is_defragmented_last_wherever_it_stands() -> None:
    statuses = seen({"leader": 2}, {"leader": 2}, {"leader": 2}).statuses
    order = []
    left = list(statuses.values())
    while left:
        left.remove(each := next_of(left))
        order.append(each.host)
    assert order == ["cp1", "cp3", "cp2"]


def test_lack_of_space_does_not_stand_in_the_way_of_what_makes_room_and_corruption_does() -> None:
    assert obstacles(seen({"errors": ["memberID:1 alarm:NOSPACE"]})) == []
    (told,) = obstacles(seen({"errors": ["memberID:1 alarm:CORRUPT"]}))
    assert told.startswith("cp1: alarm CORRUPT")


def test_an_alarm_of_a_member_that_does_not_answer_cannot_be_judged() -> None:
    alarm = {"errors": ["memberID:3 alarm:NOSPACE"]}
    (told,) = hindrances(seen(alarm, alarm, unasked=frozenset({"cp3"})))
    assert told.startswith("cp3: it raised the alarm and does not answer")
