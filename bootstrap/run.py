"""`init`: from an inventory to a control plane, and the way to its API server that every later command takes."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from bootstrap import kubeconfig, lock, paths, phases, plan
from bootstrap.api import Api
from bootstrap.bundle import Bundle, open_bundle
from bootstrap.connections import connected
from bootstrap.errors import (
    ApiError,
    ApiUnreachable,
    ApiUntrusted,
    BootstrapError,
    HostError,
    NoControlPlane,
    Problem,
)
from bootstrap.events import Listener
from bootstrap.execute import Means, execute
from bootstrap.gather import Request, gather
from bootstrap.look import look
from bootstrap.parallel import attempt, raise_failures
from bootstrap.site import Node, Site
from bootstrap.spec import Cluster, Inventory, seconds
from bootstrap.steps import File
from bootstrap.transport.base import Host

PLATFORM = "linux/amd64"
_ENDPOINT_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Made:
    """What `init` leaves with the operator: the admin's kubeconfig, which is a secret; empty where none was made."""

    kubeconfig: bytes

    def __repr__(self) -> str:
        """Tell nothing of it."""
        return "Made()"


@dataclass(frozen=True, slots=True)
class Way:
    """How a command goes about its plan: `walk` takes the plan, `lease` holds the machines' locks for the command."""

    walk: Callable[[plan.Plan, Means, Listener], None]
    lease: Callable[[str], AbstractContextManager[lock.Lease | None]]


def _locked(command: str) -> AbstractContextManager[lock.Lease | None]:
    return lock.Lease(lock.Owner.here(command))


def _unlocked(_: str) -> AbstractContextManager[lock.Lease | None]:
    return nullcontext()


DOING = Way(execute, _locked)
LOOKING = Way(look, _unlocked)
"""The way of a dry run: nothing is changed, and nobody is kept from changing anything."""


def init(
    inventory: Inventory,
    request: Request,
    listener: Listener,
    warn: Callable[[Problem], None],
    way: Way = DOING,
) -> Made:
    """Make the control plane of `inventory`, or find that all of it is right already.

    Everything is checked before the first machine is changed: the bundle, all machines, what they hold. Raises
    `BootstrapError`s of all kinds, `HostsFailed` where a machine failed in the work itself.
    """
    cluster = inventory.cluster
    machines = request.machines(inventory, [machine for machine in inventory.hosts if machine.is_control_plane])
    workflow = request.phases(phases.INIT)
    bundle = bundle_of(inventory)
    with connected(inventory, machines) as connections, way.lease("init") as lease:
        raise_failures(connections.failures, connections.hosts)
        gathered = gather(
            machines, connections.hosts, cluster, request, workflow="init", platform=PLATFORM, lease=lease
        )
        for problem in gathered.warnings:
            warn(problem)
        raise_failures(gathered.failures, connections.hosts)
        files = kubeconfig.site_files(cluster, gathered.nodes, datetime.datetime.now(datetime.UTC))
        for held in files.values():
            request.secrets.learn(*held.values())
        raise_failures(strangers_at_the_endpoint(connections.hosts, cluster, files), connections.hosts)
        site = Site(cluster, gathered.nodes, bundle.contents, files, endpoint_address=gathered.nodes[0].address)
        first = gathered.nodes[0]
        todo = plan.build(workflow, site, nodes=gathered.nodes)
        request.secrets.learn(*todo.hidden)

        def api() -> Api:
            conf = files[first.name][paths.SUPER_ADMIN_CONF]
            return open_api(connections.hosts[first.name], first, conf, inventory)

        hosts = lease.guard(connections.hosts) if lease else connections.hosts
        way.walk(todo, Means(hosts, api, bundle.open, lease), listener)
    admin_conf = files[first.name][paths.ADMIN_CONF]
    written = any(
        isinstance(step, File) and step.path == paths.ADMIN_CONF for task in todo.tasks for step in task.steps
    )
    if not written and first.facts.files.get(paths.ADMIN_CONF) != admin_conf:
        return Made(b"")
    return Made(operators_kubeconfig(inventory, first, admin_conf))


def strangers_at_the_endpoint(
    hosts: Mapping[str, Host], cluster: Cluster, files: Mapping[str, Mapping[str, bytes]]
) -> dict[str, BootstrapError]:
    """Ask, from each of `hosts`, who answers at an external endpoint; an error where it is another cluster.

    Nobody need answer: before the first control plane stands a load balancer has nothing behind it.
    """

    def ask(name: str) -> None:
        endpoint, port, ca = cluster.endpoint_name, cluster.endpoint.port, files[name][f"{paths.PKI}/ca.crt"]
        with Api.connect(hosts[name], endpoint, port, server_name=endpoint, ca=ca, seconds=_ENDPOINT_SECONDS) as api:
            try:
                api.get("/version")
            except (ApiUnreachable, ApiError):
                return
            except ApiUntrusted as error:
                what = f"another cluster answers at the endpoint {cluster.control_plane_endpoint}: {error.what}"
                raise HostError(name, f"{what}; correct cluster.endpoint, or what its name leads to") from error

    if cluster.endpoint.kind != "external":
        return {}
    return attempt([name for name in hosts if name in files], ask)[1]


def bundle_of(inventory: Inventory) -> Bundle:
    """Open the bundle that the inventory names, or else the one that `bundle build` made. Raises `ConfigError`."""
    cluster = inventory.cluster
    path = Path(cluster.bundle.path) if cluster.bundle.path else None
    return open_bundle(path, kubernetes_version=cluster.kubernetes_version, platform=PLATFORM)


def open_api(host: Host, node: Node, conf: bytes, inventory: Inventory) -> Api:
    """Open a connection to the API server on `node`, through its SSH connection, as the kubeconfig `conf` says."""
    cluster = inventory.cluster
    limit = seconds(cluster.timeouts.kubernetes_api_call)
    return Api.from_kubeconfig(host, conf, address=node.address, port=cluster.bind_port, seconds=limit)


def operators_kubeconfig(inventory: Inventory, node: Node, admin_conf: bytes) -> bytes:
    """Give the operator's own copy of admin.conf: named after the cluster, and asking a server that he can reach."""
    cluster = inventory.cluster
    server = (
        kubeconfig.endpoint(cluster) if cluster.endpoint.kind == "external" else kubeconfig.own_server(cluster, node)
    )
    return kubeconfig.for_operator(admin_conf, cluster.name, server=server)


@dataclass(frozen=True, slots=True)
class ControlPlane:
    """A control plane that stands: its first machine, and what it holds of the cluster."""

    node: Node
    host: Host
    files: Mapping[str, bytes]
    inventory: Inventory

    def api(self) -> Api:
        """Open a connection to its API server with admin rights."""
        return open_api(self.host, self.node, self.files[paths.ADMIN_CONF], self.inventory)

    @property
    def ca(self) -> bytes:
        """The cluster's CA certificate (PEM)."""
        return self.files[f"{paths.PKI}/ca.crt"]


def control_plane_of(inventory: Inventory, host: Host, node: Node) -> ControlPlane:
    """Give the control plane on `host`. Raises `NoControlPlane` where there is none yet."""
    lacking = [path for path in (f"{paths.PKI}/ca.crt", paths.ADMIN_CONF) if path not in node.facts.files]
    if lacking:
        raise NoControlPlane(
            f"{node.name}: there is no control plane yet (no {', '.join(lacking)}): run `kubestrap init` first"
        )
    return ControlPlane(node, host, node.facts.files, inventory)


@contextmanager
def reached_control_plane(inventory: Inventory, *, but: Collection[str] = ()) -> Iterator[ControlPlane]:
    """Connect to the first control-plane host of `inventory` that is not in `but`, and give the control plane there."""
    machine = next(machine for machine in inventory.hosts if machine.is_control_plane and machine.name not in but)
    with connected(inventory, [machine]) as connections:
        raise_failures(connections.failures, connections.hosts)
        request = Request(skip=("preflight",))
        gathered = gather([machine], connections.hosts, inventory.cluster, request, workflow="join", platform=PLATFORM)
        raise_failures(gathered.failures, {})
        (node,) = gathered.nodes
        yield control_plane_of(inventory, connections.hosts[machine.name], node)
