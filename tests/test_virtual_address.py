"""What is made of the machines' answers about a virtual address. Real ones are in tests/lab/test_vip.py."""

from __future__ import annotations

import dataclasses

import pytest

from bootstrap import paths, reach, virtual_address
from bootstrap.errors import Problem
from bootstrap.phases import vip
from bootstrap.site import Facts, Link, Node
from bootstrap.spec import Cluster, Host
from bootstrap.transport.base import Host as Machine
from bootstrap.transport.base import Result
from bootstrap.transport.local import LocalHost

CLUSTER = Cluster.model_validate({"endpoint": {"kind": "vip", "address": "192.0.2.100"}})


def plane(number: int, *links: Link, prefix: int = 24) -> Node:
    address = f"192.0.2.{number}"
    host = Host.model_validate({"name": f"m{number}", "address": address, "roles": ["control-plane"]})
    return Node(host, address, Facts(addresses=(address,), links=(Link("eth0", address, prefix), *links)))


class Answering(LocalHost):
    """A machine that answers the script; what it was asked is kept."""

    def __init__(self, name: str, answer: str, status: int = 0) -> None:
        super().__init__(name)
        self.answer, self.status = answer, status
        self.asked = ""

    def run(self, command: str, *, stdin: bytes = b"", seconds: float, **_: object) -> Result:
        self.asked = stdin.decode().rpartition("}\n")[2]
        return Result(self.status, self.answer.encode(), b"no shell")


def found(nodes: list[Node], *answers: str, cluster: Cluster = CLUSTER) -> list[Problem]:
    hosts: dict[str, Machine] = {
        node.name: Answering(node.name, answer) for node, answer in zip(nodes, answers, strict=True)
    }
    return virtual_address.check(nodes, hosts, cluster)


def test_machines_that_reach_each_other_and_an_address_that_nobody_has_are_fine() -> None:
    assert found([plane(1), plane(2)], "way\tm2\tcame\n", "way\tm1\tcame\n") == []


def test_nothing_is_asked_where_there_is_no_such_address() -> None:
    machine = Answering("m1", "")
    assert virtual_address.check([plane(1)], {"m1": machine}, Cluster()) == []
    assert machine.asked == ""


def test_a_stranger_who_has_the_address_is_refused() -> None:
    (problem,) = found([plane(1)], "holder\t02:00:00:00:00:01\n")
    assert (problem.level, problem.check) == ("error", "VirtualAddress")
    assert problem.what == "another machine (02:00:00:00:00:01) has the virtual address 192.0.2.100 already"
    (problem,) = found([plane(1, Link("eth1", "192.0.2.100", 24))], "")
    assert problem.what.startswith("it has the virtual address 192.0.2.100 itself")


def test_a_member_whose_keepalived_has_the_address_is_no_stranger() -> None:
    nodes = [plane(1), plane(2)]
    config = b"    virtual_ipaddress {\n        192.0.2.100/32 dev eth0\n    }\n"
    facts = dataclasses.replace(nodes[0].facts, files={paths.VIP_CONFIG: config})
    nodes[0] = dataclasses.replace(nodes[0], facts=facts)
    hosts = {"m1": Answering("m1", "way\tm2\tcame\n"), "m2": Answering("m2", "holder\t02:00:00:00:00:01\n")}
    assert virtual_address.check(nodes, dict(hosts), CLUSTER) == []
    # What is sent to it is taken by its keepalived, and nobody would hear of it.
    assert "way m2 192.0.2.1 192.0.2.2" in hosts["m1"].asked
    assert "way" not in hosts["m2"].asked
    other = Cluster.model_validate({"endpoint": {"kind": "vip", "address": "192.0.2.10"}})
    assert virtual_address.check(nodes, dict(hosts), other)


def test_a_way_that_vrrp_does_not_get_through_is_told_and_one_that_cannot_be_tried() -> None:
    blocked, untried = found([plane(1), plane(2)], "way\tm2\tnothing comes back\n", "way\tm1\tunsent\n")
    assert (blocked.host, blocked.level, blocked.check) == ("m1", "error", "Reach-vrrp")
    assert "do not get to m2 (192.0.2.2): nothing comes back" in blocked.what
    assert (untried.host, untried.level) == ("m2", "unchecked")


def test_a_machine_that_cannot_be_asked_is_told_as_unchecked() -> None:
    (problem,) = virtual_address.check([plane(1)], {"m1": Answering("m1", "", status=1)}, CLUSTER)
    assert problem.level == "unchecked"
    assert "no shell" in problem.what


@pytest.mark.parametrize(
    ("prefix", "endpoint", "words"),
    [
        (30, {}, "outside of the network of eth0 (192.0.2.0/30)"),
        (32, {}, "outside of the network of eth0 (192.0.2.1/32)"),
        (24, {"interface": "eth9"}, "it has no interface eth9"),
        (24, {"interface": "eth0"}, ""),
    ],
)
def test_the_address_must_be_of_the_hosts_own_network(prefix: int, endpoint: dict[str, object], words: str) -> None:
    cluster = Cluster.model_validate({"endpoint": {"kind": "vip", "address": "192.0.2.100", **endpoint}})
    told = found([plane(1, prefix=prefix)], "", cluster=cluster)
    assert [words in problem.what for problem in told] == [True] * bool(words)


def test_workers_and_others_are_to_reach_the_proxy() -> None:
    worker = Node(Host.model_validate({"name": "w1", "address": "192.0.2.21", "roles": ["worker"]}), "192.0.2.21")
    ports = [need.port for need in reach.needs([plane(1), worker], CLUSTER) if need.source == "w1"]
    assert ports == [6443, 8443]


def test_the_holder_is_lost_for_less_than_the_time_that_clients_are_promised() -> None:
    # RFC 9568: three intervals and a part of one; then what is sent goes to the next holder.
    assert 4 * vip.INTERVAL < 5
