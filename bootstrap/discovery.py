"""Getting to trust a cluster by a bootstrap token and the hash of its CA (kubeadm-facts section 11).

kubeadm's protocol (`discovery/token/token.go`), asked from the joining host's side of the network. Nothing on the
host is changed, and neither the token nor anything else secret is sent before the server has proved itself.
"""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import yaml

from bootstrap import tokens
from bootstrap.api import Api
from bootstrap.cluster import OnWait
from bootstrap.errors import (
    ApiError,
    ApiUnreachable,
    ApiUntrusted,
    CaHashWrong,
    CaMismatch,
    ClusterInfoUnusable,
    DiscoveryError,
    ServerUnreachable,
    SignatureWrong,
    TokenRefused,
    TokenUnknown,
    UsageError,
)
from bootstrap.site import Joining, Token
from bootstrap.transport.base import Host
from bootstrap.values import ip_address, is_dns_name

DEFAULT_PORT = 6443
REACH_SECONDS = 15.0
"""How long a server that does not answer is tried."""
SIGNATURE_SECONDS = 20.0
"""How long cluster-info may lack the token's signature: the controller-manager makes it after the token, at once."""
_STALE_SECONDS = 3.0  # a signature that does not fit may be that of the contents just replaced


@dataclass(frozen=True, slots=True)
class Discovered:
    """A cluster that proved to be the expected one. It was asked at `address` and `port`.

    `server` (https://NAME:PORT) and `ca` (PEM) are what it tells its nodes to use.
    """

    address: str
    port: int
    server: str
    ca: bytes


@dataclass(frozen=True, slots=True)
class Joined:
    """What a joining host reads with its token: `joining`, and kubeadm's ClusterConfiguration as it is."""

    joining: Joining
    configuration: Mapping[str, Any]

    @property
    def kubernetes_version(self) -> str:
        """The cluster's version, without v; empty where it tells none."""
        return str(self.configuration.get("kubernetesVersion", "")).removeprefix("v")


def parse_server(text: str) -> tuple[str, int]:
    """Read `NAME:PORT`, with or without https://; the port is 6443 where none is given. Raises `UsageError`."""
    bare = text.strip()
    try:
        if ip_address(bare) and ":" in bare:
            bare = f"[{bare}]"
        parts = urlsplit(bare if "://" in bare else f"https://{bare}")
        name, port = parts.hostname or "", parts.port or DEFAULT_PORT
        rest = parts.path.strip("/") or parts.query or parts.fragment or parts.username is not None
    except ValueError:
        name, port, rest = "", 0, True
    if rest or parts.scheme != "https" or not (is_dns_name(name) or ip_address(name)):
        raise UsageError(
            f"{text!r} is not the address of an API server; it must be a name or an IP address, a colon and a port, "
            "as in api.example.com:6443"
        )
    return name, port


def discover(
    host: Host,
    server: str,
    token: Token,
    ca_cert_hashes: Sequence[str],
    *,
    seconds: float = 300,
    signature_seconds: float = SIGNATURE_SECONDS,
    on_wait: OnWait = lambda _what, _elapsed, _limit: None,
) -> Discovered:
    """Ask `server`, from `host`, for its CA and its address, and believe it only where all of this holds.

    cluster-info is signed with the token (HS256); the CA in it has one of `ca_cert_hashes` (`sha256:<hex>`); the
    server's own certificate is signed by that CA, for the name it was called by; and it then says the same again.
    `seconds` limits each answer, and `signature_seconds` how long the token's signature may be missing.

    Raises `UsageError` for a malformed server or hash, before anything is sent, and else a `DiscoveryError`: one of
    `ServerUnreachable`, `ClusterInfoUnusable`, `TokenUnknown`, `SignatureWrong`, `CaHashWrong`, `CaMismatch`.
    """
    name, port = parse_server(server)
    wanted = [tokens.parse_ca_cert_hash(text) for text in ca_cert_hashes]
    if not wanted:
        raise UsageError("no hash of the cluster's CA is given; without one any server could pass for the cluster")
    where = f"[{name}]:{port}" if ":" in name else f"{name}:{port}"
    try:
        with Api.connect(host, name, port, server_name=name, ca=None, seconds=min(seconds, REACH_SECONDS)) as public:
            content = _signed_content(public, where, token, min(seconds, signature_seconds), on_wait)
        found = _read(host, where, content)
        hashes = _hashes(host, where, found[1])
        if not set(hashes) & set(wanted):
            raise CaHashWrong(
                host.name,
                f"the CA of the cluster at {where} has the hash {' '.join(hashes)}, which is none of those given "
                f"({' '.join(wanted)}): this is another cluster, or the hash is wrong; ask who runs the cluster",
            )
        address, ca = found
        with Api.connect(host, name, port, server_name=name, ca=ca, seconds=min(seconds, REACH_SECONDS)) as verified:
            data = _data(_cluster_info(verified))
    except ApiUnreachable as error:
        what = f"no API server can be reached from this host at {where}: {error.what}"
        raise ServerUnreachable(host.name, what) from error
    except ApiUntrusted as error:
        what = (
            f"the server at {where} does not hold a certificate for that name from the CA in its own cluster-info "
            f"({error.what}): somebody may be answering in its place, or the server is known by another name"
        )
        raise CaMismatch(host.name, what) from error
    if data.get("kubeconfig", "").encode() != content:
        raise ClusterInfoUnusable(host.name, f"cluster-info of {where} changed while it was read; try again")
    return Discovered(name, port, address, ca)


def connect(host: Host, discovered: Discovered, token: Token, *, seconds: float = 60) -> Api:
    """Make a client of the discovered cluster, with the token's rights."""
    return Api.connect(
        host,
        discovered.address,
        discovered.port,
        server_name=discovered.address,
        ca=discovered.ca,
        token=str(token),
        seconds=seconds,
    )


def read_cluster(api: Api, discovered: Discovered, token: Token) -> Joined:
    """Read what a joining host needs, with the token (`connect`).

    Raises `TokenRefused` where the cluster does not accept it, `ClusterInfoUnusable` where something is missing.
    """
    kubelet = _config(api, "kubelet-config", "kubelet")
    configuration = _config(api, "kubeadm-config", "ClusterConfiguration")
    networking = configuration.get("networking") or {}
    domain = networking.get("dnsDomain") or "cluster.local"
    return Joined(Joining(discovered.server, discovered.ca, token, kubelet, domain), configuration)


def _signed_content(api: Api, where: str, token: Token, seconds: float, on_wait: OnWait) -> bytes:
    """Give the bytes of cluster-info's kubeconfig once they bear the token's signature."""
    begun = time.monotonic()
    limit = seconds
    while True:
        content, problem = _check(api, where, token)
        if problem is None:
            return content
        elapsed = time.monotonic() - begun
        if isinstance(problem, SignatureWrong):
            limit = min(limit, elapsed + _STALE_SECONDS)
        if elapsed >= limit:
            raise problem
        on_wait(f"cluster-info signed for token {token.id}", elapsed, limit)
        time.sleep(min(1.0, 0.1 + elapsed / 4))


def _check(api: Api, where: str, token: Token) -> tuple[bytes, DiscoveryError | None]:
    host = api.host.name
    try:
        found = _cluster_info(api)
    except ApiError as error:
        if error.status not in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
            raise ClusterInfoUnusable(host, f"cluster-info cannot be read: {error}") from error
        what = f"the server at {where} lets nobody read cluster-info without credentials: it was not made for joining"
        return b"", ClusterInfoUnusable(host, f"{what} by token ({error})")
    if found is None:
        what = f"the server at {where} has no ConfigMap kube-public/cluster-info: it was not made for joining by token"
        return b"", ClusterInfoUnusable(host, what)
    data = _data(found)
    content = data.get("kubeconfig", "").encode()
    signature = data.get(f"{tokens.JWS_PREFIX}{token.id}")
    if not signature:
        what = f"the cluster at {where} knows no token {token.id}, or it has expired; make a new one"
        return b"", TokenUnknown(host, f"{what} (`kubestrap token create`)")
    if not tokens.verify(signature, content, token):
        what = f"what the server at {where} says was not signed with this token: its part after the dot is wrong,"
        return b"", SignatureWrong(host, f"{what} or the server is not the one that the token is for")
    return content, None


def _cluster_info(api: Api) -> dict[str, Any] | None:
    return api.get_object("v1", "ConfigMap", "cluster-info", "kube-public")


def _data(found: Mapping[str, Any] | None) -> Mapping[str, str]:
    return (found or {}).get("data") or {}


def _read(host: Host, where: str, content: bytes) -> tuple[str, bytes]:
    """Give server and CA of cluster-info's kubeconfig, which has one cluster and no context."""
    try:
        cluster = yaml.safe_load(content)["clusters"][0]["cluster"]
        return str(cluster["server"]), base64.b64decode(cluster["certificate-authority-data"], validate=True)
    except (yaml.YAMLError, LookupError, TypeError, binascii.Error) as error:
        raise ClusterInfoUnusable(host.name, f"cluster-info of {where} names no server with its CA") from error


def _hashes(host: Host, where: str, ca: bytes) -> list[str]:
    try:
        return tokens.ca_cert_hashes(ca)
    except ValueError as error:
        raise ClusterInfoUnusable(host.name, f"the CA in cluster-info of {where} is no certificate") from error


def _config(api: Api, name: str, key: str) -> Mapping[str, Any]:
    try:
        found = api.get_object("v1", "ConfigMap", name, "kube-system")
    except ApiError as error:
        host = api.host.name
        if error.status == HTTPStatus.UNAUTHORIZED:
            what = "the cluster does not accept the token for logging in: it has expired, was deleted, or was made"
            raise TokenRefused(host, f"{what} without the usage authentication ({error})") from error
        if error.status == HTTPStatus.FORBIDDEN:
            what = f"the token may not read ConfigMap {name}: it lacks the group {tokens.DEFAULT_GROUP}"
            raise TokenRefused(host, f"{what} ({error})") from error
        raise
    try:
        value = yaml.safe_load(_data(found)[key])
    except (KeyError, yaml.YAMLError):
        value = None
    if not isinstance(value, dict):
        raise ClusterInfoUnusable(api.host.name, f"the cluster has no usable ConfigMap kube-system/{name}")
    return value
