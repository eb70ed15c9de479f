"""Which ways between machines are tried, and what is made of what comes back."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest

from bootstrap import reach
from bootstrap.errors import HostError, Problem
from bootstrap.reach import Need, Seen
from bootstrap.site import Node
from bootstrap.spec import Cluster, Host
from bootstrap.transport.base import Result
from bootstrap.transport.local import LocalHost

NO_OVERLAY = Cluster.model_validate({"addons": {"cni": "none"}})


def node(name: str, number: int, role: str = "worker") -> Node:
    address = f"192.0.2.{number}"
    return Node(Host.model_validate({"name": name, "address": address, "roles": [role]}), address)


def planes(count: int) -> list[Node]:
    return [node(f"m{number}", number, "control-plane") for number in range(1, count + 1)]


def workers(count: int) -> list[Node]:
    return [node(f"w{number}", 100 + number) for number in range(1, count + 1)]


def test_workers_and_the_control_plane_reach_each_other() -> None:
    found = {(need.source, need.target, need.port) for need in reach.needs([*planes(1), *workers(2)], Cluster())}
    assert found == {("w1", "m1", 6443), ("m1", "w1", 10250), ("w2", "m1", 6443), ("m1", "w2", 10250)}


def test_control_planes_reach_each_others_etcd_unless_others_run_it() -> None:
    ports = {need.port for need in reach.needs(planes(3), Cluster())}
    assert ports == {6443, 10250, 2379, 2380}
    found = [(need.source, need.target, need.port) for need in reach.needs([*planes(3), *workers(1)], Cluster())]
    names = ("m1", "m2", "m3")
    pairs = {(source, target) for source in names for target in names if source != target}
    for port in (2379, 2380):
        assert sorted((source, target) for source, target, at in found if at == port) == sorted(pairs)
    assert {target for source, target, at in found if source == "w1" and at == 6443} == set(names)
    files = {"caFile": "/x", "certFile": "/x", "keyFile": "/x"}
    external = Cluster.model_validate({"etcd": {"external": {"endpoints": ["https://192.0.2.9:2379"], **files}}})
    assert {need.port for need in reach.needs(planes(3), external)} == {6443, 10250}


def test_etcds_own_hosts_are_reached_by_each_other_and_by_control_planes() -> None:
    nodes = [node("e1", 51, "etcd"), node("e2", 52, "etcd"), *planes(2), *workers(1)]
    found = [(need.source, need.target, need.port) for need in reach.needs(nodes, Cluster(), stacked=False)]
    peers = {("e1", "e2"), ("e2", "e1")}
    clients = {(plane, member) for plane in ("m1", "m2") for member in ("e1", "e2")}
    assert {(source, target) for source, target, port in found if port == 2380} == peers
    assert {(source, target) for source, target, port in found if port == 2379} == peers | clients
    assert not {port for source, target, port in found if "e1" in (source, target)} - {2379, 2380}
    assert len(found) == len(set(found))


def test_the_number_of_ways_grows_with_the_machines_and_not_with_their_pairs() -> None:
    nodes = [*planes(3), *workers(100)]
    assert len(list(reach.needs(nodes, Cluster()))) <= 8 * len(nodes)
    assert len(reach.ring(nodes)) == 2 * len(nodes)


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_every_machine_sends_and_is_sent_to_but_never_itself(count: int) -> None:
    pairs = [(a.name, b.name) for a, b in reach.ring(workers(count))]
    assert len(set(pairs)) == len(pairs)
    assert all(a != b for a, b in pairs)
    names = {one.name for one in workers(count)} if count > 1 else set()
    assert {a for a, _ in pairs} == {b for _, b in pairs} == names
    assert all([b for _, b in pairs].count(name) <= 2 for name in names)


class Dialling(LocalHost):
    """A machine from which a connection ends in a given way."""

    def __init__(self, name: str, end: Exception | None) -> None:
        super().__init__(name)
        self._end = end

    def dial(self, address: str, port: int, *, seconds: float) -> socket.socket:
        if self._end:
            raise self._end
        near, far = socket.socketpair()
        far.close()
        return near


@pytest.mark.parametrize(
    ("end", "listening", "level", "says"),
    [
        (None, True, None, ""),
        (ConnectionRefusedError("x: Connection refused"), False, None, ""),
        (ConnectionRefusedError("x: Connection refused"), True, "error", "refused on the way"),
        (TimeoutError("x"), False, "error", "no answer within 5 s"),
        (OSError("192.0.2.1 port 6443, from w1: No route to host"), False, "error", ": No route to host"),
        (HostError("w1", "its sshd forbids it"), False, "unchecked", "its sshd forbids it"),
    ],
)
def test_f17_a_refusal_proves_a_way_and_silence_does_not(
    end: Exception | None, listening: bool, level: str | None, says: str
) -> None:
    need = Need("w1", "m1", 6443, "the API server")
    found = list(reach.connect(Dialling("w1", end), need, "192.0.2.1", listening))
    assert [problem.level for problem in found] == ([level] if level else [])
    for problem in found:
        assert problem.check == "Reach-6443"
        assert says in problem.what
        assert all(part in str(problem) for part in ("w1", "TCP port 6443", "m1 (192.0.2.1)"))


def test_f14_machines_with_one_node_address_are_told_of_each_other() -> None:
    twins = [node("a", 1, "control-plane"), node("b", 1), node("c", 3)]
    found = reach.check(twins, {}, {}, Cluster())
    assert [(problem.host, problem.check) for problem in found] == [("a", "DistinctHosts"), ("b", "DistinctHosts")]
    assert "192.0.2.1 is that of b" in found[0].what


class Network:
    """Machines that answer what `reach.sh` would, on a network that loses what `lost(source, target, full)` says."""

    def __init__(self, names: list[str], lost: Callable[[str, str, bool], bool], *, tool: bool = True) -> None:
        self.came = dict.fromkeys(names, 100)
        self.hosts = {name: Machine(name, self) for name in names}
        self.lost = lost
        self.tool = tool
        self.taken: set[str] = set()


class Machine(Dialling):
    def __init__(self, name: str, network: Network) -> None:
        super().__init__(name, ConnectionRefusedError("x: Connection refused"))
        self._network = network

    def run(self, command: str, *, stdin: bytes = b"", seconds: float, **_: object) -> Result:  # type: ignore[override]
        answers = []
        for line in stdin.decode().splitlines():
            match line.split():
                case ["send", target, address, _, small, full, "&"]:
                    assert address.startswith("192.0.2.")
                    if not self._network.tool:
                        answers.append(f"unsent\t{target}\tthere is no logger")
                        continue
                    answers.append(f"size\t{target}\t1500")
                    for number, is_full in ((int(small), False), (int(full), True)):
                        if not self._network.lost(self.name, target, is_full):
                            self._network.came[target] += number
                case ["count", number] if number.isdigit():
                    answers.append(f"came\t{self._network.came[self.name]}")
                    answers += ["taken"] * (self.name in self._network.taken)
        return Result(0, "\n".join(answers).encode(), b"")


def tried(network: Network, nodes: list[Node], seen: dict[str, Seen] | None = None) -> list[Problem]:
    return reach.check(nodes, network.hosts, seen or {one.name: Seen(came=100) for one in nodes}, Cluster())


def everything(*_: object) -> bool:
    return False


def test_f17_each_source_of_lost_datagrams_is_found_out() -> None:
    nodes = [*planes(1), *workers(3)]
    for source, target in reach.ring(nodes):
        network = Network(
            [one.name for one in nodes],
            lambda a, b, _, pair=(source.name, target.name): (a, b) == pair,  # type: ignore[misc]
        )
        (problem,) = tried(network, nodes)
        assert (problem.host, problem.check, problem.level) == (source.name, "Reach-8472", "error")
        assert f"UDP port 8472 of {target.name} ({target.address})" in problem.what


def test_full_packets_that_are_lost_are_a_matter_of_the_mtu() -> None:
    nodes = [*planes(1), *workers(2)]
    network = Network([one.name for one in nodes], lambda a, b, full: full and (a, b) == ("w1", "w2"))
    (problem,) = tried(network, nodes)
    assert (problem.host, problem.check, problem.level) == ("w1", "PathMTU", "warning")
    assert "1500 bytes" in problem.what


def test_nothing_is_said_of_ways_that_are_open() -> None:
    nodes = [*planes(1), *workers(3)]
    assert tried(Network([one.name for one in nodes], everything), nodes) == []


def test_what_cannot_be_sent_is_unchecked_and_no_way_is_called_closed() -> None:
    nodes = [*planes(1), *workers(1)]
    found = tried(Network(["m1", "w1"], everything, tool=False), nodes)
    assert {(problem.level, problem.check) for problem in found} == {("unchecked", "Reach-8472")}
    assert "no logger" in found[0].what


def test_a_port_that_the_pod_network_holds_already_is_unchecked_from_outside_alone() -> None:
    nodes = [*planes(1), *workers(2)]
    running = Seen(udp={8472}, came=100)
    seen = {"m1": running, "w1": running, "w2": Seen(came=100)}
    found = tried(Network([one.name for one in nodes], everything), nodes, seen)
    assert [(problem.host, problem.level) for problem in found] == [("w2", "unchecked")] * 2


def test_a_port_that_the_pod_network_took_meanwhile_is_unchecked() -> None:
    nodes = [*planes(1), *workers(1)]
    for taken, level in (("m1", "unchecked"), ("w1", "error")):
        network = Network(["m1", "w1"], lambda _, target, __: target == "m1")
        network.taken = {taken}
        assert [(problem.host, problem.level) for problem in tried(network, nodes)] == [("w1", level)]


def test_strangers_datagrams_make_no_way_out_of_none() -> None:
    nodes = [*planes(1), *workers(1)]
    network = Network(["m1", "w1"], lambda *_: True)
    network.came = dict.fromkeys(network.came, 102)
    assert {problem.level for problem in tried(network, nodes)} == {"error"}
    network.came = dict.fromkeys(network.came, 5000)
    assert {problem.level for problem in tried(network, nodes)} == {"unchecked"}


def test_without_an_overlay_of_ours_no_datagram_is_sent() -> None:
    nodes = [*planes(1), *workers(1)]
    network = Network(["m1", "w1"], lambda *_: True)
    assert reach.check(nodes, network.hosts, {one.name: Seen(came=100) for one in nodes}, NO_OVERLAY) == []
