"""Preflight between machines: what will have to reach what is tried, from the machine that will do so.

TCP by a connection from the source machine, through its own SSH connection. A port on which nothing listens yet answers
with a refusal, which has come all the way and so proves it open; one that is dropped answers nothing.

UDP (the Pod network) by datagrams to a port on which nothing listens yet: the target's kernel counts them. Each source
sends its own number, and so the sum tells who was heard.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from shlex import quote

from bootstrap.errors import HostError, Problem, StepFailed
from bootstrap.parallel import attempt
from bootstrap.site import Node
from bootstrap.spec import Cluster, runs_etcd
from bootstrap.transport.base import Host

SECONDS = 5.0
"""What a connection may take to be made or refused: three attempts of the kernel's."""
_SCRIPT_SECONDS = 60.0
_UNIT = 6
"""Datagrams are sent in multiples of it, so that less than half of it may be lost, or come from elsewhere."""
_FORWARDING = "let the tool's own SSH connections pass on others (AllowTcpForwarding of that machine's sshd)"
_TAKEN = "what comes is not counted there, or taken by a Pod network that runs"
_FIREWALL = "let it through every firewall between them: on both machines, and in the network"


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen of a machine's ports: those on which it listens to others, and its count of stray datagrams."""

    tcp: Collection[int] = ()
    udp: Collection[int] = ()
    came: int | None = None


@dataclass(frozen=True, slots=True)
class Need:
    """A connection that will be made: from `source` to a TCP port of `target`, where `what` answers."""

    source: str
    target: str
    port: int
    what: str


def needs(nodes: Sequence[Node], cluster: Cluster, *, stacked: bool = True) -> Iterator[Need]:
    """List the TCP connections between `nodes`: some for each control plane and each node, never for each two nodes.

    With `stacked` etcd is on the control plane's hosts, unless it is external; else on those of the role.
    """
    for plane in (node for node in nodes if node.host.is_control_plane):
        for node in nodes:
            if node.name == plane.name or node.host.is_etcd:
                continue
            yield Need(node.name, plane.name, cluster.bind_port, "the API server")
            if cluster.virtual_address:
                yield Need(node.name, plane.name, cluster.endpoint.port, "the API servers' proxy")
            yield Need(plane.name, node.name, 10250, "the kubelet")
    for member in (node for node in nodes if runs_etcd(node.host, cluster, stacked=stacked)):
        for node in nodes:
            is_peer = runs_etcd(node.host, cluster, stacked=stacked)
            if node.name != member.name and (is_peer or node.host.is_control_plane):
                yield Need(node.name, member.name, 2379, "etcd")
            if node.name != member.name and is_peer:
                yield Need(node.name, member.name, 2380, "etcd, for its peers,")


def ring(nodes: Sequence[Node]) -> list[tuple[Node, Node]]:
    """Give the pairs, source and target, by which every node is tried as both, with at most two others."""
    names = list(nodes)
    around = list(zip(names, [*names[1:], *names[:1]], strict=True))
    return list({(a.name, b.name): (a, b) for one in around for a, b in (one, one[::-1]) if a.name != b.name}.values())


def check(
    nodes: Sequence[Node],
    hosts: Mapping[str, Host],
    seen: Mapping[str, Seen],
    cluster: Cluster,
    *,
    stacked: bool = True,
) -> list[Problem]:
    """Try every connection that `nodes` will need among each other, all at once, over the connections there are.

    `seen` has those of them that were examined; `stacked` is as for `needs`.
    What could not be tried is a problem of the level `unchecked`. Hosts that cannot be asked raise nothing here.
    """
    shared = list(_shared(nodes))
    if shared:
        return shared  # who is who cannot be told
    addresses = {node.name: node.address for node in nodes}
    tries = {f"{need.source} {need.target} {need.port}": need for need in needs(nodes, cluster, stacked=stacked)}
    flannel = cluster.addons.cni == "flannel" and cluster.addons.flannel.backend == "vxlan"
    datagrams = _Datagrams([node for node in nodes if not node.host.is_etcd], hosts, seen, cluster) if flannel else None

    def work(key: str) -> list[Problem]:
        if need := tries.get(key):
            listening = need.target in seen and need.port in seen[need.target].tcp
            return list(connect(hosts[need.source], need, addresses[need.target], listening))
        assert datagrams
        datagrams.send(key)
        return []

    found, _ = attempt([*(datagrams.sources if datagrams else ()), *tries], work)
    problems = [problem for some in found.values() for problem in some]
    return [*problems, *(datagrams.judge() if datagrams else ())]


def connect(host: Host, need: Need, address: str, listening: bool) -> Iterator[Problem]:
    """Make the connection from `host`, and tell what is in its way. `listening`: something does at the other end."""
    name = f"Reach-{need.port}"
    place = f"TCP port {need.port} of {need.target} ({address})"
    try:
        host.dial(address, need.port, seconds=SECONDS).close()
    except ConnectionRefusedError:
        if not listening:
            return
        why = "it is refused on the way, for something listens there"
    except TimeoutError:
        why = f"no answer within {SECONDS:g} s, so it is dropped on the way"
    except HostError as error:
        yield Problem(need.source, name, "unchecked", f"whether it reaches {place}: {error.what}", _FORWARDING)
        return
    except OSError as error:
        why = str(error).rpartition(": ")[2]
    else:
        return
    what = f"{need.source} does not reach {place}, where {need.what} is to answer: {why}"
    yield Problem(need.source, name, "error", what, _FIREWALL)


def _shared(nodes: Sequence[Node]) -> Iterator[Problem]:
    owners: dict[str, list[str]] = {}
    for node in nodes:
        owners.setdefault(node.address, []).append(node.name)
    for address, names in owners.items():
        for name in names if len(names) > 1 else ():
            others = ", ".join(other for other in names if other != name)
            what = f"its node address {address} is that of {others} too"
            yield Problem(
                name, "DistinctHosts", "error", what, "write the address that others reach it by as nodeAddress"
            )


class _Datagrams:
    """The trial of the Pod network's way: all sources send, then all targets count."""

    def __init__(
        self, nodes: Sequence[Node], hosts: Mapping[str, Host], seen: Mapping[str, Seen], cluster: Cluster
    ) -> None:
        self._hosts = hosts
        self._seen = seen
        self._port = cluster.addons.flannel.port
        self._six = cluster.networking.pod_subnet.version == 6
        self._address = {node.name: node.address for node in nodes}
        # What each source sends, small and full datagrams, in units: every sum of some of them is another.
        self._weights: dict[tuple[str, str], tuple[int, int]] = {}
        self._answers: dict[str, dict[tuple[str, str], str]] = {}
        self._busy: list[tuple[str, str]] = []
        for source, target in ring(nodes):
            pair = (source.name, target.name)
            there = seen.get(target.name)
            if there is None or there.came is None or self._port in there.udp:
                # Where the Pod network runs it takes what comes; between two where it does, `verify` tries it.
                if source.name in seen and self._port not in seen[source.name].udp:
                    self._busy.append(pair)
                continue
            first = not any(to == target.name for _, to in self._weights)
            self._weights[pair] = (4, 1) if first else (8, 2)

    @property
    def sources(self) -> list[str]:
        """The hosts that have something to send."""
        return list(dict.fromkeys(source for source, _ in self._weights))

    def send(self, source: str) -> None:
        """Send from one host all that it has to send."""
        overhead = 48 if self._six else 28
        calls = [
            f"send {quote(target)} {self._address[target]} {overhead} {small * _UNIT} {full * _UNIT} &"
            for (sender, target), (small, full) in self._weights.items()
            if sender == source
        ]
        answers: dict[tuple[str, str], str] = {}
        for fields in self._run(source, [*calls, "wait"]):
            match fields:
                case ["unsent" | "size" as kind, target, text]:
                    answers[kind, target] = text
        self._answers[source] = answers

    def judge(self) -> Iterator[Problem]:
        """Count at every target, and tell what did not come."""
        targets = {target: self._sent(target) for target in dict.fromkeys(target for _, target in self._weights)}
        counts, failures = attempt(list(targets), lambda target: self._count(target, targets[target]))
        came = {target: number for target, (number, _) in counts.items()}
        # Where the Pod network began to run since the machine was looked at, as after an `init` of a moment ago.
        taken = {target for target, (number, held) in counts.items() if held and number < targets[target]}
        for source, target in self._busy:
            yield self._unchecked(source, target, _TAKEN)
        for pair, (small, full) in self._weights.items():
            source, target = pair
            answers = self._answers.get(source)
            if answers is None or target in failures:
                yield self._unchecked(source, target, str(failures.get(target, "it could not be asked to send")))
            elif why := answers.get(("unsent", target)) or (_TAKEN if target in taken else ""):
                yield self._unchecked(source, target, why)
            elif came[target] > targets[target]:
                yield self._unchecked(source, target, "other machines send datagrams there, too")
            elif not came[target] & small:
                what = f"{source} does not reach {self._place(target)}, by which Pods reach each other"
                yield Problem(source, f"Reach-{self._port}", "error", f"{what}: datagrams do not arrive", _FIREWALL)
            elif not (mtu := answers.get(("size", target))):
                what = f"whether {target} gets packets that fill the MTU: there is no `ip` here"
                yield Problem(source, "PathMTU", "unchecked", what, "install iproute2")
            elif not came[target] & full:
                what = f"packets of {mtu} bytes, its interface's MTU, do not reach {target}; small ones do"
                fix = "set the interface's MTU to what the way between them carries: Pods' packets fill it"
                yield Problem(source, "PathMTU", "warning", what, fix)

    def _count(self, target: str, sent: int) -> tuple[int, bool]:
        """Give how many units came, and whether somebody listens there by now."""
        before = self._seen[target].came or 0
        fields = list(self._run(target, [f"count {before + sent * _UNIT}"]))
        for kind, *rest in fields:
            if kind == "came" and rest and rest[0].isdigit():
                return round((int(rest[0]) - before) / _UNIT), ["taken"] in fields
        raise StepFailed(target, "preflight", "count datagrams", "it counts none")

    def _sent(self, target: str) -> int:
        total = 0
        for (source, to), (small, full) in self._weights.items():
            answers = self._answers.get(source)
            if to == target and answers is not None and ("unsent", target) not in answers:
                total += small + (full if ("size", target) in answers else 0)
        return total

    def _run(self, name: str, calls: Sequence[str]) -> Iterator[list[str]]:
        head = f"port={self._port}\nfamily={6 if self._six else 4}"
        script = resources.files("bootstrap").joinpath("reach.sh").read_text()
        text = "\n".join([head, script, *calls, ""])
        result = self._hosts[name].run("sh -s", stdin=text.encode(), seconds=_SCRIPT_SECONDS)
        if result.status:
            why = result.stderr.decode(errors="replace").strip() or f"exit status {result.status}"
            raise StepFailed(name, "preflight", "try the ways between machines", why)
        for line in result.stdout.decode(errors="replace").splitlines():
            yield line.split("\t")

    def _place(self, target: str) -> str:
        return f"UDP port {self._port} of {target} ({self._address[target]})"

    def _unchecked(self, source: str, target: str, why: str) -> Problem:
        what = f"whether it reaches {self._place(target)}: {why}"
        fix = "`kubestrap verify` tries it once the machines are Nodes"
        return Problem(source, f"Reach-{self._port}", "unchecked", what, fix)
