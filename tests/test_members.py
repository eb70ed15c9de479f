from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from bootstrap import members, paths
from bootstrap.errors import ConfigError, HostError, NotSupported
from bootstrap.etcd.members import Member
from bootstrap.members import Roster
from bootstrap.phases import static_pods
from bootstrap.render import to_yaml
from bootstrap.site import Facts, InitialCluster, Node, Site
from bootstrap.spec import Cluster, Host
from tests.builders import node, site

SHARED = {f"{paths.PKI}/{name}": b"x" for name in ("ca.crt", "front-proxy-ca.crt", "etcd/ca.crt", "sa.key")}


def manifest(described: Site, member: Node) -> bytes:
    return to_yaml(static_pods.manifest(described, member, static_pods.etcd(described, member))).encode()


def masters(count: int, *, formed: int = 0, data: bool = False, finished: bool = True) -> list[Node]:
    """Control-plane hosts, of which the first `formed` hold the manifest of a cluster of them all."""
    plain = [node(f"cp{number}", address=f"192.0.2.{number}") for number in range(1, count + 1)]
    one = [node(f"cp{number}", address=f"192.0.2.{number}") for number in range(1, formed + 1)]
    found = []
    for number, member in enumerate(plain):
        files = {}
        if number < formed:
            files = {members.MANIFEST: manifest(site(*one), one[number]), paths.ADMIN_CONF: b"x", **SHARED}
            if finished:
                files[paths.KUBELET_CONF] = paths.KUBELET_CLIENT_CERT.encode()
        facts = Facts(addresses=(member.address,), hostname=member.name, files=files, etcd_data=data or number < formed)
        found.append(Node(member.host, member.address, facts))
    return found


def member(number: int, *, learner: bool = False, started: bool = True, name: str | None = None) -> Member:
    found = f"cp{number}" if name is None else name
    return Member(number, found, learner, (f"https://192.0.2.{number}:2380",), started)


def changed(node: Node, *, data: bool | None = None, without: str = "") -> Node:
    files = {path: held for path, held in node.facts.files.items() if path != without}
    facts = replace(node.facts, files=files, etcd_data=node.facts.etcd_data if data is None else data)
    return Node(node.host, node.address, facts)


def settled(nodes: Sequence[Node], enrolled: Sequence[Member] = ()) -> Roster:
    return members.settled(machines(nodes), nodes, Cluster(), enrolled)


def machines(nodes: Sequence[Node]) -> list[Host]:
    return [member.host for member in nodes]


def test_the_members_are_read_from_the_manifest_that_is_written() -> None:
    (first, *_) = masters(3, formed=3)
    expected = {f"cp{number}": f"https://192.0.2.{number}:2380" for number in (1, 2, 3)}
    assert members.listed(first.facts.files[members.MANIFEST]) == expected
    assert members.listed(b"") == {}


@pytest.mark.parametrize("count", [1, 3, 5])
def test_a_cluster_is_formed_of_machines_that_hold_nothing(count: int) -> None:
    nodes = masters(count)
    assert settled(nodes) == Roster(tuple(nodes))
    assert not members.stands(nodes)


@pytest.mark.parametrize("there", [1, 2, 3])
@pytest.mark.parametrize("serves", [True, False])
def test_a_killed_run_is_gone_on_with(there: int, serves: bool) -> None:
    nodes = [*masters(3, formed=3, finished=False)[:there], *masters(3)[there:]]
    enrolled = [member(number, started=number <= there) for number in (1, 2, 3)] if serves and there > 1 else []
    found = settled(nodes, enrolled)
    assert found.nodes == tuple(nodes)
    assert not found.outside
    assert members.stands(nodes)
    assert members.doubtful(machines(nodes), nodes)


def test_nothing_is_asked_where_all_have_finished() -> None:
    nodes = masters(3, formed=3)
    assert not members.doubtful(machines(nodes), nodes)
    assert members.doubtful(machines(nodes[:2]), nodes[:2])
    assert members.doubtful(machines(masters(4)), nodes)
    assert members.doubtful(machines(nodes), [changed(nodes[0], data=False), *nodes[1:]])


@pytest.mark.parametrize("serves", [True, False])
def test_hosts_that_are_no_members_yet_are_outside(serves: bool) -> None:
    nodes = masters(3, formed=1)
    found = settled(nodes, [member(1)] if serves else [])
    assert (found.nodes, found.outside, found.lost) == ((nodes[0],), ("cp2", "cp3"), {})


def test_members_that_the_inventory_does_not_have_are_told() -> None:
    nodes = masters(3, formed=3)[:1]
    assert settled(nodes, [member(1), member(2), member(3)]).strangers == ("cp2", "cp3")


def test_a_learner_is_outside_until_it_votes() -> None:
    nodes = [masters(2, formed=1)[0], changed(masters(2, formed=2)[1], without=paths.KUBELET_CONF)]
    started = settled(nodes, [member(1), member(2, learner=True)])
    assert (started.outside, started.lost) == (("cp2",), {})
    nodes[1] = changed(nodes[1], data=False)
    waiting = settled(nodes, [member(1), member(2, learner=True, started=False, name="")])
    assert (waiting.outside, waiting.lost) == (("cp2",), {})


def test_a_voter_whose_run_was_killed_is_unfinished() -> None:
    nodes = [masters(2, formed=1)[0], changed(masters(2, formed=2)[1], without=paths.KUBELET_CONF)]
    found = settled(nodes, [member(1), member(2)])
    assert (found.nodes, found.unfinished, found.outside) == (tuple(nodes), ("cp2",), ())


def test_a_member_whose_data_are_gone_is_lost() -> None:
    nodes = masters(3, formed=3)
    nodes[0] = changed(nodes[0], data=False)
    found = settled(nodes, [member(1), member(2), member(3)])
    assert (found.outside, found.lost) == (("cp1",), {"cp1": 1})


def test_what_a_withdrawn_learner_left_is_worth_nothing() -> None:
    nodes = [masters(2, formed=1)[0], changed(masters(2, formed=2)[1], without=paths.KUBELET_CONF)]
    assert settled(nodes, [member(1)]).lost == {"cp2": 0}


def test_a_host_that_was_taken_out_is_known() -> None:
    nodes = masters(3, formed=3)
    found = settled(nodes, [member(1), member(2)])
    assert (found.outside, found.removed, found.lost) == (("cp3",), ("cp3",), {})


def test_a_cluster_that_was_grown_one_by_one_has_the_members_of_all_its_lists() -> None:
    nodes = [masters(3, formed=formed)[number] for number, formed in enumerate((1, 2, 3))]
    assert settled(nodes).nodes == tuple(nodes)


def test_lists_of_several_stay_as_they_are_and_lists_of_one_do_not() -> None:
    nodes = [masters(3, formed=formed)[number] for number, formed in enumerate((1, 2, 3))]
    kept = members.initial_clusters(nodes)
    assert {name: list(initial.members) for name, initial in kept.items()} == {
        "cp2": ["cp1", "cp2"],
        "cp3": ["cp1", "cp2", "cp3"],
    }
    described = replace(site(*nodes), initial_clusters={"cp2": InitialCluster(kept["cp2"].members, existing=True)})
    written = manifest(described, nodes[1])
    again = Node(nodes[1].host, nodes[1].address, Facts(files={members.MANIFEST: written}))
    assert members.initial_clusters([again]) == {"cp2": InitialCluster(kept["cp2"].members, existing=True)}


def test_a_list_of_one_stays_in_a_cluster_of_others_as_long_as_its_member_has_data() -> None:
    (first,) = masters(1, formed=1)
    assert members.initial_clusters([first]) == {}
    assert list(members.initial_clusters([first], adopted=True)["cp1"].members) == ["cp1"]
    assert members.initial_clusters([changed(first, data=False)], adopted=True) == {}


def test_who_joins_is_told_of_all_who_are_members_by_then() -> None:
    urls = {f"cp{number}": f"https://192.0.2.{number}:2380" for number in (1, 2, 3)}
    newcomers = {name: urls[name] for name in ("cp2", "cp3")}
    told = members.joining_clusters([member(1)], newcomers)
    assert {name: dict(initial.members) for name, initial in told.items()} == {
        "cp2": {"cp1": urls["cp1"], "cp2": urls["cp2"]},
        "cp3": urls,
    }
    assert all(initial.existing for initial in told.values())
    # One of them was added by a run that was killed; the other one has a vote.
    told = members.joining_clusters([member(1), member(2, learner=True, name=""), member(3)], newcomers)
    assert dict(told["cp2"].members) == urls


def test_data_of_an_unknown_cluster_are_no_member_of_a_new_one() -> None:
    nodes = [*masters(1, data=True), *masters(3)[1:]]
    with pytest.raises(ConfigError, match="cp1: /var/lib/etcd holds the data"):
        settled(nodes)


def test_a_single_host_whose_manifest_is_gone_gets_it_back() -> None:
    nodes = masters(1, data=True)
    assert settled(nodes).nodes == tuple(nodes)


def test_a_host_that_is_not_reached_has_the_address_that_the_others_know() -> None:
    nodes = masters(3, formed=3)
    known = members.settled(machines(nodes), nodes[1:], Cluster()).nodes
    assert [(node.name, node.address) for node in known] == [(node.name, node.address) for node in nodes]
    assert known[0].facts == Facts()
    fresh = masters(3)
    with pytest.raises(HostError, match="cp1: its nodeAddress is not in the inventory"):
        members.settled(machines(fresh), fresh[1:], Cluster())


def test_a_member_that_has_moved_is_refused() -> None:
    nodes = masters(3, formed=3)
    moved = [Node(nodes[0].host, "192.0.2.99", nodes[0].facts), *nodes[1:]]
    with pytest.raises(NotSupported, match=r"cp1: 192\.0\.2\.1 -> 192\.0\.2\.99"):
        settled(moved)
