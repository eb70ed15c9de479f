"""The kubelet: installed, configured and started on every host (kubeadm: phases/kubelet, cmd/phases/join)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from bootstrap import diagnosis, paths
from bootstrap.patching import KUBELET as PATCHED
from bootstrap.phases.patched import patched
from bootstrap.phases.runtime import server
from bootstrap.phases.static_pods import flags
from bootstrap.render import merge, render, to_yaml
from bootstrap.steps import Absent, Binary, Command, Directory, Fallback, File, Link, Step, Unit, Wait

if TYPE_CHECKING:
    from bootstrap.site import Joining, Node, Site, Token
    from bootstrap.spec import Cluster, Host

KUBELET = f"{paths.BINARIES}/kubelet"
KUBECTL = f"{paths.BINARIES}/kubectl"
SETTINGS = (paths.KUBELET_CONFIG, paths.KUBELET_INSTANCE_CONFIG, paths.KUBELET_FLAGS)
"""Files by which a kubelet is told how to run: those that the inventory's settings are in."""
_CA = f"{paths.PKI}/ca.crt"
_RESOLVED = "/run/systemd/resolve/resolv.conf"
# Only a kubelet that registers its Node heeds them; one that has is served by the phases mark-*.
_UNHEEDED = '--(node-labels|register-with-taints)=[^ "]*'
_LOG = "journalctl --unit kubelet --lines 20 --no-pager --output cat"


NOTICED_SECONDS = 60
"""How long after a manifest's change its Pod may be the former one: kubelets read the folder again every 20 s
(`fileCheckFrequency`), whatever became of their notices, and give a Pod 30 s to end. A manifest that changed in no
field keeps its Pod."""

CURRENT = f"""
for component in $components; do
    changed=$(stat -c %Y -- "$manifests/$component.yaml" 2>/dev/null) || continue
    changed=$(($(date +%s) - changed))
    if [ "$changed" -lt 0 ] || [ "$changed" -ge {NOTICED_SECONDS} ]; then continue; fi
    containers "$component" | awk '$2 == 0 {{ found = 1 }} END {{ exit !found }}' ||
        {{ echo "$component does not run from its manifest of $changed s ago yet"; exit 1; }}
done"""
"""sh that exits 1 while a component's container is not yet the one that its manifest asks for (`diagnosis.until`):
a former Pod may answer, well and steady, until the kubelet notices."""


@dataclass(frozen=True, slots=True)
class UnitFile:
    """Fields of templates/kubelet/kubelet.service.j2 and 10-kubeadm.conf.j2."""

    binaries: str = paths.BINARIES
    bootstrap_kubeconfig: str = paths.BOOTSTRAP_KUBELET_CONF
    kubeconfig: str = paths.KUBELET_CONF
    config: str = paths.KUBELET_CONFIG
    flags: str = paths.KUBELET_FLAGS


def cluster_config(cluster: Cluster) -> dict[str, Any]:
    """Give the KubeletConfiguration that all kubelets share: kubeadm's defaults, the inventory's put upon them."""
    ours = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": _CA},
        },
        "authorization": {"mode": "Webhook"},
        "cgroupDriver": "systemd",
        "clusterDNS": [cluster.networking.service_address(10)],
        "clusterDomain": cluster.networking.dns_domain,
        "healthzBindAddress": "127.0.0.1",
        "healthzPort": 10248,
        # Nobody would sign what it asks for.
        "rotateCertificates": not cluster.ca_directory,
        "staticPodPath": paths.MANIFESTS,
    }
    return merge(ours, cluster.kubelet.config)


def node_config(shared: Mapping[str, Any], cluster: Cluster, node: Node) -> dict[str, Any]:
    """Give a node's own KubeletConfiguration: what is shared, what its machine needs, what the inventory has for it.

    Raises `PatchesRefused`.
    """
    # Node-local, so never part of what is uploaded (kubeadm: componentconfigs/kubelet.go, Mutate).
    own = {"resolvConf": _RESOLVED} if node.facts.resolved and "resolvConf" not in shared else {}
    endpoint = {"containerRuntimeEndpoint": paths.CONTAINERD_SOCKET}
    config = merge(merge(merge(shared, own), endpoint), node.host.kubelet.config)
    return patched(config, PATCHED, cluster, node.host)


def host_config(cluster: Cluster, host: Host, shared: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Give what a host's kubelet is told, but for what only its machine knows. Raises `PatchesRefused`."""
    wanted = merge(shared or cluster_config(cluster), {"containerRuntimeEndpoint": paths.CONTAINERD_SOCKET})
    wanted = merge(wanted, host.kubelet.config)
    config = patched({"resolvConf": _RESOLVED, **wanted}, PATCHED, cluster, host)
    if "resolvConf" not in wanted and config.get("resolvConf") == _RESOLVED:
        del config["resolvConf"]
    return config


def environment(site: Site, node: Node, *, register: bool) -> str:
    """Give the contents of kubeadm-flags.env: the flags of this node alone.

    With `register`, the kubelet itself gives its Node the taints, from its first moment. The node's address is told
    always, as the inventory names it and a machine may have several.
    """
    from bootstrap.values import kubelet_may_set

    defaults = {"node-ip": node.address}
    labels = [f"{key}={value}" for key, value in sorted(node.host.labels.items()) if kubelet_may_set(key)]
    if labels and not node.host.is_etcd:
        defaults["node-labels"] = ",".join(labels)
    if register and node.host.registration_taints:
        defaults["register-with-taints"] = ",".join(map(str, node.host.registration_taints))
    if node.name != node.facts.hostname:
        defaults["hostname-override"] = node.name
    own = {argument.name for argument in node.host.kubelet.extra_args}
    shared = [argument for argument in site.cluster.kubelet.extra_args if argument.name not in own]
    arguments = flags(defaults, [*shared, *node.host.kubelet.extra_args])
    line = " ".join(f"--{name}={value}" for name, value in arguments)
    return f"KUBELET_KUBEADM_ARGS={json.dumps(line, ensure_ascii=False)}\n"


def standalone_config(cluster: Cluster, node: Node) -> dict[str, Any]:
    """Give the KubeletConfiguration of a machine of etcd's own: static Pods alone, no API server, nobody may ask it.

    As kubeadm's documentation has it (Set up a High Availability etcd cluster with kubeadm), but that it does not
    even listen, as nobody has business there.
    """
    # What takes an API server to be asked for is left out; what the inventory has for this very host is kept.
    shared = merge(
        cluster_config(cluster),
        {
            "authentication": {"webhook": {"enabled": False}, "x509": None},
            "authorization": {"mode": "AlwaysAllow", "webhook": None},
            "clusterDNS": None,
            "clusterDomain": None,
            "enableServer": False,
            "rotateCertificates": None,
            "serverTLSBootstrap": None,
        },
    )
    return node_config(shared, cluster, node)


def install_steps(site: Site, node: Node) -> Iterator[Step]:
    """Install the kubelet, its unit and kubectl; it is started later."""
    for binary in site.contents.binaries:
        if binary.path in {KUBELET, KUBECTL}:
            yield Binary(binary.path, binary.digest, binary.size, server=server(site))
    yield Directory(paths.KUBELET_DROP_IN.rpartition("/")[0])
    yield File(paths.KUBELET_UNIT, render("kubelet/kubelet.service.j2", UnitFile()).encode())
    unit = UnitFile(bootstrap_kubeconfig="", kubeconfig="") if node.host.is_etcd else UnitFile()
    yield File(paths.KUBELET_DROP_IN, render("kubelet/10-kubeadm.conf.j2", unit).encode())
    yield Directory(paths.MANIFESTS, mode=0o700)
    yield Directory(paths.KUBELET, mode=0o700)


def start_steps(site: Site, node: Node) -> Iterator[Step]:
    """Configure and start the kubelet, which starts the static Pods."""
    if node.host.is_etcd:
        yield from _configured(site, node, standalone_config(site.cluster, node), register=False)
        yield unit()
        return
    yield from _configured(site, node, node_config(cluster_config(site.cluster), site.cluster, node), register=False)
    # One that runs keeps the certificate that it began with, and stores none.
    yield _stopped("no kubelet without the file of its certificate")
    yield unit()


def join_steps(site: Site, node: Node) -> Iterator[Step]:
    """Configure and start the kubelet; a worker's asks the cluster for a certificate with the bootstrap token."""
    if node.host.is_control_plane:
        yield from start_steps(site, node)
        return
    joining = _joining(site)
    yield Directory(paths.PKI)
    yield File(_CA, joining.ca)
    if site.cluster.ca_directory:
        yield from issued_steps(site, node)
        yield File(paths.KUBELET_CONF, site.files[node.name][paths.KUBELET_CONF], mode=0o600, secret=True)
    else:
        data = _bootstrap_kubeconfig(joining.server, joining.ca, joining.token)
        # Not unless kubelet.conf is there: the kubelet writes that one when it starts, before it has a certificate.
        yield File(paths.BOOTSTRAP_KUBELET_CONF, data, mode=0o600, secret=True, unless=paths.KUBELET_CLIENT_CERT)
    yield from _configured(site, node, node_config(joining.kubelet_config, site.cluster, node), register=True)
    # A run whose token did not do is followed by one with another, which only a kubelet started anew reads.
    yield _stopped("no kubelet with another token")
    yield unit()


def fallback(site: Site, node: Node) -> Fallback:
    """Give what a worker goes back to where its kubelet does not answer: the settings that it ran with."""
    from bootstrap.spec import seconds

    asked = answers(site.cluster, node, _joining(site).kubelet_config)
    return Fallback(
        SETTINGS,
        well=diagnosis.until(asked or "systemctl is-active kubelet.service || exit 1", ()),
        seconds=seconds(site.cluster.timeouts.node_ready),
        unit=unit(),
    )


def issued_steps(site: Site, node: Node) -> Iterator[Step]:
    """Put the kubelet's certificate where its own would be, where nobody in the cluster signs one.

    A kubelet that runs takes a new one from there by itself (client-go reloads such files).
    """
    yield Directory(paths.KUBELET, mode=0o700)
    yield Directory(paths.KUBELET_CLIENT_ISSUED.rpartition("/")[0])
    data = site.files[node.name][paths.KUBELET_CLIENT_ISSUED]
    yield File(paths.KUBELET_CLIENT_ISSUED, data, mode=0o600, secret=True)
    # A link, as the kubelet makes it: it would refuse to go on with a file there, were it told to rotate again.
    yield Link(paths.KUBELET_CLIENT_CERT, paths.KUBELET_CLIENT_ISSUED)


def wait_bootstrap_steps(site: Site, node: Node) -> Iterator[Step]:
    """Wait until the kubelet answers, has a certificate of its own and its Node is Ready."""
    from bootstrap.spec import seconds

    timeouts = site.cluster.timeouts
    former = fallback(site, node)
    # A Node stays Ready for a while after its kubelet has gone.
    if asked := answers(site.cluster, node, _joining(site).kubelet_config):
        yield Wait(
            "the kubelet to answer",
            until=diagnosis.until(asked, ()),
            seconds=seconds(timeouts.kubelet_health_check),
            explain=diagnosis.explain(()),
            evidence=True,
            fallback=former,
        )
    yield Wait(
        "the kubelet to get its certificate",
        until=diagnosis.until(
            "".join(
                f'[ -s {path} ] || {{ echo "the kubelet has not written {path}"; exit 1; }}\n'
                for path in (paths.KUBELET_CONF, paths.KUBELET_CLIENT_CERT)
            ),
            (),
        ),
        seconds=seconds(timeouts.tls_bootstrap),
        explain=diagnosis.explain(()),
        evidence=True,
    )
    yield Absent(paths.BOOTSTRAP_KUBELET_CONF)
    yield Wait(
        f"Node {node.name} to be Ready",
        until=diagnosis.until(_ready(node.name), ()),
        seconds=seconds(timeouts.node_ready),
        explain=diagnosis.explain(()),
        evidence=True,
        fallback=former,
        last=True,
    )


def finalize_steps(site: Site, node: Node) -> Iterator[Step]:
    """Point the kubelet's kubeconfig to the certificate that it renews by itself."""
    from bootstrap.kubeconfig import kubelet_finalized
    from bootstrap.spec import seconds

    yield Wait(
        "the kubelet to store its certificate",
        until=f'[ -e {paths.KUBELET_CLIENT_CERT} ] || {{ echo "there is no {paths.KUBELET_CLIENT_CERT}"; exit 1; }}',
        seconds=seconds(site.cluster.timeouts.tls_bootstrap),
        explain=_LOG,
    )
    # kubeadm restarts the kubelet here. It need not: a running one renews from that file already
    # (kubelet/app/server.go, buildClientCertificateManager), and reads its kubeconfig when it is next started.
    data = kubelet_finalized(site.cluster, node, site.files[node.name][_CA])
    yield File(paths.KUBELET_CONF, data, mode=0o600, secret=True)


def _joining(site: Site) -> Joining:
    if site.joining is None:
        raise ValueError("a join is planned for a site that does not say what is joined")
    return site.joining


@lru_cache(maxsize=1)  # the same for every host that joins, of which there may be thousands
def _bootstrap_kubeconfig(server: str, ca: bytes, token: Token) -> bytes:
    from bootstrap.kubeconfig import bootstrap_kubelet

    return bootstrap_kubelet(server, ca, token)


def _configured(site: Site, node: Node, config: Mapping[str, Any], *, register: bool) -> Iterator[Step]:
    yield Directory(paths.KUBELET, mode=0o700)
    instance = f"containerRuntimeEndpoint: {json.dumps(config['containerRuntimeEndpoint'])}\n"
    yield File(paths.KUBELET_INSTANCE_CONFIG, instance.encode())
    yield File(paths.KUBELET_CONFIG, to_yaml(dict(config)).encode())
    yield File(paths.KUBELET_FLAGS, environment(site, node, register=register).encode())


def _stopped(name: str) -> Command:
    """Stop a kubelet that has stored no certificate, so that it begins anew."""
    return Command(
        name,
        unless=f"[ -e {paths.KUBELET_CLIENT_CERT} ] || ! systemctl --quiet is-active kubelet.service",
        run="systemctl stop kubelet.service",
    )


def unit() -> Unit:
    """Give the kubelet's unit: one that runs is started anew where anything changed that it heeds."""
    uses = (KUBELET, paths.KUBELET_UNIT, paths.KUBELET_DROP_IN, paths.KUBELET_CONFIG, paths.KUBELET_FLAGS)
    return Unit("kubelet.service", uses, _UNHEEDED)


def answers(cluster: Cluster, node: Node, shared: Mapping[str, Any] | None = None) -> str:
    """Give sh that exits 1 where the kubelet does not answer, and says so; empty where it has no port for that."""
    config = host_config(cluster, node.host, shared)
    port = config.get("healthzPort", 10248)  # the kubelet's own defaults, where a patch took ours away
    if not port:
        return ""
    url = f"http://{config.get('healthzBindAddress', '127.0.0.1')}:{port}/healthz"
    return answer("kubelet", url, "--kubeconfig /dev/null")


def answer(name: str, url: str, how: str) -> str:
    """Give sh that exits 1 where `url` on this machine does not answer kubectl with `how`, and says it of `name`."""
    # kubectl, as it is there while curl may not be; --raw asks just this path.
    path = _path(url)
    asked = f"{KUBECTL} {how} --server {url.removesuffix(path)} --request-timeout 5s get --raw {path}"
    return f"""
{listens(name, url)}
answer=$({asked} 2>&1) || {{ echo "{name} does not answer {path}: $answer"; exit 1; }}"""


def listens(name: str, url: str) -> str:
    """Give sh that exits 1 where nothing on this machine listens on the port of `url`, and says it of `name`."""
    # A kubectl would only take the processors from what is being started.
    path = _path(url)
    port = int(url.removesuffix(path).rpartition(":")[2])
    held = f"grep -q -s ':{port:04X} [0-9A-F]*:0000 0A' /proc/net/tcp /proc/net/tcp6"
    return f'{held} || {{ echo "{name} does not answer {path}: nothing listens on port {port}"; exit 1; }}'


def _path(url: str) -> str:
    return url[url.index("/", len("https://")) :]


def _ready(name: str) -> str:
    # One kubectl that is told of every change, rather than many of them. With --raw it asks just this,
    # and leaves no cache behind. Each answer is JSON on one line.
    path = f"/api/v1/nodes?fieldSelector=metadata.name%3D{name}&watch=true&timeoutSeconds=5"
    return f"""
{{
    {KUBECTL} --kubeconfig {paths.KUBELET_CONF} --request-timeout 10s get --raw '{path}' 2>&1 &
    echo $! >"$0.pid"
    wait
}} | {{
    ready='the Node has no condition Ready yet'
    while IFS= read -r line; do
        case $line in
            *'{{"type":"Ready",'*) ready=${{line##*'{{"type":"Ready",'}} && ready=${{ready%%\\}}*}} ;;
            '{{'*) ;;
            *) ready=$line ;;
        esac
        case $ready in '"status":"True"'*) break ;; esac
    done
    kill "$(cat "$0.pid")" 2>/dev/null
    case $ready in
        '"status":"True"'*) exit 0 ;;
        *'"message":"'*) ready=${{ready##*'"message":"'}} && ready=${{ready%'"'}} ;;
    esac
    echo "$ready"
    exit 1
}}
"""
