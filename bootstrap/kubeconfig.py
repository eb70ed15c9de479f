"""kubeconfig files: kubeadm's five on the control plane, the one a worker begins with, and the operator's copy.

kubeadm-facts section 5; `phases/kubeconfig/kubeconfig.go`. Nothing here does I/O; equal inputs give equal bytes.
"""

from __future__ import annotations

import base64
import binascii
import datetime
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

import yaml

from bootstrap import paths, pki
from bootstrap.errors import ConfigError, PkiRefused
from bootstrap.site import Node, Token
from bootstrap.spec import Cluster, seconds

BOOTSTRAP_USER = "tls-bootstrap-token-user"
RENEWED_BEFORE = datetime.timedelta(days=30)
"""How long before its end a kubelet's certificate is issued anew that only the operator's CA can sign."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the table: one file, whom it is for, and which server it asks."""

    path: str
    common_name: Callable[[Node], str]
    organization: str
    server: Literal["endpoint", "own"]
    first_only: bool = False  # kubeadm's init makes it, its join does not


def _named(name: str) -> Callable[[Node], str]:
    return lambda _node: name


ROWS = (
    Row(paths.ADMIN_CONF, _named("kubernetes-admin"), "kubeadm:cluster-admins", "endpoint"),
    Row(paths.SUPER_ADMIN_CONF, _named("kubernetes-super-admin"), "system:masters", "endpoint", first_only=True),
    Row(paths.KUBELET_CONF, lambda node: f"system:node:{node.name}", "system:nodes", "own"),
    Row(paths.CONTROLLER_MANAGER_CONF, _named("system:kube-controller-manager"), "", "own"),
    Row(paths.SCHEDULER_CONF, _named("system:kube-scheduler"), "", "own"),
)


@dataclass(frozen=True, slots=True)
class Kubeconfig:
    """What the current context of a kubeconfig gives: the server and how to call it. Embedded data only."""

    server: str  # https://NAME:PORT
    ca: bytes
    certificate: bytes = b""
    key: bytes = b""
    token: str = ""
    certificate_file: str = ""
    key_file: str = ""

    def __repr__(self) -> str:
        """Tell the server alone: the rest is secret."""
        return f"Kubeconfig({self.server!r})"

    @property
    def name(self) -> str:
        """The host name or address of the server."""
        return urlsplit(self.server).hostname or ""

    @property
    def port(self) -> int:
        """The port of the server."""
        return urlsplit(self.server).port or 443


def site_files(
    cluster: Cluster,
    nodes: Sequence[Node],
    now: datetime.datetime,
    *,
    first: str | None = None,
    kept: Mapping[str, bytes] | None = None,
    stacked: bool = True,
    given: Mapping[str, bytes] | None = None,
) -> Mapping[str, Mapping[str, bytes]]:
    """Give the PKI files and the kubeconfigs of each control-plane host, by host name and absolute path.

    With `stacked` etcd is on the control plane's hosts, else those of its own have their PKI files here, too. `given`
    are the files of an external etcd, the same for each control plane.

    To be written in this order (`pki.complete` says why). A kubeconfig that a host holds is kept, byte for byte,
    where it names the wanted server and this cluster's CA, and its certificate is good or is the kubelet's own;
    else it is made anew, which loses nothing that our CA could not give again. What one host alone is given, is
    given to `first`, by default the first of `nodes`; to nobody, where that is empty. Where the operator keeps the
    keys of the CAs, they are in `kept` (`pki.operators`), and kubelets get their certificates here, as
    `kubelet_files` says.

    Raises `PkiRefused` with every problem of the whole PKI.
    """
    gathered = pki.gather(cluster, nodes, now, kept=kept, stacked=stacked)
    masters = [node for node in nodes if node.host.is_control_plane]
    authority = gathered.authorities.get("ca")
    for node in masters:
        gathered.files[node.name] |= given or {}
    chosen = masters[0].name if first is None and masters else first
    for node in masters if authority else ():
        assert authority is not None
        for row in ROWS:
            if row.first_only and node.name != chosen and row.path not in node.facts.files:
                continue
            if row.path == paths.KUBELET_CONF and cluster.ca_directory:
                issued = _kubelet_files(cluster, node, authority, now, own_server(cluster, node))
                gathered.files[node.name] |= issued
                if not issued:
                    gathered.problems.append(pki.unsigned(cluster, node.name, paths.KUBELET_CLIENT_ISSUED, "ca"))
                continue
            held = node.facts.files.get(row.path)
            if held is not None and _is_good(held, row, cluster, node, authority, now):
                gathered.files[node.name][row.path] = held
            elif authority.key is None:
                gathered.problems.append(pki.unsigned(cluster, node.name, row.path, "ca"))
            else:
                gathered.files[node.name][row.path] = _make(row, cluster, node, authority, now)
    if gathered.problems:
        raise PkiRefused(gathered.problems)
    return gathered.files


def kubelet_files(
    cluster: Cluster, nodes: Sequence[Node], ca: bytes, kept: Mapping[str, bytes], now: datetime.datetime
) -> Mapping[str, Mapping[str, bytes]]:
    """Give workers their kubelets' certificates and kubeconfigs, by host and path, where the operator keeps the CAs.

    Nobody in the cluster could sign what a kubelet asks for. The certificate that a worker holds is kept until
    `RENEWED_BEFORE` its end, or a third of its time where that is shorter. `ca` is the cluster's certificate, and its
    key is in `kept`. Raises `PkiRefused`.
    """
    authority = pki.authority("ca", ca, kept)
    server = endpoint(cluster)
    files = {node.name: _kubelet_files(cluster, node, authority, now, server) for node in nodes}
    lacking = [name for name, issued in files.items() if not issued]
    if lacking:
        raise PkiRefused([pki.unsigned(cluster, name, paths.KUBELET_CLIENT_ISSUED, "ca") for name in lacking])
    return files


def _kubelet_files(
    cluster: Cluster, node: Node, authority: pki.Authority, now: datetime.datetime, server: str
) -> dict[str, bytes]:
    subject = pki.Subject(f"system:node:{node.name}", ("client",), "system:nodes")
    held = node.facts.files.get(paths.KUBELET_CLIENT_ISSUED, b"")
    certificate, key = pki.read_certificate(held), pki.read_key(held)
    renewal = min(RENEWED_BEFORE, datetime.timedelta(seconds=seconds(cluster.certificate_validity_period)) / 3)
    good = (
        certificate is not None
        and key is not None
        and pki.matches(key, certificate)
        and pki.signed_by(certificate, authority.certificate)
        and pki.covers(certificate, subject, now + renewal)
    )
    if not good:
        if authority.key is None:
            return {}
        new = pki.new_key(cluster.encryption_algorithm)
        held = pki.certificate_pem(pki.issue(subject, new, authority, cluster, now)) + pki.key_pem(new)
    return {
        paths.KUBELET_CLIENT_ISSUED: held,
        paths.KUBELET_CONF: kubelet_finalized(cluster, node, authority.pem, server=server),
    }


def own_server(cluster: Cluster, node: Node) -> str:
    """Give the URL of a control-plane node's own API server."""
    address = f"[{node.address}]" if ":" in node.address else node.address
    return f"https://{address}:{cluster.bind_port}"


def endpoint(cluster: Cluster) -> str:
    """Give the URL under which every client finds the API server."""
    return f"https://{cluster.control_plane_endpoint}"


def bootstrap_kubelet(server: str, ca: bytes, token: Token) -> bytes:
    """Give bootstrap-kubelet.conf, with which a joining kubelet asks for its certificate (as kubeadm's join)."""
    return _dump("kubernetes", server, ca, BOOTSTRAP_USER, {"token": str(token)})


def kubelet_finalized(cluster: Cluster, node: Node, ca: bytes, *, server: str = "") -> bytes:
    """Give the kubelet.conf that points to the certificate in the kubelet's own folder, current at any time.

    It asks the node's own API server (kubeadm's phase `kubelet-finalize`), or `server` where one is given.
    """
    user = {"client-certificate": paths.KUBELET_CLIENT_CERT, "client-key": paths.KUBELET_CLIENT_CERT}
    return _dump(cluster.name, server or own_server(cluster, node), ca, f"system:node:{node.name}", user)


def for_operator(admin_conf: bytes, name: str, *, server: str | None = None) -> bytes:
    """Give admin.conf for use beside other clusters': cluster, user and context are called by the cluster's `name`.

    With `server` it asks that URL. Raises `ConfigError` for what is no kubeconfig.
    """
    config = parse(admin_conf, "admin.conf")
    user = {"client-certificate-data": _encode(config.certificate), "client-key-data": _encode(config.key)}
    return _dump(name, server or config.server, config.ca, name, user, context=name)


def merge(existing: bytes, new: bytes, *, source: str = "the kubeconfig") -> bytes:
    """Put the entries of `new` into `existing`: those of the same names are replaced, all others stay.

    The current context becomes that of `new`. Raises `ConfigError` (`source` names the file) for what cannot be read.
    """
    if not existing.strip():
        return new
    merged, added = _load(existing, source), _load(new, "the new kubeconfig")
    for kind in ("clusters", "contexts", "users"):
        names = {entry["name"] for entry in added[kind]}
        merged[kind] = [entry for entry in merged[kind] if entry["name"] not in names] + added[kind]
    merged["current-context"] = added["current-context"]
    return _yaml(merged)


def parse(data: bytes, source: str) -> Kubeconfig:
    """Read the current context of a kubeconfig. Raises `ConfigError`, naming `source`."""
    config = _load(data, source)
    try:
        context = _entry(config, "contexts", config.get("current-context", ""))["context"]
        cluster = _entry(config, "clusters", context["cluster"])["cluster"]
        user = _entry(config, "users", context["user"])["user"] or {}
        return Kubeconfig(
            server=str(cluster["server"]),
            ca=_decode(cluster.get("certificate-authority-data")),
            certificate=_decode(user.get("client-certificate-data")),
            key=_decode(user.get("client-key-data")),
            token=str(user.get("token", "")),
            certificate_file=str(user.get("client-certificate", "")),
            key_file=str(user.get("client-key", "")),
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ConfigError(f"{source}: its current context does not name a cluster and a user that are there") from error


def _make(row: Row, cluster: Cluster, node: Node, authority: pki.Authority, now: datetime.datetime) -> bytes:
    key = pki.new_key(cluster.encryption_algorithm)
    certificate = pki.issue(_subject(row, node), key, authority, cluster, now)
    user = {
        "client-certificate-data": _encode(pki.certificate_pem(certificate)),
        "client-key-data": _encode(pki.key_pem(key)),
    }
    return _dump(cluster.name, _server(row, cluster, node), authority.pem, row.common_name(node), user)


def _is_good(
    held: bytes, row: Row, cluster: Cluster, node: Node, authority: pki.Authority, now: datetime.datetime
) -> bool:
    try:
        config = parse(held, row.path)
    except ConfigError:
        return False
    ca = pki.read_certificate(config.ca)
    if config.server != _server(row, cluster, node) or ca != authority.certificate:
        return False
    if row.path == paths.KUBELET_CONF and config.certificate_file:
        # Without what it points to it is worth nothing; a new one has a certificate in it.
        return config.certificate_file == config.key_file == paths.KUBELET_CLIENT_CERT and node.facts.bootstrapped
    certificate, key = pki.read_certificate(config.certificate), pki.read_key(config.key)
    return (
        certificate is not None
        and key is not None
        and pki.matches(key, certificate)
        and pki.signed_by(certificate, authority.certificate)
        and pki.covers(certificate, _subject(row, node), now)
    )


def _subject(row: Row, node: Node) -> pki.Subject:
    return pki.Subject(row.common_name(node), ("client",), row.organization)


def _server(row: Row, cluster: Cluster, node: Node) -> str:
    return endpoint(cluster) if row.server == "endpoint" else own_server(cluster, node)


def _dump(
    cluster: str, server: str, ca: bytes, user_name: str, user: Mapping[str, str], *, context: str | None = None
) -> bytes:
    name = context or f"{user_name}@{cluster}"
    return _yaml(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": cluster, "cluster": {"certificate-authority-data": _encode(ca), "server": server}}],
            "contexts": [{"name": name, "context": {"cluster": cluster, "user": user_name}}],
            "current-context": name,
            "users": [{"name": user_name, "user": dict(user)}],
        }
    )


def _yaml(value: object) -> bytes:
    return yaml.safe_dump(value, width=2**20, allow_unicode=True, encoding="utf-8")


def _load(data: bytes, source: str) -> dict[str, Any]:
    refused = f"{source} is not a kubeconfig; it was left as it is: repair it or move it away"
    try:
        config = yaml.safe_load(data)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(refused) from error
    if not isinstance(config, dict) or config.get("kind", "Config") != "Config":
        raise ConfigError(refused)
    for kind in ("clusters", "contexts", "users"):
        entries = config.get(kind) or []
        if not isinstance(entries, list) or not all(isinstance(entry, dict) and "name" in entry for entry in entries):
            raise ConfigError(refused)
        config[kind] = entries
    return config


def _entry(config: Mapping[str, Any], kind: str, name: str) -> Any:
    for entry in config[kind]:
        if entry["name"] == name:
            return entry
    raise KeyError(name)


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _decode(text: str | None) -> bytes:
    try:
        return base64.b64decode(text or "", validate=True)
    except binascii.Error as error:
        raise ValueError("not base64") from error
