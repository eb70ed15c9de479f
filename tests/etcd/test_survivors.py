"""Which member goes on alone, and where none may."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Sequence
from typing import Any

import pytest

from bootstrap.errors import EtcdUnfit, HostError, Unreachable, UsageError
from bootstrap.etcd import quorum, survivors
from bootstrap.etcd.members import Member
from bootstrap.etcd.survivors import Machine
from tests.etcd.members import voice

NAMES = ("cp1", "cp2", "cp3", "cp4", "cp5")
MANIFEST = """
spec:
  containers:
    - name: etcd
      image: registry.example/etcd:3.7.3-0
      command: [etcd, --name=cp1, "--initial-advertise-peer-urls=https://192.0.2.1:2380", {more}
        --advertise-client-urls=https://192.0.2.1:2379, --data-dir=/var/lib/etcd]
"""


def answer(manifest: str, *lines: str) -> bytes:
    told = ["manifest\t" + base64.b64encode(manifest.encode()).decode()] if manifest else []
    return "\n".join([*told, *lines]).encode()


def machine(name: str, *, committed: str = "50", leader: bool = False, mute: bool = False, **fields: Any) -> Machine:
    found = survivors.read(
        name, answer(MANIFEST.format(more="").replace("cp1", name), "data\tyes", "kilobytes\t10\t99")
    )
    own = None if mute else quorum.parse(name, voice(NAMES, name, leader=leader, committed=committed))
    return dataclasses.replace(found, voice=own, **fields)


def known(*machines: Machine) -> dict[str, Machine]:
    return {each.host: each for each in machines}


def unreached(names: Sequence[str]) -> dict[str, HostError]:
    return {name: Unreachable(name, "no route to it") for name in names}


def test_a_machine_tells_its_member_and_its_room() -> None:
    found = survivors.read("cp1", answer(MANIFEST.format(more=""), "data\tyes", "held\tyes", "kilobytes\t10\t99"))
    assert (found.flags["name"], found.image) == ("cp1", "registry.example/etcd:3.7.3-0")
    assert (found.data, found.held, found.request, found.used, found.free) == (True, True, "", 10240, 101376)
    empty = survivors.read("cp1", answer("", "kilobytes\t4\t99"))
    assert (empty.flags, empty.data) == ({}, False)


@pytest.mark.parametrize(
    ("manifest", "told"),
    [
        ("spec: [", "cannot be understood"),
        (MANIFEST.format(more="").replace("--name=cp1, ", ""), "has no --name"),
        (MANIFEST.format(more="--wal-dir=/fast,"), "keeps its log elsewhere"),
    ],
)
def test_a_manifest_that_cannot_be_gone_by_is_refused(manifest: str, told: str) -> None:
    with pytest.raises(HostError, match=told):
        survivors.read("cp1", answer(manifest))


def test_the_member_whose_log_goes_furthest_goes_on_and_those_that_are_not_reached_are_named() -> None:
    choice = survivors.choose(known(machine("cp1"), machine("cp2", committed="1.000051e+06")), unreached(NAMES[2:]))
    assert (choice.source.host, choice.others, choice.request) == ("cp2", ("cp1",), "survivor")
    assert "index 1000051, of cp1 to 50" in choice.why
    assert "cp3 is not reached (no route to it): it must be off" in choice.question("prod")
    assert "Type the cluster's name (prod)" in choice.question("prod")


def test_nobody_guesses_where_one_does_not_tell_how_far_its_data_go() -> None:
    machines = known(machine("cp1"), machine("cp2", mute=True))
    with pytest.raises(EtcdUnfit, match="--from HOST"):
        survivors.choose(machines, unreached(NAMES[2:]))
    assert survivors.choose(machines, unreached(NAMES[2:]), source="cp2").source.host == "cp2"
    assert survivors.choose(known(machine("cp2", mute=True)), {}).why == "no other has data"


def test_what_has_a_quorum_is_left_alone() -> None:
    machines = known(machine("cp1", leader=True), machine("cp2", leader=True))
    with pytest.raises(EtcdUnfit, match="nothing to recover"):
        survivors.choose(machines, {})
    with pytest.raises(EtcdUnfit, match="newer than the snapshot"):
        survivors.choose(machines, {}, snapshot="5a")
    assert survivors.choose(machines, {}, snapshot="5a", force=True).request == "5a"


def test_members_that_only_have_to_start_are_not_given_up() -> None:
    machines = known(*(machine(name) for name in NAMES[:3]))
    with pytest.raises(EtcdUnfit, match="enough for a quorum"):
        survivors.choose(machines, unreached(NAMES[3:]))
    assert survivors.choose(machines, unreached(NAMES[3:]), force=True).source.host == "cp1"


def test_a_run_that_did_not_end_is_gone_on_with_on_the_same_host() -> None:
    begun = known(machine("cp1", held=True), machine("cp2", held=True, mute=True, request="survivor", data=False))
    assert survivors.choose(begun, {}).source.host == "cp2"


def test_others_that_a_run_did_not_get_to_are_emptied_and_the_one_that_serves_is_left_alone() -> None:
    choice = survivors.choose(known(machine("cp1", leader=True), machine("cp2", held=True, mute=True)), {})
    assert (choice.source.host, choice.others, choice.done) == ("cp1", ("cp2",), True)


def test_a_former_member_that_came_back_is_emptied_too() -> None:
    serving = dataclasses.replace(machine("cp1"), voice=quorum.parse("cp1", voice(("cp1", "cp3"), "cp1", leader=True)))
    machines = known(serving, machine("cp2", mute=True), machine("cp3", mute=True))
    choice = survivors.choose(machines, {})
    assert (choice.others, choice.done) == (("cp2",), True)
    assert "cp1 goes on as it is" in choice.question("prod")
    with pytest.raises(EtcdUnfit, match="newer than the snapshot"):
        survivors.choose(machines, {}, snapshot="5a")


def test_a_learner_that_has_no_name_yet_is_none_of_the_former_members() -> None:
    seen = quorum.parse("cp1", voice(("cp1",), "cp1", leader=True))
    assert seen is not None
    new = Member(9, "", learner=True, peers=("https://192.0.2.1:2380",))
    serving = dataclasses.replace(machine("cp1"), voice=dataclasses.replace(seen, members=(*seen.members, new)))
    with pytest.raises(EtcdUnfit, match="nothing to recover"):
        survivors.choose(known(serving, machine("cp2", mute=True)), {})


def test_a_host_that_cannot_go_on_is_refused_by_name() -> None:
    with pytest.raises(Unreachable, match="cp2"):
        survivors.choose(known(machine("cp1")), unreached(["cp2"]), source="cp2")
    with pytest.raises(UsageError, match="no such host"):
        survivors.choose(known(machine("cp1")), {}, source="cp9")
    with pytest.raises(EtcdUnfit, match="no etcd manifest"):
        survivors.choose(known(machine("cp1", flags={})), {}, source="cp1")


def test_room_for_the_new_data_is_looked_for_first() -> None:
    survivors.require_room(machine("cp1"))
    with pytest.raises(HostError, match="Make room"):
        survivors.require_room(machine("cp1", used=2**40))
    with pytest.raises(HostError, match="Make room"):
        survivors.require_room(machine("cp1"), 2**30)
