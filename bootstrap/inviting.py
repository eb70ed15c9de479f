"""Control planes that join by a token and a certificate key, with no way to the machines of the others but the API.

As kubeadm's `join --control-plane --certificate-key` does (`cmd/phases/join/controlplaneprepare.go`,
`phases/etcd/local.go`). Who has the CA's key has admin rights: from then on it goes as for hosts of an inventory.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bootstrap import kubeconfig, leases, lock, members, paths, phases, plan, run, uploading
from bootstrap.api import Api
from bootstrap.certificate_key import CertificateKey
from bootstrap.connections import Connections, connected
from bootstrap.discovery import Discovered, connect
from bootstrap.errors import BootstrapError, ConfigError, EtcdUnfit, HostError, HostsFailed, Problem
from bootstrap.etcd import asking, learners
from bootstrap.etcd.members import Member
from bootstrap.events import Listener, Waiting
from bootstrap.execute import Means
from bootstrap.gather import Request
from bootstrap.growing import in_order, initial_clusters
from bootstrap.joining import Invitation, Joined, Way, discover, gather_joining, vetted
from bootstrap.phases import etcd_join
from bootstrap.site import Node, Site
from bootstrap.spec import Cluster, Inventory, seconds
from bootstrap.transport.base import Host

_URLS = "kubeadm.kubernetes.io/etcd.advertise-client-urls"
_FROM = "kubelet-start"
"""The first phase of `join` that makes a difference to others than the machine itself."""


def join_control_planes(
    inventory: Inventory,
    invitation: Invitation,
    key: CertificateKey,
    request: Request,
    listener: Listener,
    warn: Callable[[Problem], None],
    way: Way,
) -> Joined:
    """Make the control-plane hosts of `inventory` part of the control plane of the cluster of `invitation`.

    `key` opens what was uploaded there for it, and `inventory` must say of the cluster what the cluster does. A host
    that fails before etcd gave it a vote is no member afterwards. Raises `HostsFailed` where a machine failed, and
    other `BootstrapError`s where nothing could be begun.
    """
    if not inventory.control_plane:
        raise ConfigError("the inventory has no host with the role control-plane")
    masters = request.machines(inventory, inventory.control_plane)
    workflow = request.phases(phases.JOIN)
    bundle = run.bundle_of(inventory)
    with connected(inventory, masters) as connections, way.lease("join") as lease:
        found, reached = discover(inventory, connections, invitation, listener)
        cluster, read = next(iter(found.values()))
        require_same(inventory.cluster, read.configuration)
        shared = _download(reached, cluster, invitation, key, inventory)
        request.secrets.learn(*shared.values())
        gathered = gather_joining(inventory, reached, request, warn, lease)
        failures = {**reached.failures, **gathered.failures, **_foreign(gathered.nodes, shared)}
        nodes = [_holding(node, shared) for node in gathered.nodes if node.name not in failures]
        if not nodes:
            raise HostsFailed(failures, [])
        now = datetime.datetime.now(datetime.UTC)
        files = kubeconfig.site_files(inventory.cluster, nodes, now, first="")
        request.secrets.learn(*(data for held in files.values() for data in held.values()))
        far = _Far(inventory, cluster, connections, files)
        with far.api(nodes[0].name) as api:
            failures |= vetted(api, nodes, cluster.ca, way)
        nodes = [node for node in nodes if node.name not in failures]
        site = Site(inventory.cluster, tuple(nodes), bundle.contents, files, lead=next((n.name for n in nodes), ""))
        work = _Work(request, listener, way, Means(connections.hosts, far.api, bundle.open, lease))
        at = next((index for index, phase in enumerate(workflow) if phase.name == _FROM), len(workflow))
        # etcd is asked from the machine that joins, which takes its certificate and kubectl there.
        done, failures = work.do(plan.build(workflow[:at], site, nodes=nodes), failures)
        nodes = [node for node in nodes if node.name not in failures]
        if nodes and workflow[at:]:
            with leases.held(lambda: far.api(nodes[0].name), lock.Owner.here("join"), work.waiting(nodes[0])) as held:
                etcd, enrolled = far.enrolment(nodes[0].name)
                site, nodes, refused = _enrolled(site, nodes, enrolled)
                todo = plan.build(workflow[at:], site, nodes=nodes, in_turn=True)
                work = replace(work, means=replace(work.means, etcd=etcd, change=held.check))
                done, failures = work.do(todo, failures | refused)
    if failures:
        raise HostsFailed(failures, done)
    return Joined(tuple(done))


@dataclass(frozen=True, slots=True)
class _Work:
    """How plans are done."""

    request: Request
    listener: Listener
    way: Way
    means: Means

    def do(
        self, todo: plan.Plan, failures: Mapping[str, BootstrapError]
    ) -> tuple[list[str], dict[str, BootstrapError]]:
        """Do a plan; give the hosts that are done, and why others are not, with `failures` from before."""
        self.request.secrets.learn(*todo.hidden)
        done, failed = run.worked(todo, self.means, self.way, self.listener, {})
        return done, {**failures, **failed}

    def waiting(self, node: Node) -> Callable[[str, float, float], None]:
        """Give what tells of a wait."""
        return lambda what, elapsed, limit: self.listener(
            Waiting(node.name, etcd_join.ETCD_JOIN.name, what, elapsed, limit)
        )


@dataclass(frozen=True, slots=True)
class _Far:
    """The cluster, as machines that join reach it."""

    inventory: Inventory
    cluster: Discovered
    connections: Connections
    files: Mapping[str, Mapping[str, bytes]]

    def api(self, name: str) -> Api:
        """Open a connection, from the host `name`, to the API server that the user named, with admin rights."""
        return Api.from_kubeconfig(
            self.connections.hosts[name],
            self.files[name][paths.ADMIN_CONF],
            address=self.cluster.address,
            port=self.cluster.port,
            seconds=seconds(self.inventory.cluster.timeouts.kubernetes_api_call),
        )

    def enrolment(self, name: str) -> tuple[Host, tuple[Member, ...]]:
        """Give a way to an etcd member that serves, from the host `name`, and the members as a majority knows them.

        Their addresses are those by which kubeadm finds them (`util/etcd`). Raises `EtcdUnfit` where none answers.
        """
        with self.api(name) as api:
            pods = api.list("v1", "Pod", "kube-system", labels="component=etcd,tier=control-plane")
        told = [(pod["metadata"].get("annotations") or {}).get(_URLS, "") for pod in pods]
        failures = []
        for url in [url for urls in told for url in urls.split(",") if url]:
            member = asking.Elsewhere(self.connections.hosts[name], url)
            try:
                return member, learners.enrolled(member)
            except HostError as error:
                failures.append(f"{url}: {error.what}")
        why = failures or [f"no Pod of etcd tells its address ({_URLS})"]
        raise EtcdUnfit(f"no member of etcd can be asked from {name}; nothing was done to etcd", why)


def require_same(cluster: Cluster, configuration: Mapping[str, Any]) -> None:
    """See that an inventory says of the cluster what its ClusterConfiguration does. Raises `ConfigError` with all."""
    wrong = [
        f"  {field}: {ours!r}, and the cluster has {theirs!r}"
        for field, ours, theirs in _compared(cluster, configuration)
        if ours != theirs
    ]
    if (configuration.get("etcd") or {}).get("external"):
        wrong.append("  cluster.etcd: the cluster's etcd is an external one")
    if cluster.endpoint.kind == "vip":
        wrong.append("  cluster.endpoint.kind: who holds a virtual address must know all the others: use external")
    if wrong:
        raise ConfigError("\n".join(["a control plane must be as the others are; the inventory is not:", *wrong]))


def _compared(cluster: Cluster, configuration: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    networking = configuration.get("networking") or {}
    endpoint = str(configuration.get("controlPlaneEndpoint") or "none, and can have no second control plane")
    if ":" not in endpoint.rpartition("]")[2]:
        endpoint = f"{endpoint}:6443" if configuration.get("controlPlaneEndpoint") else endpoint
    network = cluster.networking
    yield "cluster.name", cluster.name, str(configuration.get("clusterName") or "kubernetes")
    yield "cluster.endpoint", cluster.control_plane_endpoint, endpoint
    version = str(configuration.get("kubernetesVersion", "")).removeprefix("v")
    yield "cluster.kubernetesVersion", cluster.kubernetes_version, version
    yield "cluster.networking.dnsDomain", network.dns_domain, str(networking.get("dnsDomain") or "cluster.local")
    services = str(networking.get("serviceSubnet") or "10.96.0.0/12")
    yield "cluster.networking.serviceSubnet", str(network.service_subnet), services
    if pods := networking.get("podSubnet"):
        yield "cluster.networking.podSubnet", str(network.pod_subnet), str(pods)
    folder = str(configuration.get("certificatesDir") or paths.PKI)
    yield "the folder of certificates, which cannot be chosen", paths.PKI, folder


def _download(
    reached: Connections, cluster: Discovered, invitation: Invitation, key: CertificateKey, inventory: Inventory
) -> Mapping[str, bytes]:
    """Give what control planes share. Raises `ConfigError` where it is not what the token led to."""
    host = next(iter(reached.hosts.values()))
    limit = seconds(inventory.cluster.timeouts.kubernetes_api_call)
    with connect(host, cluster, invitation.token, seconds=limit) as api:
        shared = uploading.download(api, key)
    if shared.get(f"{paths.PKI}/ca.crt", b"").strip() != cluster.ca.strip():
        raise ConfigError("what was uploaded to the cluster is of another CA than the cluster's: upload anew")
    return shared


def _holding(node: Node, shared: Mapping[str, bytes]) -> Node:
    return replace(node, facts=replace(node.facts, files={**shared, **node.facts.files}))


def _foreign(nodes: Sequence[Node], shared: Mapping[str, bytes]) -> dict[str, BootstrapError]:
    """Find hosts that hold something else than what the control plane shares."""
    wrong: dict[str, BootstrapError] = {}
    for node in nodes:
        held = node.facts.files
        others = [path for path, data in shared.items() if held.get(path, data).strip() != data.strip()]
        if others:
            what = (
                f"{', '.join(others)} is not that of the cluster: the machine belongs to another, reset it there first"
            )
            wrong[node.name] = HostError(node.name, what)
    return wrong


def _enrolled(
    site: Site, nodes: Sequence[Node], enrolled: Sequence[Member]
) -> tuple[Site, list[Node], dict[str, BootstrapError]]:
    """Give the site that knows etcd's members, the hosts in the order in which they join, and who cannot."""
    known = {member.name: member for member in enrolled}
    refused: dict[str, BootstrapError] = {}
    lost: dict[str, int] = {}
    for node in nodes:
        member = known.get(node.name)
        if member is None and node.facts.etcd_data:
            what = f"{site.cluster.etcd.local.data_dir} holds data of a member that etcd does not have: reset it first"
            refused[node.name] = HostError(node.name, what)
        elif member is not None and members.has_lost_data(member, node):
            lost[node.name] = member.id
    going = in_order([node for node in nodes if node.name not in refused], enrolled)
    initial = initial_clusters(going, going, enrolled, lost)
    return replace(site, nodes=tuple(going), initial_clusters=initial, lost=lost), going, refused
