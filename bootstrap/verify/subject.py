"""What checks are told: the machine as testinfra shows it, and what the inventory and the bundle say it should be."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, Literal, Protocol

from bootstrap import spec
from bootstrap.errors import PatchesRefused
from bootstrap.phases import kubelet, static_pods
from bootstrap.phases.static_pods import Probes
from bootstrap.site import Contents, Node, Site

On = Literal["all", "node", "control-plane", "control-plane, etcd", "etcd", "cluster"]
"""Where a check is made: on every machine, on every Node, on those of a kind (`etcd`: its members), or once, from a
control plane that serves."""


class Ran(Protocol):
    """testinfra's `CommandResult`, as far as checks use it."""

    rc: int
    stdout: str
    stderr: str


class Machine(Protocol):
    """testinfra's `Host`."""

    def run(self, command: str, *args: str) -> Ran:
        """Run a command, with `args` quoted into its `%s`."""


class Remembering:
    """A machine that is asked each thing once: checks change nothing, so what it answered may be told again.

    Several threads may ask it at the same time.
    """

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._answers: dict[tuple[str, ...], Future[Ran]] = {}
        self._lock = Lock()

    def run(self, command: str, *args: str) -> Ran:
        """Run a command, or tell what it said before. What it raised is raised again."""
        answer: Future[Ran] = Future()
        with self._lock:
            known = self._answers.setdefault((command, *args), answer)
        if known is answer:
            try:
                answer.set_result(self._machine.run(command, *args))
            except BaseException as error:
                answer.set_exception(error)
                raise
        return known.result()


@dataclass(frozen=True, slots=True)
class Subject:
    """One host as it should be. `planes` are the machines of the control plane that are reached, by name."""

    host: spec.Host
    inventory: spec.Inventory
    contents: Contents
    planes: Mapping[str, Callable[[], Machine]] = field(default_factory=dict)

    @property
    def cluster(self) -> spec.Cluster:
        """The cluster it is a part of."""
        return self.inventory.cluster

    def probes(self, component: str) -> Probes:
        """Say where a static Pod of the host tells how it is, as its manifest has it, patches among that."""
        node = Node(self.host, str(self.host.node_address or "127.0.0.1"))
        site = Site(self.cluster, (node,), self.contents, {node.name: {}})
        (pod,) = [pod for pod in static_pods.pods(site, node) if pod.name == component]
        try:
            return static_pods.as_patched(site, node, pod).probes
        except PatchesRefused:  # as they depend on what only the machine tells
            return pod.probes

    @property
    def kubelet(self) -> Mapping[str, Any]:
        """What its kubelet is told by the inventory."""
        return kubelet.host_config(self.cluster, self.host)


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that should be true. `run` tells what is not as it should be; nothing means that all is well."""

    id: str
    on: On
    text: str
    run: Callable[[Machine, Subject], Iterator[str]]

    def applies(self, host: spec.Host, inventory: spec.Inventory, lead: str) -> bool:
        """Say whether it is made on `host` of `inventory`; what concerns the whole cluster is on the host `lead`."""
        match self.on:
            case "all":
                return True
            case "node":
                return host in inventory.nodes
            case "control-plane":
                return host.is_control_plane
            case "control-plane, etcd":
                return not host.is_worker
            case "etcd":
                return host in inventory.etcd_members
            case "cluster":
                return host.name == lead
