"""What a run would do, from the inventory alone: no machine is asked, so what only machines know stays unknown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from bootstrap import phases, plan
from bootstrap.bundle import catalog
from bootstrap.gather import Request
from bootstrap.phases import kubelet
from bootstrap.plan import Phase, Task
from bootstrap.preflight import Workflow
from bootstrap.site import Artifact, Contents, Facts, ImageArtifact, Joining, Node, Site, Token
from bootstrap.spec import Cluster, Inventory
from bootstrap.spec import Host as Machine
from bootstrap.steps import (
    Absent,
    ApiAbsent,
    ApiObject,
    ApiWait,
    Binary,
    Command,
    Directory,
    File,
    Hook,
    Image,
    Learner,
    Link,
    NodeMarks,
    OperatorHook,
    Step,
    Unit,
    UnitOff,
    Voter,
    Wait,
    title,
)

WORKFLOWS: Mapping[Workflow, Sequence[Phase]] = {"init": phases.INIT, "join": phases.JOIN}
ANY = "HOST"
"""Stands for each host's own name where several hosts are told of at once."""


@dataclass(frozen=True, slots=True)
class Outline:
    """What is done on some hosts, which differ in nothing but their names and addresses."""

    hosts: tuple[str, ...]
    tasks: tuple[Task, ...]


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a run would do: by hosts, and what of it is `unknown` before machines are asked, in words.

    `str()` is what people are shown of it, in lines.
    """

    outlines: tuple[Outline, ...]
    unknown: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join(_lines(self))


def outline(inventory: Inventory, workflow: Workflow, request: Request) -> Forecast:
    """Give what `workflow` does by host, and what of it is unknown, without asking anybody.

    Raises `UsageError` for phases and hosts that there are not.
    """
    # Which control-plane hosts are to be joined only the machines tell; here they are told of where they are named.
    part = [machine for machine in inventory.hosts if machine.is_worker == (workflow == "join") or request.limit]
    chosen = request.phases(WORKFLOWS[workflow])
    machines = request.machines(inventory, part)
    lead = next((machine for machine in machines if machine.is_control_plane), None)
    alike: dict[tuple[str, ...], list[Machine]] = {}
    for machine in machines:
        leads = str(machine is lead)
        told_apart = {"name", "address", "host_key", "node_address", "ssh"}
        key = (leads, str(machine.model_dump(exclude=told_apart)))
        alike.setdefault(key, []).append(machine)
    site = unseen(inventory)
    if lead:
        site = replace(site, lead=lead.name)
    outlines = []
    for group in alike.values():
        first = group[0] if len(group) == 1 else group[0].model_copy(update={"name": ANY})
        todo = plan.build(chosen, site, nodes=[node(first)])
        outlines.append(Outline(tuple(machine.name for machine in group), todo.tasks))
    return Forecast(tuple(outlines), tuple(_unknown(machines)))


def unseen(inventory: Inventory) -> Site:
    """Give the site of machines that nobody has looked at: what they hold, and new keys, are said to be unknown."""
    cluster = inventory.cluster
    nodes = tuple(map(node, inventory.formed))
    joining = Joining(
        server=f"https://{cluster.control_plane_endpoint}",
        ca=b"unknown",
        token=Token("unknown", "unknown"),
        kubelet_config=kubelet.cluster_config(cluster),
        dns_domain=cluster.networking.dns_domain,
    )
    files = dict.fromkeys((*(machine.name for machine in inventory.hosts), ANY), _Unseen())
    address = next((node.address for node in nodes if node.host.is_control_plane), "")
    return Site(cluster, nodes, _contents(cluster), files, joining, endpoint_address=address)


def data(forecast: Forecast) -> dict[str, object]:
    """Give it for programs."""
    hosts = [
        {
            "hosts": part.hosts,
            "phases": [
                {"phase": task.phase.name, "steps": [described(step) for step in task.steps]} for task in part.tasks
            ],
        }
        for part in forecast.outlines
    ]
    return {"plans": hosts, "unknown": forecast.unknown}


def writes(name: str, workflow: Workflow) -> list[str]:
    """List what the phase `name` of `workflow` leaves behind, as its steps on an ordinary machine say."""
    roles = ("control-plane", "worker")
    described_hosts = [{"name": role, "address": role, "roles": [role]} for role in roles]
    sample = Inventory.model_validate({"hosts": described_hosts})
    hosts = tuple(host.model_copy(update={"name": ANY}) for host in sample.hosts)
    site = unseen(sample.model_copy(update={"hosts": hosts}))
    found = [phase for phase in WORKFLOWS[workflow] if phase.name == name]
    nodes = [node(host) for host in hosts if not host.is_worker or workflow == "join"]
    tasks = plan.build(found, site, nodes=nodes).tasks
    kept = [step for task in tasks for step in task.steps if not isinstance(step, Wait | ApiWait)]
    return list(dict.fromkeys(described(step) for step in kept))


def described(step: Step) -> str:
    """Say in a few words what a step is for."""
    match step:
        case File(secret=secret, mode=mode):
            return f"file {title(step)} ({'secret, ' if secret else ''}{mode:04o})"
        case Directory(mode=mode):
            return f"directory {title(step)} ({mode:04o})"
        case Link(target=target):
            return f"link {title(step)} to {target}"
        case _:
            return _WORDS[type(step)].format(title(step))


_WORDS: Mapping[type, str] = {
    Absent: "no file {}",
    Binary: "program {}",
    Image: "{}",
    Unit: "unit {} enabled and active",
    UnitOff: "unit {} off",
    Command: "see to: {}",
    Hook: "run {}",
    OperatorHook: "run {} on your machine",
    Wait: "wait for {}",
    ApiObject: "object {}",
    ApiAbsent: "no object {}",
    NodeMarks: "{}",
    Learner: "{}, as a learner",
    Voter: "{}",
    ApiWait: "wait for {}",
}


def _lines(forecast: Forecast) -> Iterator[str]:
    for part in forecast.outlines:
        yield f"{_hosts(part.hosts)}:"
        for task in part.tasks:
            if task.steps:
                yield f"  {task.phase.name}"
                yield from (f"    {described(step)}" for step in task.steps)
        yield ""
    if forecast.unknown:
        yield "Unknown until the machines are looked at (kubestrap diff):"
        yield from (f"  {line}" for line in forecast.unknown)


class _Unseen(Mapping[str, bytes]):
    """Files of which nothing is known but that they will be there."""

    def __getitem__(self, path: str) -> bytes:
        return b"unknown"

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0

    def __contains__(self, path: object) -> bool:
        return True


def node(machine: Machine) -> Node:
    """Give a machine that nobody has looked at, with what stands for its address where that is not given."""
    address = str(machine.node_address) if machine.node_address else f"ADDRESS-OF-{machine.name}"
    return Node(machine, address, Facts(hostname=machine.name))


def _contents(cluster: Cluster) -> Contents:
    """Give what every bundle of the version holds; which bytes these are is for the bundle to say."""
    binaries = tuple(Artifact(f"{folder}/{program}", "", 0) for _, program, folder in catalog.BINARIES)
    images = []
    for image in catalog.IMAGES:
        ours = image.module == "kubernetes"
        version = cluster.kubernetes_version if ours else catalog.module(image.module).version if image.module else ""
        reference = f"{image.repository}:{image.tag.format(version=version)}"
        images.append(ImageArtifact(image.name, reference, "", "", 0))
    return Contents(cluster.kubernetes_version, cluster.bundle.platform, binaries, tuple(images))


def _unknown(machines: Sequence[Machine]) -> Iterator[str]:
    unset = [machine.name for machine in machines if machine.node_address is None]
    if unset:
        yield f"node addresses (no nodeAddress is given) of {_hosts(unset)}"
    yield "which keys, certificates and files are there already: what is right is left alone, keys are kept"
    yield "host names, whether systemd-resolved runs, and where CA certificates are kept"


def _hosts(names: Sequence[str]) -> str:
    if len(names) <= 4:
        return ", ".join(names)
    return f"{names[0]}, {names[1]} ... {names[-1]} ({len(names)} hosts)"
