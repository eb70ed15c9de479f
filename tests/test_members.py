from __future__ import annotations

from collections.abc import Sequence

import pytest

from bootstrap import members, paths
from bootstrap.errors import ConfigError, HostError, NotSupported
from bootstrap.phases import static_pods
from bootstrap.render import to_yaml
from bootstrap.site import Facts, Node
from bootstrap.spec import Cluster, Host
from tests.builders import node, site

SHARED = {f"{paths.PKI}/{name}": b"x" for name in ("ca.crt", "front-proxy-ca.crt", "etcd/ca.crt", "sa.key")}


def masters(count: int, *, formed: int = 0, data: bool = False) -> list[Node]:
    """Control-plane hosts, of which each holds the manifest of a cluster of the first `formed`."""
    plain = [node(f"cp{number}", address=f"192.0.2.{number}") for number in range(1, count + 1)]
    one = [node(f"cp{number}", address=f"192.0.2.{number}") for number in range(1, formed + 1)]
    found = []
    for number, member in enumerate(plain):
        files = {}
        if number < formed:
            pod = static_pods.etcd(site(*one), one[number])
            files = {members.MANIFEST: to_yaml(static_pods.manifest(pod)).encode(), paths.ADMIN_CONF: b"x", **SHARED}
        facts = Facts(addresses=(member.address,), hostname=member.name, files=files, etcd_data=data)
        found.append(Node(member.host, member.address, facts))
    return found


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
    assert members.settled(machines(nodes), nodes, Cluster()) == tuple(nodes)
    assert not members.stands(nodes)


@pytest.mark.parametrize("there", [1, 2, 3])
def test_a_killed_run_is_gone_on_with(there: int) -> None:
    nodes = masters(3, formed=3, data=True)
    nodes = [*nodes[:there], *masters(3)[there:]]
    assert members.settled(machines(nodes), nodes, Cluster()) == tuple(nodes)
    assert members.stands(nodes)


@pytest.mark.parametrize(("formed", "wanted"), [(1, 3), (3, 1), (3, 5), (5, 3)])
def test_other_members_than_those_who_formed_the_cluster_are_refused(formed: int, wanted: int) -> None:
    nodes = masters(wanted, formed=formed)
    if formed > wanted:
        nodes = masters(formed, formed=formed)[:wanted]
    with pytest.raises(NotSupported, match="its members are cp1") as refused:
        members.settled(machines(nodes), nodes, Cluster())
    assert f"the inventory has {', '.join(f'cp{number}' for number in range(1, wanted + 1))}" in str(refused.value)


def test_a_cluster_that_was_grown_one_by_one_has_the_members_of_all_its_lists() -> None:
    nodes = [masters(3, formed=formed)[number] for number, formed in enumerate((1, 2, 3))]
    assert members.settled(machines(nodes), nodes, Cluster()) == tuple(nodes)


def test_data_of_an_unknown_cluster_are_no_member_of_a_new_one() -> None:
    nodes = [*masters(1, data=True), *masters(3)[1:]]
    with pytest.raises(ConfigError, match="cp1: /var/lib/etcd holds the data"):
        members.settled(machines(nodes), nodes, Cluster())


def test_a_single_host_whose_manifest_is_gone_gets_it_back() -> None:
    nodes = masters(1, data=True)
    assert members.settled(machines(nodes), nodes, Cluster()) == tuple(nodes)


def test_a_host_that_is_not_reached_has_the_address_that_the_others_know() -> None:
    nodes = masters(3, formed=3)
    known = members.settled(machines(nodes), nodes[1:], Cluster())
    assert [(member.name, member.address) for member in known] == [(each.name, each.address) for each in nodes]
    assert known[0].facts == Facts()
    fresh = masters(3)
    with pytest.raises(HostError, match="cp1: its nodeAddress is not in the inventory"):
        members.settled(machines(fresh), fresh[1:], Cluster())


def test_a_member_that_has_moved_is_refused() -> None:
    nodes = masters(3, formed=3)
    moved = [Node(nodes[0].host, "192.0.2.99", nodes[0].facts), *nodes[1:]]
    with pytest.raises(NotSupported, match=r"cp1: 192\.0\.2\.1 -> 192\.0\.2\.99"):
        members.settled(machines(moved), moved, Cluster())
