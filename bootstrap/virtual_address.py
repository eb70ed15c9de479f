"""Preflight of a virtual address: whether the control-plane hosts can hold it in turn, and whether nobody has it.

A machine's kernel tells both. Whoever has an address answers for it (ARP, RFC 826), so it is sent something; and where
nobody listens to a protocol, as to VRRP (112) before keepalived runs, the kernel says so to who sent (RFC 792), which
proves that what was sent has come.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from shlex import quote

from bootstrap import paths
from bootstrap.errors import BootstrapError, Problem, StepFailed
from bootstrap.parallel import attempt
from bootstrap.site import Node
from bootstrap.spec import Cluster
from bootstrap.transport.base import Host

ADDRESS, WAY = "VirtualAddress", "Reach-vrrp"
_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Answers:
    """What one machine found: who answers at the address (a MAC address), and by peer what came of sending to it."""

    holder: str
    ways: Mapping[str, str]


def check(nodes: Sequence[Node], hosts: Mapping[str, Host], cluster: Cluster) -> list[Problem]:
    """Look from every control-plane host among `nodes`, all at once. Nothing is found where there is no such address.

    What could not be looked at is a problem of the level `unchecked`; hosts that cannot be asked raise nothing here.
    """
    planes = {node.name: node for node in nodes if node.host.is_control_plane}
    if not cluster.virtual_address or not planes:
        return []
    # From who has keepalived already messages are sent anyway, and to it they are taken.
    running = {name for name, node in planes.items() if _runs(node, cluster)}
    found, failures = attempt(
        list(planes),
        lambda name: _ask(
            hosts[name], planes[name], [planes[to] for to in planes if to not in {name, *running}], cluster
        ),
    )
    problems = [problem for node in planes.values() for problem in places(node, cluster)]
    for name, answers in found.items():
        problems += [] if running else strangers(planes[name], answers, cluster)
        problems += ways(planes[name], answers, planes)
    return [*problems, *(_unasked(name, error) for name, error in failures.items())]


def places(node: Node, cluster: Cluster) -> Iterator[Problem]:
    """Tell that a machine has not the interface, or that the address is outside of the interface's network."""
    assert cluster.endpoint.kind == "vip"
    interface, virtual = cluster.endpoint.interface, cluster.virtual_address
    wanted = interface or (node.link.interface if node.link else "")
    links = [link for link in node.facts.links if link.interface == wanted and link.address != virtual]
    if not links:
        what = f"it has no interface {wanted} with an address, on which {virtual} would be"
        yield Problem(node.name, ADDRESS, "error", what, "correct cluster.endpoint.interface, or leave it out")
        return
    networks = [ipaddress.ip_interface(f"{link.address}/{link.prefix}").network for link in links]
    if not any(ipaddress.ip_address(virtual) in network for network in networks):
        shown = ", ".join(map(str, networks))
        what = f"the virtual address {virtual} is outside of the network of {wanted} ({shown})"
        fix = (
            "choose an address of the network that all control-plane hosts have in common, or another kind of endpoint"
        )
        yield Problem(node.name, ADDRESS, "error", what, fix)


def strangers(node: Node, answers: Answers, cluster: Cluster) -> Iterator[Problem]:
    """Tell that somebody has the address, while no host of this control plane can have it by keepalived."""
    virtual = cluster.virtual_address
    fix = "choose an address that no machine has as cluster.endpoint.address, or take it from that machine"
    if virtual in {link.address for link in node.facts.links}:
        what = f"it has the virtual address {virtual} itself, and not by keepalived of this cluster"
        yield Problem(node.name, ADDRESS, "error", what, fix)
    elif answers.holder:
        what = f"another machine ({answers.holder}) has the virtual address {virtual} already"
        yield Problem(node.name, ADDRESS, "error", what, fix)


def ways(node: Node, answers: Answers, planes: Mapping[str, Node]) -> Iterator[Problem]:
    """Tell to which peers what keepalived would send does not come."""
    for to, answer in answers.ways.items():
        place = f"{to} ({planes[to].address})"
        if answer == "came":
            continue
        if answer == "unsent":
            what = f"whether keepalived's messages (IP protocol 112, VRRP) get to {place}: there is no perl to send any"
            fix = "let the protocol through every firewall between them; `kubestrap verify` tells who holds the address"
            yield Problem(node.name, WAY, "unchecked", what, fix)
        else:
            what = f"keepalived's messages (IP protocol 112, VRRP) do not get to {place}: {answer}"
            fix = "let the protocol through every firewall between them, and ICMP's answers back"
            yield Problem(node.name, WAY, "error", what, fix)


def _runs(node: Node, cluster: Cluster) -> bool:
    held = node.facts.files.get(paths.VIP_CONFIG, b"").decode(errors="replace").split()
    return f"{cluster.virtual_address}/32" in held


def _ask(host: Host, node: Node, peers: Sequence[Node], cluster: Cluster) -> Answers:
    calls = [f"holder {cluster.virtual_address} &"]
    calls += [f"way {quote(peer.name)} {node.address} {peer.address} &" for peer in peers]
    script = resources.files("bootstrap").joinpath("virtual_address.sh").read_text()
    text = "\n".join([script, *calls, "wait", ""])
    result = host.run("sh -s", stdin=text.encode(), seconds=_SECONDS)
    if result.status:
        why = result.stderr.decode(errors="replace").strip() or f"exit status {result.status}"
        raise StepFailed(host.name, "preflight", "look who has the virtual address", why)
    holder, found = "", {}
    for line in result.stdout.decode(errors="replace").splitlines():
        match line.split("\t"):
            case ["holder", mac]:
                holder = mac
            case ["way", peer, answer]:
                found[peer] = answer
    return Answers(holder, found)


def _unasked(name: str, error: BootstrapError) -> Problem:
    what = f"who has the virtual address, and whether VRRP gets from here to others: {error}"
    return Problem(name, ADDRESS, "unchecked", what, "`kubestrap verify` tells who holds it")
